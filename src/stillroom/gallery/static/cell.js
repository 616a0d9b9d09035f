// One cell of the grid: a picture or a folder with its name.

import { icon, make } from "./elements.js";

const UNKNOWN_TYPE = "application/octet-stream";

/**
 * @typedef {import("./listing.js").Described} Described
 * @typedef {import("./api.js").Shape} Shape
 * @typedef {import("./thumbnails.js").Failed} Failed
 * @typedef {(image: HTMLImageElement, described: Described, shape: Shape, failed: Failed) => void} Show
 */

export class Cell {
  /**
   * @param {Described} described
   * @param {number} at
   * @param {{ isCurrent: boolean, isSelected: boolean }} state
   */
  constructor(described, at, { isCurrent, isSelected }) {
    const { key, name, isFolder } = described;
    this.described = described;
    this.asked = false;
    this.image = make("img", { alt: "", decoding: "async", draggable: false });
    this.image.dataset.key = key;
    const frame = make("span", { class: "frame" }, this.image);
    this.element = make(
      "div",
      {
        class: isFolder ? "cell folder" : "cell",
        role: "option",
        tabIndex: isCurrent ? 0 : -1,
        "aria-selected": String(isSelected),
        "aria-posinset": String(at + 1),
        "aria-label": isFolder ? `${name}, folder` : name,
        title: name,
      },
      frame,
      isFolder ? null : make("span", { class: "mark", "aria-hidden": "true" }, icon("check")),
      make("span", { class: "caption", dir: "auto" }, name),
    );
    this.element.dataset.at = String(at);
    if (isFolder) frame.append(icon("folder"));
    this.image.onload = () => this.element.classList.add("loaded");
  }

  /**
   * Ask for its picture.
   * @param {Show} show
   * @param {Shape} shape
   */
  load(show, shape) {
    this.asked = true;
    show(this.image, this.described, shape, (_, facts) => {
      if (!this.element.isConnected) return;
      this.element.classList.add("plain");
      const suffix = /\.([A-Za-z0-9]{1,5})$/.exec(this.described.name)?.[1] ?? "";
      const type = facts?.content_type ?? UNKNOWN_TYPE;
      const kind = type === UNKNOWN_TYPE ? suffix : type.split("/").at(-1)?.slice(0, 12);
      if (!this.element.querySelector(".kind")) {
        this.image.after(make("span", { class: "kind", "aria-hidden": "true" }, kind || "file"));
      }
    });
  }

  drop() {
    this.image.onload = null;
    this.image.onerror = null;
    this.image.dataset.key = "";
    this.image.removeAttribute("src"); // what has not arrived is not waited for
    this.element.remove();
  }
}
