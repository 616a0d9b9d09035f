// One picture, as large as the window: its place is kept while it loads, and it can be looked into.

import { button, by, make, say, toast } from "./elements.js";

const CLOSEST = 16; // times the size that fits
const STEP = 1.4;
const SWIPE = 60; // pixels

/** What this fact is called; a shelf that knows it says it, else the picture itself does. */
export const DIMENSIONS = "Dimensions";

export class Viewer {
  /**
   * `hooks.moved(at)` and `hooks.closed()` follow what is looked at; `hooks.shelf()` is where pictures,
   * their facts and what can be done with them come from, `hooks.shape()` what small ones are asked for: whole,
   * since they tell the shape of the place that is kept.
   */
  constructor(hooks) {
    this.hooks = hooks;
    this.dialog = by("viewer");
    this.stage = by("stage");
    this.pointers = new Map();
    this.ahead = [];
    this.isOpen = false;
    this.factsShown = localStorage.getItem("stillroom.facts") === "shown";
    this.dialog.addEventListener("cancel", (event) => {
      event.preventDefault(); // the history closes it, so that Back and Escape are one
      this.hooks.closed();
    });
    this.dialog.addEventListener("keydown", (event) => this.pressed(event));
    by("previous").onclick = () => this.move(-1);
    by("next").onclick = () => this.move(1);
    by("leave").onclick = () => this.hooks.closed();
    by("show-facts").onclick = () => this.toggleFacts();
    by("show-help").onclick = () => by("help").showModal();
    new ResizeObserver(() => this.fit()).observe(this.stage);
    this.listen();
  }

  /** Show `described`, which is at `at` of the shelf, or -1 where that is not known (yet). */
  show(described, at) {
    const shelf = this.hooks.shelf();
    this.at = at;
    if (this.isOpen && this.described?.key === described.key) {
      this.tellPlace();
      return;
    }
    this.described = described;
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.natural = null;
    this.gone = false;
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
    const isLost = activeElement === document.body || activeElement === null || activeElement.disabled;
    if (this.isOpen && isLost) this.stage.focus({ preventScroll: true });
  }

  close() {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.described = null;
    this.ahead = [];
    this.pointers.clear();
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
    say(`${this.described.name}${place && `, ${place}`}`);
  }

  load(shelf, described) {
    const current = () => this.described === described;
    const small = make("img", { class: "small", alt: "", draggable: false });
    const full = make("img", { class: "full", alt: described.name, draggable: false, decoding: "async" });
    small.dataset.key = described.key;
    this.picture = make("div", { class: "picture" }, small, full);
    this.stage.replaceChildren(this.picture);
    this.stage.classList.remove("failed");
    this.holdFocus();
    this.dialog.setAttribute("aria-busy", "true");
    small.onload = () => {
      if (!current() || this.natural) return;
      // A picture smaller than what was asked for is the whole one: nothing will change.
      this.learn(small.naturalWidth, small.naturalHeight, this.smallEdge);
    };
    const shape = this.hooks.shape();
    this.smallEdge = shape.width;
    shelf.show(small, described, shape, () => {});
    full.onload = async () => {
      if (!current()) return;
      this.learn(full.naturalWidth, full.naturalHeight, Infinity);
      await full.decode().catch(() => {});
      if (!current()) return;
      this.picture.classList.add("ready");
      this.dialog.removeAttribute("aria-busy");
      this.preload(shelf);
    };
    full.onerror = () => { if (current()) this.fail(shelf, described); };
    shelf.full(described).then(
      (url) => { if (current()) full.src = url; },
      (error) => { if (current()) this.fail(shelf, described, error); },
    );
  }

  /** The size of the picture, or at least its shape: where the small one is at its `most`, that alone. */
  learn(width, height, most) {
    if (!width || !height) return;
    this.natural = { width, height, isExact: Math.max(width, height) < most };
    this.fit();
    if (most === Infinity) this.tellSize();
  }

  async fail(shelf, described, error) {
    this.dialog.removeAttribute("aria-busy");
    let text = error?.message ?? "This file is no picture that a browser can show.";
    let kept = true;
    if (!error) {
      try {
        kept = Boolean(await shelf.exists(described));
      } catch (refused) {
        text = refused.message;
      }
    }
    if (this.described !== described) return;
    this.gone = !kept;
    if (!kept) text = "This picture is gone: somebody has deleted it.";
    this.stage.classList.add("failed");
    this.stage.replaceChildren(make(
      "div",
      { class: "state" },
      make("h2", {}, kept ? "Nothing to see" : "Gone"),
      make("p", {}, text),
      button("Try again", "again", () => this.load(shelf, described)),
    ));
    say(text);
  }

  preload(shelf) {
    this.ahead = [this.beside(1), this.beside(-1)].filter((at) => at >= 0).map((at) => shelf.describe(at))
      .map((neighbour) => {
        const image = new Image();
        shelf.full(neighbour).then((url) => { image.src = url; }, () => {});
        return image;
      });
  }

  // Facts -----------------------------------------------------------------------------------------

  toggleFacts() {
    this.factsShown = !this.factsShown;
    localStorage.setItem("stillroom.facts", this.factsShown ? "shown" : "");
    this.dialog.classList.toggle("with-facts", this.factsShown);
    by("show-facts").setAttribute("aria-pressed", String(this.factsShown));
    this.loadFacts(this.hooks.shelf(), this.described);
  }

  async loadFacts(shelf, described) {
    by("show-facts").setAttribute("aria-pressed", String(this.factsShown));
    if (!this.factsShown || this.known === described) return;
    this.known = described;
    let rows;
    try {
      rows = await shelf.facts(described);
    } catch (error) {
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
    if (!this.factsShown || !this.natural?.isExact || by("fact-size")) return;
    const { width, height } = this.natural;
    by("facts").prepend(
      make("dt", { id: "fact-size" }, DIMENSIONS),
      make("dd", {}, `${width.toLocaleString()} × ${height.toLocaleString()}`),
    );
  }

  // Moving ----------------------------------------------------------------------------------------

  /** The next picture in a direction, past folders; -1 where none is loaded. */
  beside(step, from = this.at) {
    if (this.at < 0) return -1;
    const shelf = this.hooks.shelf();
    let at = from + step;
    while (at >= 0 && at < shelf.length && shelf.describe(at).isFolder) at += step;
    return at < shelf.length ? at : -1;
  }

  async move(step) {
    const shelf = this.hooks.shelf();
    const from = this.described;
    let at = this.beside(step);
    while (at < 0 && step > 0 && this.at >= 0 && !shelf.complete) {
      try { await shelf.more(); } catch (error) { toast(error.message, { failed: true }); return; }
      if (this.described !== from) return;
      at = this.beside(step);
    }
    if (at >= 0) this.hooks.moved(at);
  }

  jump(toEnd) {
    const last = this.hooks.shelf().length - 1;
    const at = toEnd ? this.beside(-1, last + 1) : this.beside(1, -1);
    if (at >= 0) this.hooks.moved(at);
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const does = {
      ArrowLeft: () => this.move(-1),
      ArrowRight: () => this.move(1),
      Home: () => this.jump(false),
      End: () => this.jump(true),
      "+": () => this.zoom(STEP),
      "=": () => this.zoom(STEP),
      "-": () => this.zoom(1 / STEP),
      0: () => this.zoomTo(1),
      1: () => this.zoomTo(this.actual),
      i: () => this.toggleFacts(),
      "?": () => by("help").showModal(),
      Delete: () => this.hooks.shelf().remove?.(this.described),
    }[event.key];
    if (!does) return;
    event.preventDefault();
    does();
  }

  // Looking closer --------------------------------------------------------------------------------

  fit() {
    if (!this.natural || !this.picture) return;
    const { width, height, isExact } = this.natural;
    const box = this.stage.getBoundingClientRect();
    // Small pictures are not blown up, but for those whose size is not known yet.
    let ratio = Math.min(box.width / width, box.height / height);
    if (isExact && Math.max(width, height) < this.smallEdge) ratio = Math.min(ratio, 1);
    this.width = width * ratio;
    this.height = height * ratio;
    this.actual = isExact ? 1 / ratio / devicePixelRatio : 1;
    Object.assign(this.picture.style, { width: `${this.width}px`, height: `${this.height}px` });
    this.turn();
  }

  turn() {
    if (!this.picture || !this.natural) return;
    const box = this.stage.getBoundingClientRect();
    const [beyondX, beyondY] = [
      Math.max(0, (this.width * this.scale - box.width) / 2),
      Math.max(0, (this.height * this.scale - box.height) / 2),
    ];
    this.x = Math.max(-beyondX, Math.min(beyondX, this.x));
    this.y = Math.max(-beyondY, Math.min(beyondY, this.y));
    this.picture.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.stage.classList.toggle("close", this.scale > 1);
    this.picture.classList.toggle("pixels", this.scale > this.actual * 3);
  }

  zoom(factor, clientX, clientY) { this.zoomTo(this.scale * factor, clientX, clientY); }

  /** So many times the size that fits; the point at `clientX`, `clientY` stays where it is. */
  zoomTo(scale, clientX, clientY) {
    if (!this.natural) return;
    const box = this.stage.getBoundingClientRect();
    const wanted = Math.max(1, Math.min(Math.max(CLOSEST, this.actual * 8), scale));
    const [fromX, fromY] = clientX === undefined
      ? [0, 0]
      : [clientX - box.left - box.width / 2, clientY - box.top - box.height / 2];
    this.x = fromX - (fromX - this.x) * (wanted / this.scale);
    this.y = fromY - (fromY - this.y) * (wanted / this.scale);
    this.scale = wanted;
    this.turn();
  }

  listen() {
    const { stage } = this;
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), event.clientX, event.clientY);
    }, { passive: false });
    stage.addEventListener("dblclick", (event) => {
      const closer = this.actual > 1.2 ? this.actual : 2.5;
      this.zoomTo(this.scale > 1 ? 1 : closer, event.clientX, event.clientY);
    });
    stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.target.closest("button")) return;
      stage.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, event);
      this.began = event;
    });
    stage.addEventListener("pointermove", (event) => {
      const before = this.pointers.get(event.pointerId);
      if (!before) return;
      this.pointers.set(event.pointerId, event);
      if (this.pointers.size === 2) this.pinch(before, event);
      else if (this.scale > 1) {
        this.x += event.clientX - before.clientX;
        this.y += event.clientY - before.clientY;
        this.turn();
      }
    });
    for (const name of ["pointerup", "pointercancel"]) {
      stage.addEventListener(name, (event) => {
        const alone = this.pointers.size === 1;
        if (!this.pointers.delete(event.pointerId) || !alone || name === "pointercancel") return;
        const [x, y] = [event.clientX - this.began.clientX, event.clientY - this.began.clientY];
        const isSwipe = event.pointerType !== "mouse" && this.scale === 1 && !this.pinched;
        if (isSwipe && Math.abs(x) > SWIPE && Math.abs(x) > Math.abs(y)) this.move(x < 0 ? 1 : -1);
        if (isSwipe && y > 2 * SWIPE && y > 2 * Math.abs(x)) this.hooks.closed();
        this.pinched = false;
      });
    }
  }

  pinch(before, now) {
    this.pinched = true;
    const other = [...this.pointers.values()].find(({ pointerId }) => pointerId !== now.pointerId);
    const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
    const middle = [(now.clientX + other.clientX) / 2, (now.clientY + other.clientY) / 2];
    this.zoom(apart(now) / apart(before), ...middle);
  }
}

/** Put a text on the clipboard; where a browser does not allow that, show it to be copied. */
export async function copy(text, what, told = "") {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied. ${told}`);
  } catch {
    const field = make("input", { class: "field", readOnly: true, value: text, "aria-label": what });
    const dialog = make("dialog", { class: "question", "aria-label": what }, field);
    dialog.append(make("div", { class: "answers" }, button("Close", null, () => dialog.close())));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    field.select();
  }
}
