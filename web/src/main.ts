/** Ties the parts together: network → state → screen, and the visitor's keys → state → network. */
import './base.css';
import './room.css';
import { Connection } from './connection.js';
import { Controls } from './controls.js';
import { floorDistance, quatFromEuler } from './math.js';
import { arrivalPlace, outgoingPose, PoseGate, walk, type Avatar } from './movement.js';
import { Renderer, type Figure } from './render.js';
import { World } from './state.js';
import { Ui, type Person } from './ui.js';

/** A frame longer than this was a pause (a hidden tab), not a step to be walked. */
const FRAME_SECONDS_MAX = 0.1;

/** How often the list of people is written, in milliseconds. */
const LIST_EVERY_MS = 250;

const NAME_KEY = 'copresence.name';
const DEFAULT_ROOM = 'lobby';

const world = new World();
const gate = new PoseGate();
let own: { id: string; name: string; avatar: Avatar } | null = null;
/** What to come back as after a reconnection: the avatar stays where it was. */
let visitor = { name: '', room: '' };

const ui = new Ui({ enter, leave: () => leave() });
const renderer = new Renderer(ui.scene);
const controls = new Controls(ui.scene, (factor) => renderer.zoom(factor));

const connection = new Connection({
  status: (status) => ui.showStatus(status),
  joined: (id, users) => {
    world.enter(id, users, performance.now());
    const slot = users.find((user) => user.id === id)?.slot ?? 0;
    const avatar = own?.avatar ?? arrivalPlace(slot);
    if (!own) {
      renderer.jumpTo(avatar.position);
      controls.release();
      ui.showRoom(visitor.room);
    }
    own = { id, name: visitor.name, avatar };
    gate.reset();
  },
  userJoined: (user) => world.add(user, performance.now()),
  userLeft: (id) => world.remove(id),
  userRenamed: (id, name) => world.rename(id, name),
  moved: (moves) => {
    const now = performance.now();
    for (const move of moves) world.move(move, now);
  },
  notice: (message) => ui.showNotice(message),
  refused: (message) => leave(message),
});

function enter(name: string, room: string): void {
  visitor = { name, room };
  remember(name);
  void connection.start(name, room);
}

function leave(reason = ''): void {
  connection.stop();
  world.leave();
  own = null;
  ui.showDoor(reason);
}

/** The name is a convenience; a browser that keeps nothing is no reason to fail. */
function remember(name: string): void {
  try {
    localStorage.setItem(NAME_KEY, name);
  } catch {
    // Nothing to do.
  }
}

function remembered(): string {
  try {
    return localStorage.getItem(NAME_KEY) ?? '';
  } catch {
    return '';
  }
}

function figures(now: number): Figure[] {
  const result: Figure[] = [];
  for (const { id, name } of world.others.values()) {
    const pose = world.poseAt(id, now);
    if (pose) result.push({ id, name, pose, own: false });
  }
  if (own) {
    const { position, yaw } = own.avatar;
    const rotation = quatFromEuler({ x: 0, y: yaw, z: 0 });
    // Last, so that one's own avatar is on top.
    result.push({ id: own.id, name: own.name, pose: { head: { position, rotation } }, own: true });
  }
  return result;
}

function people(shown: Figure[]): Person[] {
  const here = own?.avatar.position;
  if (!here) return [];
  const list = shown.map(({ id, name, pose, own: isOwn }) => ({
    id,
    name,
    distance: isOwn ? null : floorDistance(here, pose.head.position),
  }));
  return list.sort((a, b) => (a.distance ?? -1) - (b.distance ?? -1));
}

let lastFrame = performance.now();
let lastList = -Infinity;

function frame(now: number): void {
  const seconds = Math.min(Math.max((now - lastFrame) / 1000, 0), FRAME_SECONDS_MAX);
  lastFrame = now;
  if (own) {
    own.avatar = walk(own.avatar, controls.intent(), seconds);
    if (connection.isOnline && gate.admit(own.avatar, now)) {
      connection.sendPose(outgoingPose(own.avatar));
    }
  }
  const shown = figures(now);
  renderer.draw(shown, own ? controls.stick : null, seconds);
  if (now - lastList >= LIST_EVERY_MS) {
    lastList = now;
    ui.showPeople(people(shown), world.count);
  }
  requestAnimationFrame(frame);
}

const asked = new URLSearchParams(window.location.search);
const name = asked.get('name')?.trim() ?? '';
const room = asked.get('room')?.trim() ?? '';
ui.prefill(name || remembered(), room || DEFAULT_ROOM);
ui.showDoor();
requestAnimationFrame(frame);
if (name && room) enter(name, room);
