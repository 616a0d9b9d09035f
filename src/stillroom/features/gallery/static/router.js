// Where we are: the fragment of the address says it, and the history goes through it.

import { folderOf } from "./elements.js";

/**
 * @typedef {{ view: "folder" | "library", folder: string, picture: string | null,
 *   search: string | null }} Place
 */

/** @param {string} path */
export const fragment = (path) => `#/${path.split("/").map(encodeURIComponent).join("/")}`;

/** @type {(folder: string, search?: string | null) => string} */
export const folderFragment = (folder, search = null) =>
  fragment(folder) + (search === null ? "" : `?${new URLSearchParams({ search })}`);

/** @type {(search: string | null, id?: string | null) => string} */
export const libraryFragment = (search, id = null) => {
  const address = id === null ? "#library" : `#library/${id}`;
  return search ? `${address}?${new URLSearchParams({ search })}` : address;
};

/**
 * A picture, in the search that has found it.
 * @param {Described} described
 * @param {Place | null} place
 */
export const pictureFragment = ({ key, resource }, place) => {
  if (resource) return libraryFragment(place?.search ?? null, key);
  if (!place || place.search === null) return fragment(key);
  return `${fragment(key)}?${new URLSearchParams({ search: place.search, in: place.folder })}`;
};

/**
 * One for each folder, search, and the library with each of its searches.
 * @param {Place} place
 */
export const keyOf = ({ view, folder, search }) =>
  JSON.stringify(view === "library" ? [view, search] : [view, folder, search]);

export class Router {
  /**
   * `home()` is the folder of an address that says nothing; `moved()` is called when the address has changed.
   * @param {{ home: () => string, moved: () => void }} hooks
   */
  constructor(hooks) {
    this.hooks = hooks;
    /** @type {Place | null} */
    this.place = null;
    this.comesBack = false;
    history.scrollRestoration = "manual";
    addEventListener("popstate", () => {
      this.comesBack = true;
      this.hooks.moved();
    });
    document.addEventListener("click", (event) => {
      const link = event.target instanceof Element ? event.target.closest("a[href^='#']") : null;
      if (!link || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.go(link.getAttribute("href") ?? "#");
    });
  }

  /** The place, where there must be one. */
  get here() {
    if (!this.place) throw new Error("no place is shown");
    return this.place;
  }

  /** @param {string} hash */
  go(hash, { replace = false } = {}) {
    this.comesBack = false;
    history[replace ? "replaceState" : "pushState"]({ inside: !replace || history.state?.inside }, "", hash);
    this.hooks.moved();
  }

  /** From a picture to its place. */
  up() {
    const { view, folder, search } = this.here;
    if (history.state?.inside) history.back();
    else this.go(view === "library" ? libraryFragment(search) : folderFragment(folder, search), { replace: true });
  }

  /** Whether this is the place that we are at, perhaps with another picture. */
  isHere(/** @type {Place} */ wanted) {
    const { place } = this;
    if (!place || wanted.view !== place.view || wanted.search !== place.search) return false;
    return wanted.view === "library" || wanted.folder === place.folder;
  }

  /**
   * The fragment taken apart: a folder, a picture in one, the library, or a picture of it.
   * @returns {Place}
   */
  whereabouts() {
    const [address, query = ""] = location.hash.slice(1).split("?");
    const asked = new URLSearchParams(query);
    const search = asked.get("search");
    /** @type {(picture: string | null) => Place} */
    const inLibrary = (picture) => ({ view: "library", folder: "", picture, search: search || null });
    /** @type {(folder: string, picture?: string | null) => Place} */
    const inFolder = (folder, picture = null) => ({ view: "folder", folder, picture, search });
    try {
      if (address === "library") return inLibrary(null);
      if (address.startsWith("library/")) return inLibrary(address.slice(8));
      if (!address.startsWith("/")) return inFolder(this.hooks.home());
      const path = address.slice(1).split("/").map(decodeURIComponent).join("/");
      if (path !== "" && !path.endsWith("/")) return inFolder(search === null ? folderOf(path) : asked.get("in") ?? "", path);
      return inFolder(path);
    } catch {
      return inFolder(this.hooks.home()); // an escape that is none
    }
  }
}
