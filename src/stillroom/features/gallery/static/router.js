// Where we are: the fragment of the address says it, and the history goes through it.

import { folderOf } from "./elements.js";

/**
 * @typedef {{ view: "folder" | "library", folder: string, picture: string | null,
 *   search: string | null, sort: string, only: string }} Place `sort` is "" for the usual order, `only` is "kept",
 *   "unkept" or ""
 */

/** @param {string} path */
export const fragment = (path) => `#/${path.split("/").map(encodeURIComponent).join("/")}`;

/** @type {(folder: string, search?: string | null, sort?: string) => string} */
export const folderFragment = (folder, search = null, sort = "") =>
  fragment(folder) + (search === null ? "" : `?${new URLSearchParams({ search, ...(sort && { sort }) })}`);

/**
 * An address with kept pictures only, or without them.
 * @param {string} address
 * @param {string} only
 */
export function withOnly(address, only) {
  const [place, query] = address.split("?");
  const asked = new URLSearchParams(query);
  asked.delete("only");
  if (only) asked.set("only", only);
  return asked.size ? `${place}?${asked}` : place;
}

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
  if (!place || place.search === null) return withOnly(fragment(key), place?.only ?? "");
  const { search, sort, folder, only } = place;
  return withOnly(`${fragment(key)}?${new URLSearchParams({ search, ...(sort && { sort }), in: folder })}`, only);
};

/**
 * One for each folder, search, and the library with each of its searches.
 * @param {Place} place
 */
export const keyOf = ({ view, folder, search, sort, only }) =>
  JSON.stringify(view === "library" ? [view, search] : [view, folder, search, sort, only]);

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
    const { view, folder, search, sort, only } = this.here;
    const address = view === "library" ? libraryFragment(search) : withOnly(folderFragment(folder, search, sort), only);
    if (history.state?.inside) history.back();
    else this.go(address, { replace: true });
  }

  /** Whether this is the place that we are at, perhaps with another picture. */
  isHere(/** @type {Place} */ wanted) {
    const { place } = this;
    if (!place || wanted.view !== place.view || wanted.search !== place.search || wanted.only !== place.only) return false;
    return wanted.view === "library" || (wanted.folder === place.folder && wanted.sort === place.sort);
  }

  /**
   * The fragment taken apart: a folder, a picture in one, the library, or a picture of it.
   * @returns {Place}
   */
  whereabouts() {
    const [address, query = ""] = location.hash.slice(1).split("?");
    const asked = new URLSearchParams(query);
    const search = asked.get("search");
    const sort = search === null ? "" : asked.get("sort") ?? "";
    const only = /^(?:un)?kept$/.exec(asked.get("only") ?? "")?.[0] ?? "";
    /** @type {(picture: string | null) => Place} */
    const inLibrary = (picture) => ({ view: "library", folder: "", picture, search: search || null, sort: "", only: "" });
    /** @type {(folder: string, picture?: string | null) => Place} */
    const inFolder = (folder, picture = null) => ({ view: "folder", folder, picture, search, sort, only });
    try {
      if (address === "library") return inLibrary(null);
      if (address.startsWith("library/")) return inLibrary(address.slice(8));
      if (!address.startsWith("/")) return inFolder(this.hooks.home());
      const path = address.slice(1).split("/").map(decodeURIComponent).join("/");
      if (path !== "" && !path.endsWith("/")) return inFolder(search === null ? folderOf(path) : asked.get("in") ?? "", path);
      const home = this.hooks.home();
      return inFolder(home.startsWith(path) ? home : path); // a limited token is of no use above its folder
    } catch {
      return inFolder(this.hooks.home()); // an escape that is none
    }
  }
}
