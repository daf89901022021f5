// Batches of work per animation frame, at a pace the machine keeps up with.

const IDLE_SHARE = 4; // after work of t ms, at least four times as long is left to everything else

export class FrameBatch {
  constructor(work) {
    this.work = work;
    this.waiting = null;
    this.earliest = 0;
  }

  /** Have the work done once, soon, however often it is asked for. */
  request() {
    if (this.waiting === null) this.waiting = requestAnimationFrame((now) => this.run(now));
  }

  run(now) {
    if (now < this.earliest) {
      this.waiting = requestAnimationFrame((later) => this.run(later));
      return;
    }
    this.waiting = null;
    const start = performance.now();
    this.work();
    const end = performance.now();
    this.earliest = end + IDLE_SHARE * (end - start);
  }

  dispose() {
    cancelAnimationFrame(this.waiting);
  }
}
