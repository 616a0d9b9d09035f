// Two to four pictures side by side, which are zoomed and moved in step, and what differs in how they were made.

import { ASKED, DIMENSIONS } from "./details.js";
import { button, complain, dismiss, make } from "./elements.js";
import { shapeFor } from "./thumbnails.js";
import { partsOf } from "./words.js";
import { Zoom } from "./zoom.js";

export const LEAST = 2;
export const MOST = 4;
const STEP = 1.4;
const MOVED = 60; // pixels
const COMPARED = [
  "Prompt", "Negative prompt", "Model", "LoRAs", "Seed", "Steps", "CFG scale", "Sampler", "Scheduler", ASKED, DIMENSIONS,
  "Made with",
];

/** A picture that follows the others, and they follow it. */
class Linked extends Zoom {
  /**
   * @param {HTMLElement} stage
   * @param {Linked[]} all
   */
  constructor(stage, all) {
    super(stage, { swiped: () => {}, dismissed: () => {} });
    this.all = all;
    this.follows = false;
  }

  /** @override */
  turn() {
    super.turn();
    if (this.follows || !this.natural) return;
    for (const other of this.all) if (other !== this) other.follow(this);
  }

  /** @param {Linked} other */
  follow({ scale, x, y, width, height }) {
    if (!this.natural) return;
    this.follows = true;
    Object.assign(this, { scale, x: (x / width) * this.width, y: (y / height) * this.height });
    this.turn();
    this.follows = false;
  }

  /**
   * Its picture has arrived, and takes the place that the others have.
   * @param {number} width
   * @param {number} height
   */
  arrive(width, height) {
    this.follows = true;
    this.natural = { width, height, isExact: true };
    this.fit();
    this.follows = false;
    const other = this.all.find((one) => one !== this && one.natural);
    if (other) this.follow(other);
  }
}

export class Comparison {
  /**
   * @param {Shelf} shelf
   * @param {Described[]} pictures
   */
  constructor(shelf, pictures) {
    this.shelf = shelf;
    this.pictures = pictures;
    /** @type {Linked[]} */
    this.zooms = [];
    this.columns = pictures.map((described) => this.column(described));
    this.same = make("div", { class: "same" });
    /** @type {HTMLDialogElement} */
    this.dialog = make(
      "dialog",
      { class: "viewer compare", "aria-labelledby": "compare-title" },
      make(
        "div",
        { class: "viewer-bar" },
        button("Back to all images", "back", () => this.dialog.close(), { quiet: true }),
        make(
          "div",
          { class: "viewer-title" },
          make("h2", { id: "compare-title" }, `Compare ${pictures.length} images`),
          make("p", { dir: "auto" }, `Marked: what differs from ${pictures[0].name}`),
        ),
        button("Zoom out", "minus", () => this.lead?.by(1 / STEP), { quiet: true }),
        button("Zoom in", "plus", () => this.lead?.by(STEP), { quiet: true }),
      ),
      make("div", { class: "compared", tabIndex: -1 }, make("div", { class: "columns" }, ...this.columns), this.same),
    );
    this.dialog.addEventListener("keydown", (event) => this.pressed(event));
  }

  /** The picture that the keys and buttons turn. */
  get lead() { return this.zooms.find(({ natural }) => natural); }

  open() {
    const closed = new AbortController();
    document.body.append(this.dialog);
    this.dialog.addEventListener("close", () => {
      closed.abort();
      dismiss(this.dialog);
    });
    addEventListener("popstate", () => this.dialog.close(), { signal: closed.signal });
    this.dialog.showModal();
    this.load();
  }

  /** @param {Described} described */
  column(described) {
    const stage = make("div", { class: "stage", tabIndex: 0, role: "group", "aria-label": `${described.name}. Plus and minus zoom all, arrow keys move them.` });
    const zoom = new Linked(stage, this.zooms);
    this.zooms.push(zoom);
    this.show(described, stage, zoom);
    return make("section", { class: "column", "aria-label": described.name }, stage, make("h3", { dir: "auto" }, described.name));
  }

  /**
   * A picture; of a video its poster.
   * @param {Described} described
   * @param {HTMLElement} stage
   * @param {Linked} zoom
   */
  async show(described, stage, zoom) {
    const { shelf } = this;
    const image = make("img", { class: "full", alt: described.name, draggable: false, decoding: "async" });
    const fail = () => stage.replaceChildren(make("p", {}, "No preview. Download the image to open it elsewhere."));
    image.onerror = fail;
    image.onload = () => {
      zoom.picture = make("div", { class: "picture ready" }, image);
      stage.replaceChildren(zoom.picture);
      zoom.arrive(image.naturalWidth, image.naturalHeight);
    };
    try {
      const isVideo = shelf.isVideo(described);
      const url = await (isVideo ? shelf.poster(described, shapeFor(Infinity, "contain")) : shelf.full(described));
      if (url) image.src = url;
      else fail();
    } catch { fail(); }
  }

  async load() {
    try {
      const facts = await Promise.all(this.pictures.map((described) => this.shelf.facts(described, false)));
      const known = facts.map((rows) => new Map(rows.map(([label, value]) => [label, value])));
      const rows = COMPARED.map((label) => ({ label, texts: known.map((one) => String(one.get(label) ?? "")) }))
        .filter(({ texts }) => texts.some(Boolean));
      this.tell(rows);
    } catch (/** @type {any} */ error) { complain(error.message); }
  }

  /** @param {{ label: string, texts: string[] }[]} rows */
  tell(rows) {
    const isSame = (/** @type {{ texts: string[] }} */ { texts }) => texts.every((text) => text === texts[0]);
    const different = rows.filter((row) => !isSame(row));
    const same = rows.filter(isSame);
    for (const [at, column] of this.columns.entries()) {
      column.append(make("dl", {}, ...different.map(({ label, texts }) => make(
        "div",
        {},
        make("dt", {}, label),
        make("dd", { dir: "auto" }, ...marked(texts, at)),
      ))));
      column.style.gridRow = `span ${different.length + 2}`;
    }
    if (!different.length) this.same.append(make("p", {}, rows.length ? "They were made in the same way." : "They do not say how they were made."));
    if (!same.length) return;
    this.same.append(make("h3", {}, "The same in all"), make("dl", {}, ...same.flatMap(({ label, texts: [text] }) => [
      make("dt", {}, label), make("dd", { dir: "auto" }, text),
    ])));
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const { lead } = this;
    if (!lead || event.ctrlKey || event.metaKey || event.altKey) return;
    /** @type {(x: number, y: number) => () => void} */
    const move = (x, y) => () => {
      Object.assign(lead, { x: lead.x + x, y: lead.y + y });
      lead.turn();
    };
    /** @type {Record<string, () => void>} */
    const keys = {
      "+": () => lead.by(STEP),
      "=": () => lead.by(STEP),
      "-": () => lead.by(1 / STEP),
      0: () => lead.to(1),
      1: () => lead.to(lead.actual),
      ...(lead.scale > 1 && {
        ArrowLeft: move(MOVED, 0), ArrowRight: move(-MOVED, 0), ArrowUp: move(0, MOVED), ArrowDown: move(0, -MOVED),
      }),
    };
    const does = keys[event.key];
    if (!does) return;
    event.preventDefault();
    does();
  }
}

/**
 * A text with marks: the first is compared with all that are not empty, and the others with the first.
 * @param {string[]} texts
 * @param {number} at
 * @returns {(string | HTMLElement)[]}
 */
function marked(texts, at) {
  if (!texts[at]) return [make(at ? "ins" : "del", {}, "none")];
  const others = at ? [texts[0]] : texts.slice(1).filter(Boolean);
  return partsOf(texts[at], others.length ? others : [""]).flatMap(({ text, isCommon }) => {
    const word = text.trimEnd();
    return isCommon ? [text] : [make(at ? "ins" : "del", {}, word), text.slice(word.length)];
  });
}
