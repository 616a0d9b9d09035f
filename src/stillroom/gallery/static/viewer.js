// One picture, as large as the window: its place is kept while it loads, and it can be looked into.

import { copy } from "./clipboard.js";
import { button, by, complain, make, say } from "./elements.js";
import { Zoom } from "./zoom.js";

const STEP = 1.4;

/** What this fact is called; a shelf that knows it says it, else the picture itself does. */
export const DIMENSIONS = "Dimensions";

/**
 * @typedef {import("./listing.js").Described} Described
 * @typedef {import("./shelves.js").FolderShelf | import("./shelves.js").LibraryShelf} Shelf
 * @typedef {{ shelf: () => Shelf, shape: () => import("./api.js").Shape, moved: (at: number) => void,
 *   closed: () => void }} Hooks
 */

export class Viewer {
  /**
   * `hooks.moved(at)` and `hooks.closed()` follow what is looked at; `hooks.shelf()` is where pictures,
   * their facts and what can be done with them come from, `hooks.shape()` what small ones are asked for: whole,
   * since they tell the shape of the place that is kept.
   * @param {Hooks} hooks
   */
  constructor(hooks) {
    this.hooks = hooks;
    this.dialog = by("viewer");
    this.stage = by("stage");
    this.zoom = new Zoom(this.stage, { swiped: (step) => this.move(step), dismissed: () => hooks.closed() });
    this.at = -1;
    /** @type {Described | null} */
    this.described = null;
    /** @type {Described | null} */
    this.known = null; // whose facts are shown
    /** @type {HTMLImageElement[]} */
    this.ahead = [];
    this.isOpen = false;
    this.factsShown = localStorage.getItem("stillroom.facts") === "shown";
    this.dialog.addEventListener("cancel", (/** @type {Event} */ event) => {
      event.preventDefault(); // the history closes it, so that Back and Escape are one
      this.hooks.closed();
    });
    this.dialog.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => this.pressed(event));
    by("previous").onclick = () => this.move(-1);
    by("next").onclick = () => this.move(1);
    by("leave").onclick = () => this.hooks.closed();
    by("show-facts").onclick = () => this.toggleFacts();
    by("show-help").onclick = () => by("help").showModal();
  }

  /**
   * Show `described`, which is at `at` of the shelf, or -1 where that is not known (yet).
   * @param {Described} described
   * @param {number} at
   */
  show(described, at) {
    const shelf = this.hooks.shelf();
    this.at = at;
    if (this.isOpen && this.described?.key === described.key) {
      this.tellPlace();
      return;
    }
    this.described = described;
    this.zoom.reset();
    if (!this.isOpen) {
      this.isOpen = true;
      this.dialog.showModal();
      this.stage.focus({ preventScroll: true });
    }
    by("viewer-name").textContent = described.name;
    by("facts").replaceChildren(); // those of another picture
    by("viewer-actions").replaceChildren(...shelf.actions(described));
    this.load(shelf, described);
    this.tellPlace();
    this.dialog.classList.toggle("with-facts", this.factsShown);
    this.loadFacts(shelf, described);
  }

  /** A button that had the focus has gone, or does nothing now: without this the keys would be dead. */
  holdFocus() {
    const { activeElement } = document;
    const isLost = activeElement === null || activeElement.matches("body, :disabled");
    if (this.isOpen && isLost) this.stage.focus({ preventScroll: true });
  }

  close() {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.described = null;
    this.ahead = [];
    this.zoom.pointers.clear();
    this.stage.replaceChildren();
    this.dialog.close();
  }

  tellPlace() {
    const shelf = this.hooks.shelf();
    const place = this.at < 0 ? "" : `${(this.at + 1).toLocaleString()} of ${shelf.total()}`;
    by("viewer-place").textContent = place;
    by("previous").disabled = this.beside(-1) < 0;
    by("next").disabled = this.beside(1) < 0 && (this.at < 0 || shelf.complete);
    this.holdFocus();
    say([this.described?.name, place].filter(Boolean).join(", "));
  }

  /**
   * @param {Shelf} shelf
   * @param {Described} described
   */
  load(shelf, described) {
    const current = () => this.described === described;
    const small = make("img", { class: "small", alt: "", draggable: false });
    const full = make("img", { class: "full", alt: described.name, draggable: false, decoding: "async" });
    small.dataset.key = described.key;
    const picture = make("div", { class: "picture" }, small, full);
    this.stage.replaceChildren(picture);
    this.zoom.picture = picture;
    this.stage.classList.remove("failed");
    this.holdFocus();
    this.dialog.setAttribute("aria-busy", "true");
    small.onload = () => {
      if (!current() || this.zoom.natural) return;
      // A picture smaller than what was asked for is the whole one: nothing will change.
      this.learn(small.naturalWidth, small.naturalHeight, shape.width);
    };
    const shape = this.hooks.shape();
    this.zoom.smallEdge = shape.width;
    shelf.show(small, described, shape, () => {});
    full.onload = async () => {
      if (!current()) return;
      this.learn(full.naturalWidth, full.naturalHeight, Infinity);
      await full.decode().catch(() => {});
      if (!current()) return;
      picture.classList.add("ready");
      this.dialog.removeAttribute("aria-busy");
      this.preload(shelf);
    };
    full.onerror = () => { if (current()) this.fail(shelf, described); };
    shelf.full(described).then(
      (url) => { if (current()) full.src = url; },
      (error) => { if (current()) this.fail(shelf, described, error); },
    );
  }

  /**
   * The size of the picture, or at least its shape: where the small one is at its `most`, that alone.
   * @param {number} width
   * @param {number} height
   * @param {number} most
   */
  learn(width, height, most) {
    if (!width || !height) return;
    this.zoom.natural = { width, height, isExact: Math.max(width, height) < most };
    this.zoom.fit();
    if (most === Infinity) this.tellSize();
  }

  /**
   * @param {Shelf} shelf
   * @param {Described} described
   * @param {any} [error]
   */
  async fail(shelf, described, error) {
    this.dialog.removeAttribute("aria-busy");
    let text = error?.message ?? "A browser cannot show this file as an image.";
    let kept = true;
    if (!error) {
      try {
        kept = Boolean(await shelf.exists(described));
      } catch (/** @type {any} */ refused) {
        text = refused.message;
      }
    }
    if (this.described !== described) return;
    if (!kept) text = "This image has been deleted.";
    this.stage.classList.add("failed");
    this.stage.replaceChildren(make(
      "div",
      { class: "state" },
      make("h2", {}, kept ? "No preview" : "Deleted"),
      make("p", {}, text),
      button("Try again", "again", () => this.load(shelf, described)),
    ));
    say(text);
  }

  /** @param {Shelf} shelf */
  preload(shelf) {
    this.ahead = [this.beside(1), this.beside(-1)].filter((at) => at >= 0).map((at) => shelf.describe(at))
      .map((neighbour) => {
        const image = new Image();
        shelf.full(neighbour).then((url) => { image.src = url; }, () => {});
        return image;
      });
  }

  toggleFacts() {
    this.factsShown = !this.factsShown;
    localStorage.setItem("stillroom.facts", this.factsShown ? "shown" : "");
    this.dialog.classList.toggle("with-facts", this.factsShown);
    by("show-facts").setAttribute("aria-pressed", String(this.factsShown));
    this.loadFacts(this.hooks.shelf(), this.described);
  }

  /**
   * @param {Shelf} shelf
   * @param {Described | null} described
   */
  async loadFacts(shelf, described) {
    by("show-facts").setAttribute("aria-pressed", String(this.factsShown));
    if (!this.factsShown || !described || this.known === described) return;
    this.known = described;
    /** @type {import("./shelves.js").Row[]} */
    let rows;
    try {
      rows = await shelf.facts(described);
    } catch (/** @type {any} */ error) {
      rows = [["", error.message]];
      this.known = null;
    }
    if (this.described !== described) return;
    by("facts").replaceChildren(...rows.flatMap(([label, value, canCopy]) => [
      make("dt", { id: label === DIMENSIONS ? "fact-size" : null }, label),
      make(
        "dd",
        { dir: "auto", class: canCopy ? "exact" : "" },
        value,
        canCopy ? button(`Copy ${label}`, "copy", () => copy(value, label), { quiet: true }) : null,
      ),
    ]));
    this.tellSize();
  }

  tellSize() {
    if (!this.factsShown || !this.zoom.natural?.isExact || by("fact-size")) return;
    const { width, height } = this.zoom.natural;
    by("facts").prepend(
      make("dt", { id: "fact-size" }, DIMENSIONS),
      make("dd", {}, `${width.toLocaleString()} × ${height.toLocaleString()}`),
    );
  }

  /**
   * The next picture in a direction, past folders; -1 where none is loaded.
   * @param {number} step
   */
  beside(step, from = this.at) {
    if (this.at < 0) return -1;
    const shelf = this.hooks.shelf();
    let at = from + step;
    while (at >= 0 && at < shelf.length && shelf.describe(at).isFolder) at += step;
    return at < shelf.length ? at : -1;
  }

  /** @param {number} step */
  async move(step) {
    const shelf = this.hooks.shelf();
    const from = this.described;
    let at = this.beside(step);
    while (at < 0 && step > 0 && this.at >= 0 && !shelf.complete) {
      try { await shelf.more(); } catch (/** @type {any} */ error) { complain(error.message); return; }
      if (this.described !== from) return;
      at = this.beside(step);
    }
    if (at >= 0) this.hooks.moved(at);
  }

  /** @param {boolean} toEnd */
  jump(toEnd) {
    const last = this.hooks.shelf().length - 1;
    const at = toEnd ? this.beside(-1, last + 1) : this.beside(1, -1);
    if (at >= 0) this.hooks.moved(at);
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    /** @type {Record<string, () => unknown>} */
    const keys = {
      ArrowLeft: () => this.move(-1),
      ArrowRight: () => this.move(1),
      Home: () => this.jump(false),
      End: () => this.jump(true),
      "+": () => this.zoom.by(STEP),
      "=": () => this.zoom.by(STEP),
      "-": () => this.zoom.by(1 / STEP),
      0: () => this.zoom.to(1),
      1: () => this.zoom.to(this.zoom.actual),
      i: () => this.toggleFacts(),
      "?": () => by("help").showModal(),
      Delete: () => this.described && this.hooks.shelf().remove(this.described),
    };
    const does = keys[event.key];
    if (!does) return;
    event.preventDefault();
    does();
  }
}
