// The event stream of one experiment. Owns reconnection: the last event id is carried over, failures are tried again
// with growing pauses. Events may come twice; whoever listens merges.

import { eventsUrl } from "./api.js";

const KINDS = ["experiment", "trial", "points"];
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15000;

export class LiveStream {
  /** @param onEvent(kind, data), @param onStatus("live" | "lost"), @param onRetry() before each new try */
  constructor(id, onEvent, onStatus, onRetry) {
    Object.assign(this, { id, onEvent, onStatus, onRetry });
    this.source = null;
    this.timer = null;
    this.pause = FIRST_PAUSE_MS;
  }

  /** Whether it listens or waits to try again. */
  get isOpen() {
    return this.source !== null || this.timer !== null;
  }

  /** Listen to everything after this event id, of points those of some metrics. */
  open(after, metrics) {
    this.close();
    Object.assign(this, { after, metrics });
    this.source = new EventSource(eventsUrl(this.id, after, metrics));
    this.source.onopen = () => {
      this.pause = FIRST_PAUSE_MS;
      this.onStatus("live");
    };
    for (const kind of KINDS) {
      this.source.addEventListener(kind, (event) => {
        this.after = event.lastEventId || this.after;
        this.onEvent(kind, JSON.parse(event.data));
      });
    }
    // Points from before here come no more as events: whoever listens reads the series anew.
    this.source.addEventListener("reset", () => this.onEvent("reset", null));
    // The server ends every stream after a while: taking up at once is not an outage.
    this.source.addEventListener("reconnect", (event) => this.open(event.lastEventId || this.after, this.metrics));
    this.source.onerror = () => this.retry();
  }

  close() {
    clearTimeout(this.timer);
    this.timer = null;
    this.source?.close();
    this.source = null;
  }

  /** Take over from EventSource's own retry, which gives up for good at the first refused request. */
  retry() {
    this.close();
    this.onStatus("lost");
    this.timer = setTimeout(() => {
      this.onRetry(); // the stream itself does not tell why it was refused
      this.open(this.after, this.metrics);
    }, this.pause);
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE_MS);
  }
}
