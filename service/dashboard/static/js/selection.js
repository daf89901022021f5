// Which configurations stand out. Few are all in colour; of many, the picked ones or else the best, the rest is a dim
// crowd. Opened ones show their single trials. What a line looks like is for colours.js.

const ALL_IN_COLOUR = 12;
const BEST_IN_COLOUR = 8;

export class Selection {
  constructor(onChange, onFocus) {
    this.onChange = onChange;
    this.onFocus = onFocus;
    this.picked = new Set();
    this.opened = new Set();
    this.coloured = new Set();
    this.focused = null; // {configuration, trial or null}: what is under the pointer, in a plot or in a table
    this.total = 0;
  }

  /** Choose those in colour. @param numbers of the shown configurations, the best first, @param all whether all get colour */
  update(numbers, all) {
    this.total = numbers.length;
    const picked = numbers.filter((number) => this.picked.has(number));
    if (picked.length) this.coloured = new Set(picked);
    else this.coloured = new Set(all || numbers.length <= ALL_IN_COLOUR ? numbers : numbers.slice(0, BEST_IN_COLOUR));
  }

  isColoured(number) {
    return this.coloured.has(number);
  }

  toggle(number) {
    if (!this.picked.delete(number)) this.picked.add(number);
    this.onChange();
  }

  toggleOpen(number) {
    if (!this.opened.delete(number)) this.opened.add(number);
    this.onChange();
  }

  clear() {
    this.picked.clear();
    this.onChange();
  }

  focus(configuration, trial = null) {
    const same = this.focused?.configuration === configuration && this.focused?.trial === trial;
    if (same || (configuration === null && this.focused === null)) return;
    this.focused = configuration === null ? null : { configuration, trial };
    this.onFocus();
  }
}
