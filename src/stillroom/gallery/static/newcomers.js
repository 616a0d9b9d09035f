// What others save while a place is open: it appears in a folder, and is counted above a search.

import { by } from "./elements.js";
import { Found } from "./finding.js";
import { Folder } from "./listing.js";

const EVERY_MS = 4000;
const AT_ONCE = 100;

export class Newcomers {
  /** @param {import("./app.js").App} app */
  constructor(app) {
    this.app = app;
    this.isLooking = false;
    /** @type {{ collection: unknown, since: string, seen: Set<string> } | null} */
    this.followed = null;
    setInterval(() => this.look(), EVERY_MS);
    addEventListener("focus", () => this.look());
    by("fresh").onclick = () => this.reload();
  }

  /** A place is shown anew: nothing has come yet. */
  reset() {
    by("fresh").hidden = true;
    this.followed = null;
  }

  /** The same place, with what has come since. */
  reload() {
    const { router, shelf } = this.app;
    if (!router.place || !shelf) return;
    shelf.collection.cancel();
    router.comesBack = false;
    this.app.showPlace({ ...router.place, picture: null });
    scrollTo(0, 0);
  }

  async look() {
    const collection = this.app.shelf?.collection;
    if (!collection || document.hidden || this.isLooking || this.app.states.failure) return;
    if (!collection.length && !collection.complete) return; // its first page is on its way
    this.isLooking = true;
    try {
      if (collection instanceof Found) await this.count(collection);
      else if (collection instanceof Folder) await this.follow(collection);
    } catch { /* the next look may have better luck */ }
    this.isLooking = false;
  }

  /** @param {Found} collection */
  async count(collection) {
    const count = await collection.fresh();
    if (this.app.shelf?.collection !== collection) return;
    if (count && !collection.length) { // nothing is on the page that it could push away
      this.reload();
      return;
    }
    by("fresh").hidden = count === 0;
    by("fresh").textContent = `${count}${count < AT_ONCE ? "" : "+"} new`;
  }

  /** @param {Folder} collection */
  async follow(collection) {
    const { api } = collection;
    const prefix = collection.folder + collection.begins;
    if (this.followed?.collection !== collection) {
      const { items } = await api.found(api.search({ prefix, limit: 1 }), collection.stop.signal);
      const seen = new Set(items.map(({ path, etag }) => `${etag}${path}`));
      this.followed = { collection, since: items[0]?.modified ?? "1970-01-01T00:00:00Z", seen };
      return;
    }
    const { since, seen } = this.followed;
    const url = api.search({ prefix, saved_from: since, sort: "saved", limit: AT_ONCE });
    const { items } = await api.found(url, collection.stop.signal);
    const come = [];
    for (const { path, etag } of items) {
      if (!seen.has(`${etag}${path}`) && await isThere(collection, path)) come.push(path);
    }
    if (this.app.shelf?.collection !== collection || !items.length) return;
    for (const path of come) this.app.saved(path);
    const last = items[items.length - 1].modified;
    this.followed = { collection, since: last, seen: new Set(items.map(({ path, etag }) => `${etag}${path}`)) };
  }
}

/**
 * A search may still find what was deleted here a moment ago; a listing does not.
 * @param {Folder} collection
 * @param {string} path
 */
async function isThere({ api, removed, stop }, path) {
  const isIn = (/** @type {string} */ key) => path === key || (key.endsWith("/") && path.startsWith(key));
  if (![...removed].some(isIn)) return true;
  const { entries } = await api.page(api.listing({ prefix: path, limit: 1 }), stop.signal);
  return entries[0] === path;
}
