/** Keys, and a thumb stick wherever the canvas is touched, as one wish to go somewhere. */
import type { Intent } from './movement.js';

/** By physical place, so that the keys form the same cross on every layout. */
const KEYS: Record<string, Intent> = {
  KeyW: { x: 0, z: -1 },
  ArrowUp: { x: 0, z: -1 },
  KeyS: { x: 0, z: 1 },
  ArrowDown: { x: 0, z: 1 },
  KeyA: { x: -1, z: 0 },
  ArrowLeft: { x: -1, z: 0 },
  KeyD: { x: 1, z: 0 },
  ArrowRight: { x: 1, z: 0 },
};

/** How far the thumb travels from where it was put down to full speed, in CSS pixels. */
export const STICK_RADIUS = 56;

/** Less than this share of the travel is a resting thumb. */
const STICK_DEAD = 0.15;

/** The thumb stick as it is now, in CSS pixels within the canvas. */
export interface Stick {
  originX: number;
  originY: number;
  x: number;
  y: number;
}

export class Controls {
  stick: Stick | null = null;
  private readonly held = new Set<string>();
  private pointer: number | null = null;

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly zoom: (factor: number) => void,
  ) {
    window.addEventListener('keydown', (event) => this.keyDown(event));
    window.addEventListener('keyup', (event) => this.held.delete(event.code));
    // A key that is let go while another window has the focus is never reported.
    window.addEventListener('blur', () => this.release());
    canvas.addEventListener('pointerdown', (event) => this.pointerDown(event));
    canvas.addEventListener('pointermove', (event) => this.pointerMove(event));
    for (const end of ['pointerup', 'pointercancel'] as const) {
      canvas.addEventListener(end, (event) => {
        if (event.pointerId === this.pointer) this.release();
      });
    }
    canvas.addEventListener(
      'wheel',
      (event) => {
        event.preventDefault();
        this.zoom(Math.exp(-event.deltaY / 600));
      },
      { passive: false },
    );
  }

  /** Where the visitor wants to go at this moment. */
  intent(): Intent {
    const intent: Intent = { x: 0, z: 0 };
    for (const code of this.held) {
      intent.x += KEYS[code]?.x ?? 0;
      intent.z += KEYS[code]?.z ?? 0;
    }
    if (this.stick) {
      const x = (this.stick.x - this.stick.originX) / STICK_RADIUS;
      const z = (this.stick.y - this.stick.originY) / STICK_RADIUS;
      if (Math.hypot(x, z) > STICK_DEAD) {
        intent.x += x;
        intent.z += z;
      }
    }
    return intent;
  }

  /** Lets go of everything. */
  release(): void {
    this.held.clear();
    this.pointer = null;
    this.stick = null;
  }

  private keyDown(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    if (event.key === '+' || event.key === '=') this.zoom(1.2);
    else if (event.key === '-') this.zoom(1 / 1.2);
    else if (event.code in KEYS) {
      this.held.add(event.code);
      event.preventDefault();
    }
  }

  private pointerDown(event: PointerEvent): void {
    if (this.pointer !== null || event.button !== 0) return;
    this.pointer = event.pointerId;
    this.canvas.setPointerCapture(event.pointerId);
    this.canvas.focus({ preventScroll: true });
    const { offsetX: x, offsetY: y } = event;
    this.stick = { originX: x, originY: y, x, y };
  }

  private pointerMove(event: PointerEvent): void {
    if (event.pointerId !== this.pointer || !this.stick) return;
    this.stick.x = event.offsetX;
    this.stick.y = event.offsetY;
  }
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement;
}
