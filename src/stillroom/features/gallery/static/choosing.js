// Which cells of the grid are chosen.

export class Choosing {
  /** @param {Grid} grid */
  constructor(grid) {
    this.grid = grid;
    /** @type {Set<string>} */
    this.selected = new Set();
    this.anchor = 0;
  }

  /** @param {number} at */
  toggle(at) {
    const { key } = this.grid.describe(at);
    if (!this.selected.delete(key)) this.selected.add(key);
    this.anchor = at;
    this.mark();
  }

  /** @param {number} at */
  chooseTo(at) { this.chooseBetween(Math.min(at, this.anchor), Math.max(at, this.anchor)); }

  chooseAll() { this.chooseBetween(0, this.grid.length - 1); }

  /**
   * @param {number} low
   * @param {number} high
   */
  chooseBetween(low, high) {
    for (let at = low; at <= high; at += 1) this.selected.add(this.grid.describe(at).key);
    this.mark();
  }

  /**
   * Choose those that there are of these.
   * @param {string[]} keys
   */
  choose(keys) {
    for (const key of keys) if (this.grid.has(key)) this.selected.add(key);
    this.mark();
  }

  chooseNone() {
    this.selected.clear();
    this.mark();
  }

  mark() {
    for (const { element, described } of this.grid.cells.values()) {
      element.setAttribute("aria-selected", String(this.selected.has(described.key)));
    }
    this.grid.host.classList.toggle("choosing", this.selected.size > 0);
    this.grid.hooks.chosen();
  }
}
