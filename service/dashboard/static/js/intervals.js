// One row of an interval plot as a small drawing: a line for the interval, a dot for the mean, faint dots for replicates.

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, MARGIN] = [150, 24, 6];

/** The scale all rows share: from value to pixels. */
export function scaleOf(rows, numbersOf) {
  const numbers = rows.flatMap(numbersOf).filter(Number.isFinite);
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  const span = high - low || 1;
  const scale = (value) => MARGIN + ((WIDTH - 2 * MARGIN) * (high === low ? 0.5 : (value - low) / span));
  return Object.assign(scale, { domain: [low, high] });
}

/** @param ends [low, high] or nothing, @param zero where a line marks no difference */
export function intervalPlot(scale, mean, ends, replicates, zero = null) {
  const svg = shape("svg", { class: "intervals", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" });
  const middle = HEIGHT / 2;
  if (zero !== null) svg.append(shape("line", { class: "zero", x1: scale(zero), x2: scale(zero), y1: 0, y2: HEIGHT }));
  for (const value of replicates) svg.append(shape("circle", { class: "replicate", cx: scale(value), cy: middle, r: 3 }));
  if (ends.length) svg.append(shape("line", { class: "line", x1: scale(ends[0]), x2: scale(ends[1]), y1: middle, y2: middle }));
  svg.append(shape("circle", { class: "mean", cx: scale(mean), cy: middle, r: 3.2 }));
  return svg;
}

function shape(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}
