// The interval plot of the answer as a file: a row a configuration with its replicates, mean and interval.

import { tick } from "./format.js";
import { theme } from "./theme.js";
import { metricInfo } from "./words.js";

const ROW_PX = 22;
const WIDTH = 640;
const LABEL = 260; // of the width

/** What chart_files.js saves. @param table the table of configurations, in the order it has */
export function intervalPlotFile(table) {
  const shown = () => table.sorted.filter(({ statistics }) => statistics[table.answer.metric]);
  return {
    plot: () => ({ width: WIDTH, height: ROW_PX * shown().length, ticks: () => ({ x: ticks(shown(), table.answer.metric), y: [] }) }),
    paint: (context) => paint(context, shown(), table.answer.metric, table.colours),
    title: () => `${table.answer.title}, mean and ${Math.round(100 * table.answer.method.confidence)} % interval`,
    fileName: () => `${table.fileName()}-answer`,
    axes: () => ({ x: metricInfo(table.answer.metric).title, y: "" }),
    legend: () => [],
    rows: () => rows(table),
  };
}

/** From a value to pixels, over all that is drawn. */
function scaleOf(configurations, metric) {
  const numbers = configurations.flatMap(({ values, statistics: { [metric]: mean } }) => [...values, mean.low ?? mean.mean, mean.high ?? mean.mean]);
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  const place = (value) => LABEL + (WIDTH - LABEL - 10) * (high > low ? (value - low) / (high - low) : 0.5);
  return { low, high, place };
}

function ticks(configurations, metric) {
  if (!configurations.length) return [];
  const { low, high, place } = scaleOf(configurations, metric);
  return [0, 0.25, 0.5, 0.75, 1].map((share) => low + share * (high - low)).map((value) => [place(value), tick(Number(value.toPrecision(3)))]);
}

function paint(context, configurations, metric, colours) {
  if (!configurations.length) return;
  const { place } = scaleOf(configurations, metric);
  context.font = "11px sans-serif";
  configurations.forEach(({ number, label, values, statistics: { [metric]: mean } }, k) => {
    const y = ROW_PX * (k + 0.5);
    const { colour } = colours.of(number);
    context.textAlign = "left";
    context.fillStyle = theme.text;
    context.fillText(label.length > 42 ? `${label.slice(0, 41)}…` : label, 0, y + 4);
    context.fillStyle = colour;
    context.globalAlpha = 0.4;
    for (const value of values) dot(context, place(value), y, 3);
    context.globalAlpha = 1;
    if (mean.low !== null) {
      context.strokeStyle = colour;
      context.lineWidth = 1.6;
      context.beginPath();
      context.moveTo(place(mean.low), y);
      context.lineTo(place(mean.high), y);
      context.stroke();
    }
    dot(context, place(mean.mean), y, 3.5);
  });
}

function dot(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

function rows({ answer, sorted }) {
  const { metric } = answer;
  const fields = answer.fields.map(({ name }) => name);
  const head = ["configuration", ...fields, "seeds", metric, "sd", "low", "high", "difference", "difference_low", "difference_high", "p_adjusted", "standing"];
  return [
    head,
    ...sorted.map(({ label, fields: values, seeds, statistics: { [metric]: mean }, differences: { [metric]: other }, standing }) => [
      label, ...fields.map((name) => values[name]), seeds.length, mean?.mean, mean?.sd, mean?.low, mean?.high, other?.mean, other?.low_adjusted, other?.high_adjusted, other?.p_adjusted, standing,
    ]),
  ];
}
