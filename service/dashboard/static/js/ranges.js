// The range that most of what is drawn needs. What is far beyond it (a diverged trial) is left outside rather than squeeze
// the rest, and is counted by who draws.

const FEW = 8; // dots; of fewer it is hard to tell that one is far out

/** The range of single values: those within 20 (of few: 100) median deviations of the median; all where most are equal. */
export function rangeOfDots(values) {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  if (!sorted.length) return { low: Infinity, high: -Infinity };
  const median = (list) => list[Math.floor(list.length / 2)];
  const middle = median(sorted);
  const deviation = median(sorted.map((value) => Math.abs(value - middle)).sort((a, b) => a - b));
  const reach = deviation > 0 && sorted.length > 2 ? deviation * (sorted.length < FEW ? 100 : 20) : Infinity;
  const inside = sorted.filter((value) => Math.abs(value - middle) <= reach);
  return { low: inside[0], high: inside.at(-1) };
}

/**
 * The range of curves: the frame reaches four heights of the middle 80 % beyond them. Picked ones are always inside.
 * @param extents [{low, high, picked}]
 */
export function robustRange(extents) {
  if (!extents.length) return { low: Infinity, high: -Infinity };
  const lows = extents.map(({ low }) => low).sort((a, b) => a - b);
  const highs = extents.map(({ high }) => high).sort((a, b) => a - b);
  const [low, high] = [lows[0], highs.at(-1)];
  const tenth = 0.1 * (extents.length - 1);
  const core = [lows[Math.ceil(tenth)], highs[Math.floor(9 * tenth)]];
  const reach = 4 * (core[1] - core[0]);
  if (extents.length < 3 || !(reach > 0)) return { low, high };
  const [floor, ceiling] = [core[0] - reach, core[1] + reach];
  const isInside = (extent) => extent.picked || (extent.low >= floor && extent.high <= ceiling);
  const inside = extents.filter(isInside);
  return {
    low: Math.min(core[0], ...inside.map((extent) => extent.low)),
    high: Math.max(core[1], ...inside.map((extent) => extent.high)),
  };
}
