/** The room from above on a canvas. Knows nothing of the network: it draws what it is given. */
import { STICK_RADIUS, type Stick } from './controls.js';
import { headingOf, type Vec3 } from './math.js';
import type { Pose } from './wire.js';

/** Someone as they are to be drawn now. */
export interface Figure {
  id: string;
  name: string;
  pose: Pose;
  own: boolean;
}

/** Pixels per metre: as the page opens, and how far one can zoom. */
const ZOOM = 52;
const ZOOM_MIN = 6;
const ZOOM_MAX = 140;

/** Radius of a person seen from above, in metres. */
const BODY_RADIUS = 0.27;

/** How far the view cone reaches, in metres, and half its angle in radians. */
const CONE_LENGTH = 1.7;
const CONE_HALF_ANGLE = 0.5;

/** Below this zoom, names would only cover one another. */
const NAME_ZOOM_MIN = 14;

/** How many people out of sight are pointed at from the edge. */
const POINTERS_MAX = 24;

/** How quickly the camera follows; larger is quicker. */
const FOLLOW_RATE = 7;

const FONT = '500 12.5px ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

/** A member's colour: a hue from the id, so that everybody sees the same one. */
export function colourOf(id: string, alpha = 1): string {
  let hash = 2166136261;
  for (let i = 0; i < id.length; i += 1) hash = Math.imul(hash ^ id.charCodeAt(i), 16777619);
  // Multiples of the golden angle keep hues that follow one another apart.
  const hue = ((hash >>> 0) * 137.508) % 360;
  const lightness = 60 + ((hash >>> 11) % 3) * 8;
  return `hsl(${hue.toFixed(1)} 74% ${lightness}% / ${alpha})`;
}

export class Renderer {
  private readonly context: CanvasRenderingContext2D;
  private readonly camera = { x: 0, z: 0 };
  private scale = ZOOM;
  private wantedScale = ZOOM;
  private width = 0;
  private height = 0;

  constructor(private readonly canvas: HTMLCanvasElement) {
    const context = canvas.getContext('2d', { alpha: false });
    if (!context) throw new Error('This browser cannot draw on a canvas.');
    this.context = context;
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
  }

  zoom(factor: number): void {
    this.wantedScale = Math.min(Math.max(this.wantedScale * factor, ZOOM_MIN), ZOOM_MAX);
  }

  /** Puts the camera over `place` at once. */
  jumpTo(place: Vec3): void {
    this.camera.x = place.x;
    this.camera.z = place.z;
  }

  draw(figures: Figure[], stick: Stick | null, seconds: number): void {
    const follow = 1 - Math.exp(-FOLLOW_RATE * seconds);
    const own = figures.find((figure) => figure.own)?.pose.head.position;
    if (own) {
      this.camera.x += (own.x - this.camera.x) * follow;
      this.camera.z += (own.z - this.camera.z) * follow;
    }
    this.scale += (this.wantedScale - this.scale) * follow;
    this.drawFloor();
    const visible = figures.filter((figure) => this.isVisible(figure.pose.head.position));
    for (const figure of visible) this.drawCone(figure);
    for (const figure of visible) this.drawBody(figure);
    if (this.scale >= NAME_ZOOM_MIN) for (const figure of visible) this.drawName(figure);
    if (own) this.drawPointers(figures.filter((figure) => !visible.includes(figure)));
    if (stick) this.drawStick(stick);
  }

  private resize(): void {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    this.canvas.width = Math.round(this.width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  private screenX(x: number): number {
    return this.width / 2 + (x - this.camera.x) * this.scale;
  }

  private screenY(z: number): number {
    return this.height / 2 + (z - this.camera.z) * this.scale;
  }

  private isVisible(place: Vec3): boolean {
    const x = this.screenX(place.x);
    const y = this.screenY(place.z);
    return x > -12 && y > -12 && x < this.width + 12 && y < this.height + 12;
  }

  private drawFloor(): void {
    const { context: c, width, height } = this;
    const reach = Math.hypot(width, height) / 2;
    const light = c.createRadialGradient(width / 2, height / 2, 0, width / 2, height / 2, reach);
    light.addColorStop(0, '#18202b');
    light.addColorStop(0.55, '#10151d');
    light.addColorStop(1, '#090c11');
    c.fillStyle = light;
    c.fillRect(0, 0, width, height);
    if (this.scale >= 18) this.drawGrid(1, 'rgb(160 190 230 / 0.045)');
    this.drawGrid(5, 'rgb(160 190 230 / 0.09)');
    // The place where everyone arrives.
    c.strokeStyle = 'rgb(255 196 120 / 0.28)';
    c.lineWidth = 1.5;
    for (const radius of [0.5, 2.5]) {
      c.beginPath();
      c.arc(this.screenX(0), this.screenY(0), radius * this.scale, 0, Math.PI * 2);
      c.stroke();
      c.strokeStyle = 'rgb(255 196 120 / 0.1)';
    }
  }

  private drawGrid(step: number, colour: string): void {
    const { context: c, width, height } = this;
    const first = (centre: number, half: number) =>
      Math.ceil((centre - half / this.scale) / step) * step;
    c.beginPath();
    for (let x = first(this.camera.x, width / 2); this.screenX(x) <= width; x += step) {
      const at = Math.round(this.screenX(x)) + 0.5;
      c.moveTo(at, 0);
      c.lineTo(at, height);
    }
    for (let z = first(this.camera.z, height / 2); this.screenY(z) <= height; z += step) {
      const at = Math.round(this.screenY(z)) + 0.5;
      c.moveTo(0, at);
      c.lineTo(width, at);
    }
    c.strokeStyle = colour;
    c.lineWidth = 1;
    c.stroke();
  }

  private drawCone({ id, pose }: Figure): void {
    const { context: c } = this;
    const x = this.screenX(pose.head.position.x);
    const y = this.screenY(pose.head.position.z);
    const heading = headingOf(pose.head.rotation);
    const reach = CONE_LENGTH * this.scale;
    const glow = c.createRadialGradient(x, y, BODY_RADIUS * this.scale, x, y, reach);
    glow.addColorStop(0, colourOf(id, 0.3));
    glow.addColorStop(1, colourOf(id, 0));
    c.fillStyle = glow;
    c.beginPath();
    c.moveTo(x, y);
    c.arc(x, y, reach, heading - CONE_HALF_ANGLE, heading + CONE_HALF_ANGLE);
    c.fill();
  }

  private drawBody({ id, pose, own }: Figure): void {
    const { context: c } = this;
    const x = this.screenX(pose.head.position.x);
    const y = this.screenY(pose.head.position.z);
    const radius = Math.max(BODY_RADIUS * this.scale, 3.5);
    for (const hand of [pose.leftHand, pose.rightHand]) {
      if (hand) this.drawHand(x, y, hand.position, id);
    }
    c.fillStyle = 'rgb(0 0 0 / 0.35)';
    this.disc(x, y + radius * 0.16, radius * 1.12);
    c.fillStyle = colourOf(id);
    this.disc(x, y, radius);
    const heading = headingOf(pose.head.rotation);
    c.fillStyle = 'rgb(9 12 17 / 0.72)';
    this.disc(x + Math.cos(heading) * radius * 0.5, y + Math.sin(heading) * radius * 0.5, radius * 0.27);
    if (own) {
      c.strokeStyle = 'rgb(255 255 255 / 0.92)';
      c.lineWidth = 2;
      c.beginPath();
      c.arc(x, y, radius + 3.5, 0, Math.PI * 2);
      c.stroke();
    }
  }

  private drawHand(bodyX: number, bodyY: number, place: Vec3, id: string): void {
    const { context: c } = this;
    const x = this.screenX(place.x);
    const y = this.screenY(place.z);
    c.strokeStyle = colourOf(id, 0.45);
    c.lineWidth = Math.max(this.scale * 0.05, 1);
    c.beginPath();
    c.moveTo(bodyX, bodyY);
    c.lineTo(x, y);
    c.stroke();
    c.fillStyle = colourOf(id);
    this.disc(x, y, Math.max(this.scale * 0.09, 2));
  }

  private disc(x: number, y: number, radius: number): void {
    this.context.beginPath();
    this.context.arc(x, y, radius, 0, Math.PI * 2);
    this.context.fill();
  }

  private drawName({ name, pose, own }: Figure): void {
    const { context: c } = this;
    const x = this.screenX(pose.head.position.x);
    const y = this.screenY(pose.head.position.z) + BODY_RADIUS * this.scale + 20;
    const shown = name.length > 24 ? `${name.slice(0, 23)}…` : name;
    c.font = FONT;
    c.textAlign = 'center';
    c.textBaseline = 'middle';
    const half = c.measureText(shown).width / 2 + 9;
    c.fillStyle = 'rgb(9 12 17 / 0.72)';
    c.beginPath();
    c.roundRect(x - half, y - 11, half * 2, 22, 11);
    c.fill();
    c.fillStyle = own ? '#ffffff' : '#c9d3df';
    c.fillText(shown, x, y + 0.5);
  }

  /** Small arrows at the edge towards people who are out of sight. */
  private drawPointers(hidden: Figure[]): void {
    const { context: c, width, height } = this;
    for (const { id, pose } of hidden.slice(0, POINTERS_MAX)) {
      const dx = this.screenX(pose.head.position.x) - width / 2;
      const dy = this.screenY(pose.head.position.z) - height / 2;
      const shrink = Math.min((width / 2 - 22) / Math.abs(dx), (height / 2 - 22) / Math.abs(dy));
      c.save();
      c.translate(width / 2 + dx * shrink, height / 2 + dy * shrink);
      c.rotate(Math.atan2(dy, dx));
      c.fillStyle = colourOf(id, 0.85);
      c.beginPath();
      c.moveTo(9, 0);
      c.lineTo(-5, -6);
      c.lineTo(-5, 6);
      c.fill();
      c.restore();
    }
  }

  private drawStick({ originX, originY, x, y }: Stick): void {
    const { context: c } = this;
    const out = Math.max(1, Math.hypot(x - originX, y - originY) / STICK_RADIUS);
    c.strokeStyle = 'rgb(255 255 255 / 0.25)';
    c.lineWidth = 1.5;
    c.beginPath();
    c.arc(originX, originY, STICK_RADIUS, 0, Math.PI * 2);
    c.stroke();
    c.fillStyle = 'rgb(255 255 255 / 0.3)';
    this.disc(originX + (x - originX) / out, originY + (y - originY) / out, 22);
  }
}
