// A canvas context that keeps what is drawn as shapes, so that a chart is saved as vectors by the code that paints it.
// Knows as much of the canvas as the charts use. Owns no file format.

export class Recorder {
  constructor() {
    this.shapes = []; // {kind: "path", pieces, stroke, fill, width, dash, alpha, clip} or {kind: "text", text, x, y, size, bold, align, fill}
    Object.assign(this, { globalAlpha: 1, lineWidth: 1, strokeStyle: "#000", fillStyle: "#000", font: "", textBaseline: "", textAlign: "left", lineJoin: "" });
    this.dash = [];
    this.offset = [0, 0];
    this.clip = null;
    this.beginPath();
  }

  /** Shift what follows. */
  translate(x, y) {
    this.offset = [this.offset[0] + x, this.offset[1] + y];
  }

  /** Paths that follow are cut at this rectangle; without one they are whole. */
  within(x, y, width, height) {
    this.clip = x === undefined ? null : [x + this.offset[0], y + this.offset[1], width, height];
  }

  setLineDash(dash) {
    this.dash = dash;
  }

  beginPath() {
    this.pieces = []; // of [x, y] points
  }

  moveTo(x, y) {
    this.pieces.push([[x + this.offset[0], y + this.offset[1]]]);
  }

  lineTo(x, y) {
    if (this.pieces.length) this.pieces.at(-1).push([x + this.offset[0], y + this.offset[1]]);
    else this.moveTo(x, y);
  }

  /** A whole circle as a polygon: small dots do not tell the difference. */
  arc(x, y, radius) {
    const sides = 16;
    for (let k = 0; k <= sides; k += 1) {
      const angle = (2 * Math.PI * k) / sides;
      this[k ? "lineTo" : "moveTo"](x + radius * Math.cos(angle), y + radius * Math.sin(angle));
    }
  }

  stroke() {
    this.add({ stroke: this.strokeStyle, width: this.lineWidth, dash: this.dash });
  }

  fill() {
    this.add({ fill: this.fillStyle });
  }

  fillRect(x, y, width, height) {
    this.beginPath();
    this.moveTo(x, y);
    this.lineTo(x + width, y);
    this.lineTo(x + width, y + height);
    this.lineTo(x, y + height);
    this.fill();
  }

  add(look) {
    if (this.pieces.length) this.shapes.push({ kind: "path", pieces: this.pieces, alpha: this.globalAlpha, clip: this.clip, ...look });
  }

  measureText(text) {
    return { width: text.length * this.size * 0.55 };
  }

  strokeText() {} // the halo that keeps text readable on a screen

  fillText(text, x, y) {
    const middle = this.textBaseline === "middle" ? 0.35 * this.size : 0;
    const bold = /^[6-9]00/.test(this.font);
    this.shapes.push({
      kind: "text", text, bold, x: x + this.offset[0], y: y + this.offset[1] + middle, size: this.size, align: this.textAlign, fill: this.fillStyle,
    });
  }

  get size() {
    return Number(/(\d+(?:\.\d+)?)px/.exec(this.font)?.[1] ?? 11);
  }
}

const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const known = new Map();

/** Any CSS colour as [red, green, blue, alpha], 0 to 1. */
export function channels(colour) {
  if (!known.has(colour)) {
    probe.clearRect(0, 0, 1, 1);
    probe.fillStyle = colour;
    probe.fillRect(0, 0, 1, 1);
    known.set(colour, [...probe.getImageData(0, 0, 1, 1).data].map((channel) => channel / 255));
  }
  return known.get(colour);
}
