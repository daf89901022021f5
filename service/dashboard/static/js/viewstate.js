// What a page shows beside its data (filter, order, zoom, choices), kept in the address: it survives reload and back and
// can be sent to somebody. Values are texts; a page gives them their meaning. Data and secrets do not belong here.

const LONGEST = 2000; // characters of a whole address that mail, chats and old proxies leave whole

export class ViewState {
  constructor() {
    this.values = new Map(new URLSearchParams(location.search));
  }

  get(name, fallback = "") {
    return this.values.get(name) ?? fallback;
  }

  /** The parts of a value with commas. */
  list(name) {
    return this.get(name).split(",").filter(Boolean);
  }

  numbers(name) {
    return this.list(name).map(Number).filter(Number.isFinite);
  }

  /** Change some values; empty, null and empty lists are left out of the address. */
  set(changes) {
    for (const [name, value] of Object.entries(changes)) {
      const text = Array.isArray(value) ? value.join(",") : String(value ?? "");
      if (text) this.values.set(name, text);
      else this.values.delete(name);
    }
    this.write();
  }

  /** Where all of it would be too long, the longest values are kept in memory only. */
  write() {
    const kept = [...this.values].sort(([, a], [, b]) => a.length - b.length);
    let address = this.address(kept);
    while (address.length > LONGEST - location.origin.length && kept.pop()) address = this.address(kept);
    if (address !== location.pathname + location.search) history.replaceState(history.state, "", address);
  }

  address(entries) {
    const order = [...this.values.keys()];
    const sorted = [...entries].sort(([a], [b]) => order.indexOf(a) - order.indexOf(b));
    // Commas and colons need no escape in a query, and are read better without.
    const query = new URLSearchParams(sorted).toString().replaceAll("%2C", ",").replaceAll("%3A", ":");
    return location.pathname + (query ? `?${query}` : "");
  }
}
