// One picture, as large as the window: its place is kept while it loads, and it can be looked into.

import { DIMENSIONS, Details, MISSING, dimensions } from "./details.js";
import { button, by, complain, make, say, shut } from "./elements.js";
import { end, measuresOf, player, toggle } from "./films.js";
import { Zoom } from "./zoom.js";

const STEP = 1.4;
const OF_CONTROLS = new Set(["ArrowLeft", "ArrowRight", "Home", "End"]); // and of a video's, while they have the focus

/**
 * @typedef {{ shelf: () => Shelf, shape: () => Shape, moved: (at: number) => void,
 *   closed: () => void, keys: () => Record<string, () => unknown> }} Hooks
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
    /** @type {HTMLVideoElement | null} */
    this.film = null;
    /** @type {HTMLImageElement[]} */
    this.ahead = [];
    this.isOpen = false;
    this.details = new Details(this.dialog, { current: () => this.described, measured: () => this.measured() });
    this.dialog.addEventListener("cancel", (/** @type {Event} */ event) => {
      event.preventDefault(); // the history closes it, so that Back and Escape are one
      this.hooks.closed();
    });
    this.dialog.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => this.pressed(event));
    by("previous").onclick = () => this.move(-1);
    by("next").onclick = () => this.move(1);
    by("leave").onclick = () => this.hooks.closed();
    by("show-facts").onclick = () => this.details.toggle(hooks.shelf());
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
    by("viewer-actions").replaceChildren(...shelf.actions(described));
    this.load(shelf, described);
    this.tellPlace();
    this.details.show(shelf);
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
    this.clear();
    shut(this.dialog);
  }

  clear() {
    end(this.film);
    this.film = null;
    this.stage.replaceChildren();
    this.stage.classList.remove("failed");
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
    this.clear();
    this.stage.setAttribute("aria-label", "Image. Plus and minus zoom, arrow keys show the next.");
    if (shelf.isVideo(described)) {
      this.play(shelf, described);
      return;
    }
    const small = make("img", { class: "small", alt: "", draggable: false });
    const full = make("img", { class: "full", alt: described.name, draggable: false, decoding: "async" });
    small.dataset.key = described.key;
    const picture = make("div", { class: "picture" }, small, full);
    this.stage.replaceChildren(picture);
    this.zoom.picture = picture;
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
   * A video; what is only called like one is shown as a picture.
   * @param {Shelf} shelf
   * @param {Described} described
   */
  play(shelf, described) {
    this.film = player(shelf, described, this.hooks.shape(), {
      isWanted: () => this.described === described,
      arrived: () => {
        this.dialog.removeAttribute("aria-busy");
        this.details.measure();
        this.preload(shelf);
      },
      isNone: () => this.load(shelf, described),
      failed: (error) => this.fail(shelf, described, error),
    });
    this.zoom.picture = null;
    this.stage.replaceChildren(this.film);
    this.stage.setAttribute("aria-label", "Video. Space plays it, arrow keys show the next.");
    this.holdFocus();
    this.dialog.setAttribute("aria-busy", "true");
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
    if (most === Infinity) this.details.measure();
  }

  /** @returns {Row[]} what the picture says of itself */
  measured() {
    if (this.film) return measuresOf(this.film);
    const { natural } = this.zoom;
    return natural?.isExact ? [[DIMENSIONS, dimensions(natural.width, natural.height)]] : [];
  }

  /**
   * @param {Shelf} shelf
   * @param {Described} described
   * @param {any} [error]
   */
  async fail(shelf, described, error) {
    this.dialog.removeAttribute("aria-busy");
    let text = error?.message ?? "A browser cannot show this file. Download it to open it elsewhere.";
    let kept = true;
    if (!error) {
      try {
        const found = await shelf.exists(described);
        if (found?.content_type?.startsWith("video/") && !shelf.isVideo(described) && this.described === described) {
          shelf.learn(described, true);
          this.load(shelf, described);
          return;
        }
        kept = Boolean(found);
      } catch (/** @type {any} */ refused) {
        text = refused.message;
      }
    }
    if (this.described !== described) return;
    if (!kept) text = MISSING;
    this.clear();
    this.stage.classList.add("failed");
    this.stage.replaceChildren(make(
      "div",
      { class: "state" },
      make("h2", {}, kept ? "No preview" : "Not found"),
      make("p", {}, text),
      button("Try again", "again", () => this.load(shelf, described)),
    ));
    say(text);
  }

  /** @param {Shelf} shelf */
  preload(shelf) {
    this.ahead = [this.beside(1), this.beside(-1)].filter((at) => at >= 0).map((at) => shelf.describe(at))
      .filter((neighbour) => !shelf.isVideo(neighbour)).map((neighbour) => {
        const image = new Image();
        shelf.full(neighbour).then((url) => { image.src = url; }, () => {});
        return image;
      });
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
    if (event.ctrlKey || event.metaKey || event.altKey || (event.repeat && event.key in this.hooks.keys())) return;
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
      i: () => this.details.toggle(this.hooks.shelf()),
      ...this.hooks.keys(),
      "?": () => by("help").showModal(),
      Delete: () => this.described && this.hooks.shelf().remove(this.described),
    };
    if (this.film && event.target === this.stage) keys[" "] = () => this.film && toggle(this.film);
    const does = keys[event.key];
    if (!does || (event.target === this.film && OF_CONTROLS.has(event.key))) return;
    event.preventDefault();
    does();
  }
}
