/** The page around the scene: the door, the bar, the list of people. All text goes in as text. */
import type { Status } from './connection.js';
import { colourOf } from './render.js';

export interface Person {
  id: string;
  name: string;
  /** Metres away on the floor; `null` for oneself. */
  distance: number | null;
}

export interface Actions {
  enter(name: string, room: string): void;
  leave(): void;
}

/** Nobody reads a longer list; the number above it is always right. */
const LISTED_MAX = 30;

/** How long a notice stays, in milliseconds. */
const NOTICE_MS = 6_000;

function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no #${id}`);
  return found as T;
}

export class Ui {
  readonly scene = element<HTMLCanvasElement>('scene');
  private readonly form = element<HTMLFormElement>('entry');
  private readonly name = element<HTMLInputElement>('name');
  private readonly room = element<HTMLInputElement>('room');
  private readonly enterButton = element<HTMLButtonElement>('enter');
  private readonly entryError = element('entry-error');
  private readonly statusLine = element('status');
  private readonly notice = element('notice');
  private readonly list = element('people-list');
  private noticeTimer: ReturnType<typeof setTimeout> | undefined;
  private countdown: ReturnType<typeof setInterval> | undefined;

  constructor(actions: Actions) {
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      const entry = this.readEntry();
      if (entry) actions.enter(entry.name, entry.room);
    });
    element('leave').addEventListener('click', () => actions.leave());
    element('copy').addEventListener('click', (event) => {
      void copyLink(event.currentTarget as HTMLButtonElement, this.room.value);
    });
  }

  /** Fills in the form. */
  prefill(name: string, room: string): void {
    this.name.value = name;
    this.room.value = room;
  }

  showDoor(error = ''): void {
    document.body.dataset.view = 'door';
    document.title = 'Copresence';
    this.entryError.textContent = error;
    this.setBusy(false);
    (this.name.value === '' ? this.name : this.enterButton).focus();
  }

  showRoom(room: string): void {
    document.body.dataset.view = 'room';
    document.title = `${room} · Copresence`;
    element('room-name').textContent = room;
    this.notice.textContent = '';
    this.scene.focus({ preventScroll: true });
  }

  showStatus(status: Status): void {
    clearInterval(this.countdown);
    this.statusLine.dataset.kind = status.kind;
    document.body.dataset.status = status.kind;
    this.statusLine.textContent = statusText(status);
    this.setBusy(status.kind === 'connecting');
    if (status.kind === 'restarting') {
      this.countdown = setInterval(() => {
        this.statusLine.textContent = statusText(status);
      }, 1_000);
    }
  }

  showNotice(message: string): void {
    this.notice.textContent = message;
    clearTimeout(this.noticeTimer);
    this.noticeTimer = setTimeout(() => {
      this.notice.textContent = '';
    }, NOTICE_MS);
  }

  /** `people` nearest first; `count` is everyone. */
  showPeople(people: Person[], count: number): void {
    element('people-count').textContent = String(count);
    element('people-label').textContent = count === 1 ? 'Person here' : 'People here';
    const shown = people.slice(0, LISTED_MAX);
    while (this.list.children.length > shown.length) this.list.lastElementChild?.remove();
    shown.forEach((person, index) => {
      const row = this.list.children[index] ?? this.list.appendChild(emptyRow());
      fillRow(row as HTMLElement, person);
    });
  }

  private readEntry(): { name: string; room: string } | null {
    const missing = [this.name, this.room].filter((input) => {
      const empty = input.value.trim() === '';
      input.setAttribute('aria-invalid', String(empty));
      return empty;
    });
    if (missing.length > 0) {
      this.entryError.textContent =
        missing[0] === this.name ? 'Please tell the others your name.' : 'Please name a room.';
      missing[0]?.focus();
      return null;
    }
    this.entryError.textContent = '';
    return { name: this.name.value.trim(), room: this.room.value.trim() };
  }

  private setBusy(busy: boolean): void {
    this.enterButton.disabled = busy;
    this.enterButton.textContent = busy ? 'Entering…' : 'Enter the room';
  }
}

function statusText(status: Status): string {
  switch (status.kind) {
    case 'offline':
      return 'Offline';
    case 'connecting':
      return 'Connecting…';
    case 'online':
      return 'Connected';
    case 'reconnecting':
      return 'Reconnecting…';
    case 'restarting': {
      const seconds = Math.ceil((status.at - Date.now()) / 1000);
      return seconds > 0 ? `Server restarts, back in ${seconds} s` : 'Server restarts…';
    }
  }
}

function emptyRow(): HTMLElement {
  const row = document.createElement('li');
  for (const part of ['dot', 'who', 'where']) {
    row.appendChild(document.createElement('span')).className = part;
  }
  return row;
}

function fillRow(row: HTMLElement, person: Person): void {
  const [dot, who, where] = row.children as unknown as HTMLElement[];
  row.dataset.user = person.id;
  if (dot) dot.style.background = colourOf(person.id);
  setText(who, person.name);
  setText(where, person.distance === null ? 'you' : `${person.distance.toFixed(1)} m`);
}

/** Leaves the element alone if nothing changed: this runs several times a second. */
function setText(target: HTMLElement | undefined, value: string): void {
  if (target && target.textContent !== value) target.textContent = value;
}

async function copyLink(button: HTMLButtonElement, room: string): Promise<void> {
  const link = new URL(window.location.pathname, window.location.origin);
  link.searchParams.set('room', room);
  try {
    await navigator.clipboard.writeText(link.href);
    button.textContent = 'Link copied';
  } catch {
    // Without the permission, or on a page served over plain HTTP, the address bar has to do.
    window.history.replaceState(null, '', link);
    button.textContent = 'Copy the address';
  }
  setTimeout(() => {
    button.textContent = 'Copy link';
  }, 2_500);
}
