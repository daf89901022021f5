// A line's look as a small sample, for tables, legends and the tooltip.

const SVG = "http://www.w3.org/2000/svg";

export function swatch(look) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "swatch");
  svg.setAttribute("viewBox", "0 0 20 8");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "line");
  for (const [name, value] of Object.entries({ x1: 0, y1: 4, x2: 20, y2: 4 })) line.setAttribute(name, value);
  svg.append(line);
  paintSwatch(svg, look);
  return svg;
}

/** @param look {colour, dash} */
export function paintSwatch(svg, { colour, dash }) {
  const line = svg.firstChild;
  const dashes = dash.join(" ");
  if (line.style.stroke !== colour) line.style.stroke = colour;
  if (line.getAttribute("stroke-dasharray") !== dashes) line.setAttribute("stroke-dasharray", dashes);
}
