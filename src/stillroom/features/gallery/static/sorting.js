// The order of the images of a place: by name as folders are listed, or as a search sorts all that is below.

import { by, hasFeature } from "./elements.js";

const BY_NAME = "path";
const NEWEST = "-saved"; // of a search that says nothing

/** The menu *Sort*. */
export class Sorting {
  /** @param {import("./bar.js").Bar} bar */
  constructor(bar) {
    this.bar = bar;
    by("sort").onchange = () => this.choose(by("sort").value);
  }

  /** @param {Place} place */
  show({ view, search, sort }) {
    by("sort").hidden = view === "library" || !hasFeature("search");
    by("sort").value = search === null ? BY_NAME : sort || NEWEST;
  }

  /** @param {string} sort */
  choose(sort) {
    const text = this.bar.app.router.here.search?.trim() ?? "";
    if (sort === BY_NAME && !text) this.bar.search(null, "");
    else this.bar.search(text, sort === NEWEST ? "" : sort);
  }
}
