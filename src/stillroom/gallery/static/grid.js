// The wall of pictures: cells of one size, of which only those near the window are in the document.

import { icon, make } from "./elements.js";
import { shapeFor } from "./thumbnails.js";

const GAP = 6;
const SPARE_ROWS = 2; // above and below the window, so that a short scroll meets finished pictures
const NEAR_END_ROWS = 12;
const SETTLED_MS = 70; // a picture is asked for once its cell has stayed so long: not while flying past
const HIGHEST = 15_000_000; // pixels; browsers end at 17 to 33 million

const DENSITIES = { roomy: 264, usual: 196, dense: 124 };
const NARROW = 640;
const NARROW_COLUMNS = { roomy: 2, usual: 3, dense: 5 };

export class Grid {
  /**
   * `host` is the listbox. `open(at)` is called for a cell that is opened, `chosen()` when the selection
   * has changed, `show(image, description, shape, failed)` to load a picture, `trouble(error)` when a
   * page cannot be loaded, `grown()` when one was.
   */
  constructor(host, hooks) {
    this.host = host;
    this.hooks = hooks;
    this.cells = new Map();
    this.selected = new Set();
    this.collection = null;
    this.current = 0;
    this.anchor = 0;
    this.density = localStorage.getItem("stillroom.density") ?? "usual";
    const redraw = () => this.schedule();
    addEventListener("scroll", redraw, { passive: true });
    new ResizeObserver(() => this.measure()).observe(host);
    host.addEventListener("click", (event) => this.clicked(event));
    host.addEventListener("dblclick", (event) => event.preventDefault());
    host.addEventListener("keydown", (event) => this.pressed(event));
    host.addEventListener("focusin", (event) => {
      const at = this.indexOf(event.target);
      if (at >= 0) this.setCurrent(at);
    });
    this.watchTouches();
  }

  /** Show another collection. */
  use(collection) {
    this.clear();
    this.collection = collection;
    this.selected.clear();
    this.current = Math.max(0, collection.indexOf(collection.current));
    this.anchor = this.current;
    this.hooks.chosen();
    this.measure();
    scrollTo(0, collection.scrolledTo);
    this.draw();
  }

  clear() {
    for (const cell of this.cells.values()) this.drop(cell);
    this.cells.clear();
  }

  /** The collection has changed in its middle: draw all cells anew. */
  refresh() {
    const focused = this.host.contains(document.activeElement);
    this.clear();
    this.current = Math.max(0, Math.min(this.current, this.length - 1));
    for (const key of this.selected) if (this.collection.indexOf(key) < 0) this.selected.delete(key);
    this.measure();
    this.hooks.chosen();
    if (focused) this.focus();
  }

  get length() { return this.collection?.length ?? 0; }

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
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    if (!this.collection || !this.step || this.host.hidden) return;
    const above = scrollY - this.top;
    const first = Math.max(0, (Math.floor(above / this.step) - SPARE_ROWS) * this.columns);
    const rows = Math.ceil((above + innerHeight) / this.step) + SPARE_ROWS;
    const behind = Math.min(this.length, rows * this.columns, Math.floor(HIGHEST / this.step) * this.columns);
    this.collection.scrolledTo = scrollY;
    for (const [at, cell] of this.cells) {
      const isShown = at >= first && at < behind;
      if (!isShown && at !== this.current) {
        this.drop(cell);
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
    if (this.collection.complete || this.broken === this.collection) return;
    const collection = this.collection;
    try {
      const before = collection.length;
      await collection.more();
      if (collection !== this.collection || collection.length === before) return;
      this.stretch();
      this.schedule();
      this.hooks.grown();
    } catch (error) {
      if (collection !== this.collection || error.name === "AbortError") return;
      this.broken = collection; // until somebody asks for it again
      this.hooks.trouble(error);
    }
  }

  retry() {
    this.broken = null;
    return this.more();
  }

  place(at) {
    if (this.cells.has(at)) {
      const { element } = this.cells.get(at);
      this.put(element, at);
      return;
    }
    const cell = this.build(at);
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
  }

  put(element, at) {
    const x = (at % this.columns) * this.step;
    const y = Math.floor(at / this.columns) * this.step;
    element.style.transform = `translate(${x}px, ${y}px)`;
    element.setAttribute("aria-setsize", this.collection.complete ? this.length : -1);
  }

  build(at) {
    const described = this.collection.describe(at);
    const { key, name, isFolder } = described;
    const image = make("img", { alt: "", decoding: "async", draggable: false });
    image.dataset.key = key;
    const frame = make("span", { class: "frame" }, image);
    const caption = make("span", { class: "caption", dir: "auto" }, name);
    const element = make(
      "div",
      {
        class: isFolder ? "cell folder" : "cell",
        role: "option",
        tabIndex: at === this.current ? 0 : -1,
        "aria-selected": String(this.selected.has(key)),
        "aria-posinset": String(at + 1),
        "aria-label": isFolder ? `${name}, folder` : name,
        title: name,
      },
      frame,
      isFolder ? null : make("span", { class: "mark", "aria-hidden": "true" }, icon("check")),
      caption,
    );
    element.dataset.at = String(at);
    if (isFolder) frame.append(icon("folder"));
    image.onload = () => element.classList.add("loaded");
    return { element, image, described, asked: false };
  }

  settle() {
    clearTimeout(this.settling);
    // The first screen waits for nothing.
    const wait = this.cells.size && [...this.cells.values()].some((cell) => cell.asked) ? SETTLED_MS : 0;
    const load = () => {
      for (const cell of this.cells.values()) {
        if (!cell.asked) this.load(cell);
      }
    };
    if (wait) this.settling = setTimeout(load, wait);
    else load();
  }

  load(cell) {
    cell.asked = true;
    const { element, image, described } = cell;
    this.hooks.show(image, described, this.shape, (error, facts) => {
      if (!element.isConnected) return;
      element.classList.add("plain");
      const suffix = /\.([A-Za-z0-9]{1,5})$/.exec(described.name)?.[1] ?? "";
      const kind = facts ? facts.content_type.split("/").pop().slice(0, 12) : suffix;
      if (!element.querySelector(".kind")) {
        image.after(make("span", { class: "kind", "aria-hidden": "true" }, kind || "file"));
      }
    });
  }

  drop({ element, image }) {
    image.onload = null;
    image.onerror = null;
    image.dataset.key = "";
    image.removeAttribute("src"); // what has not arrived is not waited for
    element.remove();
  }

  indexOf(target) {
    const cell = target.closest?.("[data-at]");
    return cell && this.host.contains(cell) ? Number(cell.dataset.at) : -1;
  }

  setCurrent(at) {
    if (at === this.current) return;
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
    this.place(target);
    const { element } = this.cells.get(target);
    element.tabIndex = 0;
    element.focus({ preventScroll: true });
    this.schedule();
  }

  bringIntoView(at, where = "nearest") {
    const y = Math.floor(at / this.columns) * this.step + this.top;
    const header = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--header")) || 0;
    const [from, to] = [scrollY + header, scrollY + innerHeight];
    if (where === "start" || y < from) scrollTo(0, y - header - GAP);
    else if (y + this.step > to) scrollTo(0, y + this.step - innerHeight + GAP);
  }

  // Choosing ------------------------------------------------------------------------------------

  clicked(event) {
    const at = this.indexOf(event.target);
    if (at < 0) return;
    if (this.heldOpen) { this.heldOpen = false; return; } // the end of a long touch
    const onMark = Boolean(event.target.closest(".mark"));
    if (event.shiftKey) this.chooseTo(at);
    else if (onMark || event.ctrlKey || event.metaKey || (this.selected.size && this.isImage(at))) this.toggle(at);
    else this.hooks.open(at);
    if (!this.hooks.isCovered?.()) this.focus(at);
  }

  pressed(event) {
    const at = this.current;
    const page = Math.max(1, Math.floor(innerHeight / this.step) - 1) * this.columns;
    const moves = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns,
      PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity,
    };
    if (event.altKey) return;
    if (event.key in moves) {
      const wanted = at + moves[event.key];
      const target = Math.max(0, Math.min(wanted, this.length - 1));
      if (event.shiftKey) this.chooseTo(target);
      else this.anchor = target;
      this.focus(target);
    } else if (event.key === "Enter") this.hooks.open(at);
    else if (event.key === " ") this.toggle(at);
    else if (event.key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey)) this.chooseAll();
    else if (event.key === "Escape" && this.selected.size) this.chooseNone();
    else if (event.key === "Delete" && this.selected.size) this.hooks.remove();
    else return;
    event.preventDefault();
  }

  isImage(at) { return !this.collection.describe(at).isFolder; }

  toggle(at) {
    const { key, isFolder } = this.collection.describe(at);
    if (isFolder) return;
    if (!this.selected.delete(key)) this.selected.add(key);
    this.anchor = at;
    this.mark();
  }

  chooseTo(at) {
    const [low, high] = [Math.min(at, this.anchor), Math.max(at, this.anchor)];
    for (let one = low; one <= high; one += 1) {
      const { key, isFolder } = this.collection.describe(one);
      if (!isFolder) this.selected.add(key);
    }
    this.mark();
  }

  chooseAll() {
    for (let at = 0; at < this.length; at += 1) {
      const { key, isFolder } = this.collection.describe(at);
      if (!isFolder) this.selected.add(key);
    }
    this.mark();
  }

  /** Choose those that there are of these. */
  choose(keys) {
    for (const key of keys) if (this.collection.indexOf(key) >= 0) this.selected.add(key);
    this.mark();
  }

  chooseNone() {
    this.selected.clear();
    this.mark();
  }

  mark() {
    for (const { element, described } of this.cells.values()) {
      element.setAttribute("aria-selected", String(this.selected.has(described.key)));
    }
    this.host.classList.toggle("choosing", this.selected.size > 0);
    this.hooks.chosen();
  }

  /** A finger that stays chooses, as on a phone's own photos. */
  watchTouches() {
    let timer = null;
    let began = null;
    const stop = () => clearTimeout(timer);
    this.host.addEventListener("pointerdown", (event) => {
      const at = this.indexOf(event.target);
      if (event.pointerType === "mouse" || at < 0) return;
      this.heldOpen = false;
      began = event;
      timer = setTimeout(() => {
        this.heldOpen = true;
        this.toggle(at);
      }, 450);
    });
    for (const name of ["pointerup", "pointercancel"]) this.host.addEventListener(name, stop);
    this.host.addEventListener("pointermove", (event) => {
      if (began && Math.hypot(event.clientX - began.clientX, event.clientY - began.clientY) > 10) stop();
    });
    this.host.addEventListener("contextmenu", (event) => {
      if (this.heldOpen) event.preventDefault();
    });
  }
}
