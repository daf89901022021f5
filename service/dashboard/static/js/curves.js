// The curves of configurations as the service tells them: mean and band over seeds, at the positions of one axis.

const COLUMNS = { epoch: "epochs", step: "steps", time: "times" };

export class CurveStore {
  constructor() {
    this.metrics = new Map(); // metric -> Map(configuration number -> curve)
  }

  of(metric) {
    if (!this.metrics.has(metric)) this.metrics.set(metric, new Map());
    return this.metrics.get(metric);
  }

  clear() {
    this.metrics.clear();
  }

  /** Take the service's answer in place of what there was of its metrics. */
  take({ positions, curves }, axis) {
    const column = COLUMNS[axis];
    for (const metric of Object.keys(positions)) this.metrics.set(metric, new Map());
    for (const { metric, configuration, first, n, mean, low, high } of curves) {
      const at = positions[metric].slice(first, first + mean.length);
      const numbers = (values) => values?.map((value) => value ?? NaN) ?? null;
      this.of(metric).set(configuration, { [column]: at, values: numbers(mean), low: numbers(low), high: numbers(high), n, length: at.length });
    }
  }
}
