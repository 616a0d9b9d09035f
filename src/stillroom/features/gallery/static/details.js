// What is known of the picture that is looked at, beside it.

import { copy } from "./actions.js";
import { button, by, make } from "./elements.js";

/** What this fact is called; a shelf that knows it says it, else the picture itself does. */
export const DIMENSIONS = "Dimensions";

/** The same as the tool was asked for; shown where the picture has others. */
export const ASKED = "Asked for";

/** Said where a path has no image: whether there ever was one is not known. */
export const MISSING = "There is no image here. It may have been moved or deleted: search for its name.";

/** The same of a video. */
export const DURATION = "Duration";

/**
 * `1,024 × 768`
 * @type {(width: number, height: number) => string}
 */
export const dimensions = (width, height) => `${width.toLocaleString()} × ${height.toLocaleString()}`;

export class Details {
  /**
   * `current()` is what is looked at; `measured()` is what it says of itself once it has arrived.
   * @param {HTMLElement} dialog
   * @param {{ current: () => Described | null, measured: () => Row[] }} hooks
   */
  constructor(dialog, hooks) {
    this.dialog = dialog;
    this.hooks = hooks;
    /** @type {Described | null} */
    this.known = null; // whose facts are shown
    this.isShown = localStorage.getItem("stillroom.facts") === "shown";
  }

  /**
   * Those of another picture.
   * @param {Shelf} shelf
   */
  show(shelf) {
    by("facts").replaceChildren();
    this.dialog.classList.toggle("with-facts", this.isShown);
    return this.refresh(shelf);
  }

  /** @param {Shelf} shelf */
  toggle(shelf) {
    this.isShown = !this.isShown;
    localStorage.setItem("stillroom.facts", this.isShown ? "shown" : "");
    this.dialog.classList.toggle("with-facts", this.isShown);
    return this.load(shelf);
  }

  /**
   * Read the same facts again: what the server says of them has changed.
   * @param {Shelf} shelf
   */
  refresh(shelf) {
    this.known = null;
    return this.load(shelf);
  }

  /** @param {Shelf} shelf */
  async load(shelf) {
    const described = this.hooks.current();
    by("show-facts").setAttribute("aria-pressed", String(this.isShown));
    if (!this.isShown || !described || this.known === described) return;
    this.known = described;
    /** @type {Row[]} */
    let rows;
    try {
      rows = await shelf.facts(described);
    } catch (/** @type {any} */ error) {
      rows = [["", error.message]];
      this.known = null;
    }
    if (this.hooks.current() !== described) return;
    by("facts").replaceChildren(...rows.flatMap(row));
    this.measure();
  }

  /** Add what the picture says of itself, unless it stands there. */
  measure() {
    if (!this.isShown) return;
    const there = () => new Map([...by("facts").querySelectorAll("dt")].map((one) => [one.textContent, one]));
    const missing = this.hooks.measured().filter(([label]) => !there().has(label));
    by("facts").insertBefore(make("div"), there().get("Size") ?? null).replaceWith(...missing.flatMap(row));
    const [measured, asked] = [DIMENSIONS, ASKED].map((label) => there().get(label));
    if (!asked || measured?.nextSibling?.textContent !== asked.nextSibling?.textContent) return;
    asked.nextSibling?.remove();
    asked.remove();
  }
}

/**
 * @param {Row} fact
 * @returns {HTMLElement[]}
 */
function row([label, value, canCopy]) {
  const copier = canCopy && typeof value === "string"
    ? button(`Copy ${label}`, "copy", () => copy(value, label), { quiet: true }) : null;
  const said = canCopy ? make("span", {}, value) : value;
  return [make("dt", {}, label), make("dd", { dir: "auto", class: canCopy ? "exact" : "" }, said, copier)];
}

/** @param {string} text */
export const when = (text) => new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
