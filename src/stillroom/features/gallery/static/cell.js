// One cell of the grid: a picture or a folder with its name.

import { icon, make } from "./elements.js";
import { clock, firstFrame } from "./films.js";

const UNKNOWN_TYPE = "application/octet-stream";

/**
 * @param {string} drawing names it, too
 * @param {string} text
 */
const badge = (drawing, text = "") => make("span", { class: `badge ${drawing}` }, icon(drawing), text);

export class Cell {
  /**
   * @param {Described} described
   * @param {number} at
   * @param {{ href: string, isCurrent: boolean, isSelected: boolean }} state
   */
  constructor(described, at, { href, isCurrent, isSelected }) {
    const { key, name, isFolder, resource } = described;
    this.described = described;
    /** @type {Set<string>} */
    this.traits = new Set(resource?.alt_text ? [resource.alt_text] : []); // what is said behind its name
    this.asked = false;
    this.cover = ""; // of a folder, the newest
    this.image = make("img", { alt: "", decoding: "async", draggable: false });
    this.image.dataset.key = key;
    this.badges = make("span", { class: "badges", "aria-hidden": "true" });
    const frame = make("span", { class: "frame" }, this.image, this.badges);
    this.element = make(
      "a", // for a new tab, and for its address
      {
        class: isFolder ? "cell folder" : "cell",
        href,
        draggable: false,
        role: "option",
        tabIndex: isCurrent ? 0 : -1,
        "aria-selected": String(isSelected),
        "aria-posinset": String(at + 1),
        "aria-label": isFolder ? `${name}, folder` : [name, ...this.traits].join(", "),
        title: name,
      },
      frame,
      make("span", { class: "mark", "aria-hidden": "true" }, icon("check")),
      make("span", { class: "caption", dir: "auto" }, name),
    );
    if (isFolder) frame.append(icon("folder"));
    this.image.onload = () => this.element.classList.add("loaded");
  }

  /**
   * Ask for its picture.
   * @param {Shelf} shelf
   * @param {Shape} shape
   */
  load(shelf, shape) {
    this.asked = true;
    if (this.described.isFolder) this.loadFolder(shelf, shape);
    else if (shelf.isVideo(this.described)) this.loadVideo(shelf, shape);
    else this.loadPicture(shelf, shape);
    this.tellKept(shelf);
  }

  /** @param {Shelf} shelf */
  async tellKept(shelf) {
    if (await shelf.isKept(this.described) && this.element.isConnected) this.mark("in the library", badge("keep"));
  }

  /**
   * Say something of it, by a badge and to a screen reader.
   * @param {string} trait
   * @param {HTMLElement} shown
   */
  mark(trait, shown) {
    if (this.traits.has(trait)) return;
    this.badges.append(shown);
    this.tell(trait);
  }

  /** @param {string} trait */
  tell(trait, isSo = true) {
    if (isSo) this.traits.add(trait);
    else this.traits.delete(trait);
    this.element.setAttribute("aria-label", [this.described.name, ...this.traits].join(", "));
  }

  /**
   * @param {Shelf} shelf
   * @param {Shape} shape
   */
  loadPicture(shelf, shape) {
    shelf.show(this.image, this.described, shape, (_, facts) => {
      if (!this.element.isConnected) return;
      if (facts?.content_type.startsWith("video/") && !shelf.isVideo(this.described)) {
        shelf.learn(this.described, true);
        this.loadVideo(shelf, shape);
      } else this.showKind(facts);
    }, () => { if (this.element.isConnected) this.mark("cut off", badge("cut", "Cut off")); });
  }

  /**
   * A video: its poster, or else its first frame, and how long it is.
   * @param {Shelf} shelf
   * @param {Shape} shape
   */
  async loadVideo(shelf, shape) {
    const { described, element, image } = this;
    const mark = badge("play", clock(described.resource?.duration));
    this.mark("video", mark);
    image.onerror = () => { // many have no poster
      image.removeAttribute("src");
      shelf.lacksPoster(described);
    };
    shelf.poster(described, shape).then((url) => { if (url && image.dataset.key) image.src = url; }, () => {});
    const url = await shelf.film(described).catch(() => null);
    const still = url ? await firstFrame(url, shape.width, () => element.isConnected) : null;
    if (!element.isConnected) return;
    if (still) {
      shelf.learn(described, true);
      image.before(still.frame);
      element.classList.add("loaded");
      if (!mark.textContent) mark.append(clock(still.seconds));
    } else if (shelf.isCertain(described)) this.showKind(described.resource);
    else { // only called like one
      mark.remove();
      this.tell("video", false);
      shelf.learn(described, false);
      this.loadPicture(shelf, shape);
    }
  }

  /**
   * A folder: the newest picture in it, how many there are, and whether it is a published run.
   * @param {Shelf} shelf
   * @param {Shape} shape
   */
  async loadFolder(shelf, shape) {
    const { described, element } = this;
    const isThere = () => element.isConnected;
    const looks = await shelf.folder(described, isThere, () => { if (isThere()) this.loadFolder(shelf, shape); });
    if (!looks || !isThere()) return;
    const kind = looks.run ? "published run" : "folder";
    element.setAttribute("aria-label", [described.name, kind, looks.told].filter(Boolean).join(", "));
    element.querySelector(".amount")?.remove();
    element.append(make("span", { class: "amount", "aria-hidden": "true" }, looks.run ? icon("run") : null, looks.told));
    const [newest = ""] = looks.covers;
    if (newest === this.cover) return;
    this.cover = newest;
    this.showCover(shelf, shape, looks.covers);
  }

  /**
   * The first of these that has a picture.
   * @param {Shelf} shelf
   * @param {Shape} shape
   * @param {string[]} covers
   */
  showCover(shelf, shape, [key, ...others]) {
    if (!key || !this.element.isConnected) return;
    this.image.dataset.key = key;
    const failed = () => { if (this.image.dataset.key === key) this.showCover(shelf, shape, others); };
    shelf.show(this.image, { ...this.described, key, isFolder: false }, shape, failed);
  }

  /**
   * There is nothing to show of it but its type.
   * @param {{ content_type: string } | null | undefined} facts
   */
  showKind(facts) {
    if (this.element.querySelector(".kind")) return;
    this.element.classList.add("plain");
    const suffix = /\.([A-Za-z0-9]{1,5})$/.exec(this.described.name)?.[1] ?? "";
    const type = facts?.content_type ?? UNKNOWN_TYPE;
    const kind = type === UNKNOWN_TYPE ? suffix : type.split("/").at(-1)?.slice(0, 12);
    this.image.after(make("span", { class: "kind", "aria-hidden": "true" }, kind || "file"));
  }

  drop() {
    this.image.onload = null;
    this.image.onerror = null;
    this.image.dataset.key = "";
    this.image.removeAttribute("src"); // what has not arrived is not waited for
    this.element.remove();
  }
}
