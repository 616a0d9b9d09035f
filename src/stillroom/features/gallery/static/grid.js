// The wall of pictures: cells of one size, of which only those near the window are in the document.

import { Cell } from "./cell.js";
import { Choosing } from "./choosing.js";
import { Gestures } from "./gestures.js";
import { shapeFor } from "./thumbnails.js";

const GAP = 6;
const SPARE_ROWS = 2; // above and below the window, so that a short scroll meets finished pictures
const NEAR_END_ROWS = 12;
const SETTLED_MS = 70; // a picture is asked for once its cell has stayed so long: not while flying past
const HIGHEST = 15_000_000; // pixels; browsers end at 17 to 33 million

/** @type {Record<string, number>} */
const DENSITIES = { roomy: 264, usual: 196, dense: 124, named: 196 };
const NARROW = 640;
/** @type {Record<string, number>} */
const NARROW_COLUMNS = { roomy: 2, usual: 3, dense: 5, named: 2 };

/**
 * @typedef {{ open: (at: number) => void, addressOf: (at: number) => string, shelf: () => Shelf,
 *   chosen: () => void, remove: () => void, trouble: (error: any) => void, grown: () => void, follow: () => void,
 *   isCovered: () => boolean }} Hooks
 */

export class Grid {
  /**
   * `host` is the listbox. `open(at)` is called for a cell that is opened, which has the address `addressOf(at)`.
   * `chosen()` is called when the selection has changed, `trouble(error)` when a page cannot be loaded, `grown()`
   * when one was. `shelf()` is where pictures come from. `follow()` draws what has changed.
   * @param {HTMLElement} host
   * @param {Hooks} hooks
   */
  constructor(host, hooks) {
    this.host = host;
    this.hooks = hooks;
    /** @type {Map<number, Cell>} */
    this.cells = new Map();
    /** @type {Collection | null} */
    this.collection = null;
    /** @type {Collection | null} */
    this.broken = null; // could not be loaded, until that is asked for again
    this.current = 0;
    this.columns = 1;
    this.edge = 0;
    this.step = 0;
    this.isFull = false;
    this.range = { first: 0, behind: 0 }; // of what is drawn
    /** @type {Shape | null} */
    this.shape = null;
    /** @type {number | undefined} */
    this.frame = this.settling = undefined;
    this.choosing = new Choosing(this);
    this.gestures = new Gestures(this, hooks);
    this.density = localStorage.getItem("stillroom.density") ?? "usual";
    addEventListener("scroll", () => this.schedule(), { passive: true });
    new ResizeObserver(() => this.measure()).observe(host);
    host.addEventListener("focusin", (event) => {
      const at = this.indexOf(event.target);
      if (at >= 0) this.setCurrent(at);
    });
  }

  get selected() { return this.choosing.selected; }

  /**
   * Show another collection.
   * @param {Collection} collection
   */
  use(collection) {
    this.clear();
    this.collection = collection;
    this.selected.clear();
    this.current = Math.max(0, collection.indexOf(collection.current));
    this.choosing.anchor = this.current;
    this.hooks.chosen();
    this.measure();
    scrollTo(0, collection.scrolledTo);
    this.draw();
  }

  clear() {
    for (const cell of this.cells.values()) cell.drop();
    this.cells.clear();
  }

  /** Show nothing, whatever was to be drawn. */
  leave() {
    this.clear();
    this.collection = null;
  }

  /** The collection has changed in its middle: draw all cells anew. */
  refresh() {
    const focused = this.host.contains(document.activeElement);
    this.clear();
    const at = this.collection?.indexOf(this.collection.current) ?? -1;
    this.current = Math.max(0, Math.min(at < 0 ? this.current : at, this.length - 1));
    for (const key of this.selected) if (!this.has(key)) this.selected.delete(key);
    this.measure();
    this.hooks.chosen();
    if (focused) this.focus();
  }

  get length() { return this.collection?.length ?? 0; }

  /** @param {number} at */
  describe(at) {
    if (!this.collection) throw new Error("no collection is shown");
    return this.collection.describe(at);
  }

  /** @param {string} key */
  has(key) { return this.collection !== null && this.collection.indexOf(key) >= 0; }

  /** @param {string} density */
  setDensity(density) {
    this.density = density;
    localStorage.setItem("stillroom.density", density);
    const at = this.firstVisible();
    this.measure();
    if (scrollY > this.top) this.bringIntoView(at, "start");
  }

  measure() {
    if (!this.collection) return;
    const width = this.host.clientWidth;
    if (!width) return;
    const narrow = width < NARROW;
    this.columns = narrow
      ? NARROW_COLUMNS[this.density]
      : Math.max(2, Math.round((width + GAP) / (DENSITIES[this.density] + GAP)));
    const least = narrow ? GAP / 2 : GAP;
    this.edge = Math.floor((width - least * (this.columns - 1)) / this.columns);
    const gap = (width - this.edge * this.columns) / (this.columns - 1); // flush on both sides
    this.step = this.edge + gap;
    this.shape = shapeFor(this.edge * Math.min(devicePixelRatio, 2));
    this.host.style.setProperty("--edge", `${this.edge}px`);
    this.host.dataset.density = this.density;
    this.stretch();
    this.draw();
  }

  stretch() {
    const rows = Math.ceil(this.length / this.columns);
    this.isFull = rows * this.step > HIGHEST;
    this.host.style.height = `${Math.min(rows * this.step, HIGHEST)}px`;
  }

  get top() { return this.host.getBoundingClientRect().top + scrollY; }

  firstVisible() {
    const row = Math.max(0, Math.floor((scrollY - this.top) / this.step));
    return Math.min(row * this.columns, Math.max(0, this.length - 1));
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.draw();
    });
  }

  draw() {
    if (!this.collection || !this.step || this.host.hidden) return;
    const above = scrollY - this.top;
    const first = Math.max(0, (Math.floor(above / this.step) - SPARE_ROWS) * this.columns);
    const rows = Math.ceil((above + innerHeight) / this.step) + SPARE_ROWS;
    const behind = Math.min(this.length, rows * this.columns, Math.floor(HIGHEST / this.step) * this.columns);
    this.range = { first, behind };
    this.collection.scrolledTo = scrollY;
    for (const [at, cell] of this.cells) {
      const isShown = at >= first && at < behind;
      if (!isShown && at !== this.current) {
        cell.drop();
        this.cells.delete(at);
      }
    }
    for (let at = first; at < behind; at += 1) this.place(at);
    if (this.length) this.place(this.current); // the way in for Tab, wherever the window is
    this.settle();
    const nearEnd = rows + NEAR_END_ROWS > this.length / this.columns;
    if (nearEnd && !this.isFull) this.more();
  }

  async more() {
    const { collection } = this;
    if (!collection || collection.complete || this.broken === collection) return;
    try {
      const before = collection.length;
      const last = collection.items[before - 1];
      do await collection.more(); // all of a page may be gone, or posters of what is known
      while (collection === this.collection && collection.length === before && !collection.complete);
      if (collection !== this.collection) return;
      if (collection.items[before - 1] !== last) this.refresh(); // a poster before it belongs to a later video
      this.stretch();
      this.schedule();
      this.hooks.grown();
    } catch (/** @type {any} */ error) {
      if (collection !== this.collection || error.name === "AbortError") return;
      this.broken = collection;
      this.hooks.trouble(error);
    }
  }

  retry() {
    this.broken = null;
    return this.more();
  }

  /** @param {number} at */
  place(at) {
    const known = this.cells.get(at);
    if (known) {
      this.put(known.element, at);
      return known;
    }
    const described = this.describe(at);
    const isSelected = this.selected.has(described.key);
    const href = this.hooks.addressOf(at);
    const cell = new Cell(described, at, { href, isCurrent: at === this.current, isSelected });
    this.cells.set(at, cell);
    this.put(cell.element, at);
    // In order, since a screen reader reads the document's.
    let following = null;
    let nearest = Infinity;
    for (const [other, { element }] of this.cells) {
      if (other > at && other < nearest && element.isConnected) {
        nearest = other;
        following = element;
      }
    }
    this.host.insertBefore(cell.element, following);
    return cell;
  }

  /**
   * @param {HTMLElement} element
   * @param {number} at
   */
  put(element, at) {
    const x = (at % this.columns) * this.step;
    const y = Math.floor(at / this.columns) * this.step;
    element.style.transform = `translate(${x}px, ${y}px)`;
    element.setAttribute("aria-setsize", String(this.collection?.complete ? this.length : -1));
  }

  settle() {
    clearTimeout(this.settling);
    // The first screen waits for nothing.
    const wait = this.cells.size && [...this.cells.values()].some((cell) => cell.asked) ? SETTLED_MS : 0;
    const load = () => {
      for (const cell of this.cells.values()) if (!cell.asked && this.shape) cell.load(this.hooks.shelf(), this.shape);
    };
    if (wait) this.settling = setTimeout(load, wait);
    else load();
  }

  /**
   * The place of the cell that an event is for, as things are now; -1 for none.
   * @param {EventTarget | null} target
   */
  indexOf(target) {
    const element = target instanceof Element ? target.closest(".cell") : null;
    const cell = [...this.cells.values()].find((known) => known.element === element);
    return cell && this.collection ? this.collection.indexOf(cell.described.key) : -1;
  }

  /** @param {number} at */
  setCurrent(at) {
    if (at === this.current || !this.collection) return;
    const before = this.cells.get(this.current);
    if (before) before.element.tabIndex = -1;
    this.current = at;
    this.collection.current = this.collection.describe(at).key;
    const now = this.cells.get(at);
    if (now) now.element.tabIndex = 0;
  }

  /** Move to a cell: it is there, in view, and has the focus. */
  focus(at = this.current) {
    if (!this.length) return;
    const target = Math.max(0, Math.min(at, this.length - 1));
    this.setCurrent(target);
    this.bringIntoView(target);
    const { element } = this.place(target);
    element.tabIndex = 0;
    element.focus({ preventScroll: true });
    this.schedule();
  }

  /** @param {number} at */
  bringIntoView(at, where = "nearest") {
    const y = Math.floor(at / this.columns) * this.step + this.top;
    const header = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--header")) || 0;
    const [from, to] = [scrollY + header, scrollY + innerHeight];
    if (where === "start" || y < from) scrollTo(0, y - header - GAP);
    else if (y + this.step > to) scrollTo(0, y + this.step - innerHeight + GAP);
  }
}
