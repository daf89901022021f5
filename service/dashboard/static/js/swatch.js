// A trial's line as a small sample, for the table and the tooltip.

import { trialColour, trialDash } from "./selection.js";

const SVG = "http://www.w3.org/2000/svg";

export function swatch(number) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "swatch");
  svg.setAttribute("viewBox", "0 0 20 8");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "line");
  const place = { x1: 0, y1: 4, x2: 20, y2: 4, "stroke-dasharray": trialDash(number).join(" ") };
  for (const [name, value] of Object.entries(place)) line.setAttribute(name, value);
  line.style.stroke = `var(--trial-${trialColour(number)})`;
  svg.append(line);
  return svg;
}
