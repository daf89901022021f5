// A chart as a file: SVG and PDF drawn by the painter of the chart itself, CSV from its numbers. Owns the menu and the
// frame around the drawing (title, axes, legend); the painter and the rows are the chart's.

import { el } from "./dom.js";
import { menu } from "./menu.js";
import { Recorder } from "./recorder.js";
import { theme } from "./theme.js";
import { toPdf, toSvg } from "./vectors.js";

const [LEFT, RIGHT, TOP, BOTTOM] = [58, 16, 34, 42];
const LEGEND_ROW = 16;
const MOST_IN_LEGEND = 16;

/**
 * The menu of a chart's head.
 * @param name of the chart as it is now
 * @param chart {plot(), paint(context), fileName(), title(), axes() -> {x, y}, legend() -> [{text, colour, dash}], rows() -> arrays, the first one headings}
 */
export function saveMenu(chart, name = chart.title()) {
  const item = (title, save) => {
    const button = el("button", { type: "button", role: "menuitem" }, title);
    button.addEventListener("click", () => {
      node.open = false;
      save();
    });
    return button;
  };
  const items = el(
    "div",
    { role: "menu" },
    item("SVG", () => save(chart, "svg", "image/svg+xml", (shapes, size) => toSvg(shapes, ...size, chart.title()))),
    item("PDF", () => save(chart, "pdf", "application/pdf", (shapes, size) => toPdf(shapes, ...size, chart.title()))),
    item("CSV", () => download(`${chart.fileName()}.csv`, "text/csv", toCsv(chart.rows()))),
  );
  const node = menu({ "aria-label": `Save ${name}`, title: `Save ${name} as a file` }, "⤓", items);
  return node;
}

function save(chart, ending, type, write) {
  const { shapes, width, height } = drawing(chart);
  download(`${chart.fileName()}.${ending}`, type, write(shapes, [width, height]));
}

/** The chart with its frame, in the size it has on the page. */
function drawing(chart) {
  const plot = chart.plot();
  const legend = chart.legend().slice(0, MOST_IN_LEGEND);
  const width = Math.round(plot.width + LEFT + RIGHT);
  const height = Math.round(plot.height + TOP + BOTTOM + LEGEND_ROW * Math.ceil(legend.length / 2));
  const context = new Recorder();
  context.fillStyle = theme.surface;
  context.fillRect(0, 0, width, height);
  context.translate(LEFT, TOP);
  frame(context, plot, chart);
  context.within(0, 0, plot.width, plot.height);
  chart.paint(context);
  context.within();
  drawLegend(context, plot, legend);
  return { shapes: context.shapes, width, height };
}

function frame(context, plot, chart) {
  const ticks = plot.ticks();
  const { x: xTitle, y: yTitle } = chart.axes();
  context.font = "600 13px sans-serif";
  context.fillStyle = theme.text;
  context.fillText(chart.title(), 0, -14);
  context.font = "11px sans-serif";
  context.fillStyle = theme.muted;
  context.strokeStyle = theme.grid;
  context.lineWidth = 1;
  for (const [left, text] of ticks.x) {
    line(context, left, 0, left, plot.height);
    context.textAlign = "center";
    context.fillText(text, left, plot.height + 14);
  }
  for (const [top, text] of ticks.y) {
    line(context, 0, top, plot.width, top);
    context.textAlign = "right";
    context.fillText(text, -6, top + 4);
  }
  context.textAlign = "right";
  context.fillText(xTitle, plot.width, plot.height + 30);
  context.textAlign = "left";
  if (yTitle) context.fillText(yTitle, -LEFT + 8, -2);
}

function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

function drawLegend(context, plot, legend) {
  context.font = "11px sans-serif";
  context.lineWidth = 2;
  legend.forEach(({ text, colour, dash }, k) => {
    const x = (k % 2) * (plot.width / 2);
    const y = plot.height + BOTTOM + LEGEND_ROW * Math.floor(k / 2);
    context.strokeStyle = colour;
    context.setLineDash(dash);
    line(context, x, y - 4, x + 20, y - 4);
    context.setLineDash([]);
    context.fillStyle = theme.text;
    context.fillText(text, x + 26, y);
  });
}

/** Texts in quotes where they need some; numbers in full precision. */
export function toCsv(rows) {
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    const harmless = typeof value === "string" && /^[=+\-@]/.test(text) ? `'${text}` : text; // no formula of a spreadsheet
    return /[",\n\r]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
  };
  return rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

export function download(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = el("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
