// What others save, delete and move while a place is open: a folder follows it, and above a search it is counted.

import { by, hasFeature, say } from "./elements.js";
import { Found } from "./finding.js";
import { Folder } from "./listing.js";

const EVERY_MS = 2000;
const WITHOUT_FEED = 2; // each second look compares, if the server has no events
const AT_ONCE = 100;
const MOST_SAVED = 500; // in a look, and remembered
const REFRESHED_MS = 150;
const LATE_MS = 5000; // the index may learn of a save after it has learned of a later one

/** @typedef {{ opened: number, since: string, seen: Set<string> }} Followed `opened` is the time of the newest then */

export class Newcomers {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.isLooking = false;
    this.hasFeed = hasFeature("events");
    this.hasIndex = hasFeature("search");
    this.looks = 0;
    /** @type {WeakMap<object, string>} where the feed of events goes on */
    this.cursors = new WeakMap();
    /** @type {WeakSet<object>} places with news that they do not show yet */
    this.outdated = new WeakSet();
    /** @type {WeakMap<Folder, Promise<Followed | null>>} */
    this.followed = new WeakMap();
    /** @type {number | undefined} */
    this.refreshing = undefined;
    setInterval(() => this.look(), EVERY_MS);
    addEventListener("focus", () => this.look({ anyway: true }));
    by("fresh").onclick = () => this.reload();
  }

  /** A place is shown. A folder is followed from before it is listed, so that nothing is lost between. */
  reset() {
    by("fresh").hidden = true;
    const { collection } = this.app.shown;
    if (this.hasIndex && collection instanceof Folder && !this.followed.has(collection)) this.begin(collection);
  }

  /** @param {Folder} collection */
  begin(collection) {
    const began = this.newest(collection).catch(() => null);
    this.followed.set(collection, began);
    return began;
  }

  /**
   * @param {Folder} collection
   * @returns {Promise<Followed>}
   */
  async newest({ api, folder, begins, stop }) {
    const { items } = await api.found(api.search({ prefix: folder + begins, limit: 1 }), stop.signal);
    const opened = items.length ? Date.parse(items[0].modified) : 0;
    return { opened, since: lateBy(opened), seen: new Set() };
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

  async look({ anyway = false } = {}) {
    const collection = this.app.shelf?.collection;
    if (!(collection instanceof Found || collection instanceof Folder)) return;
    if (anyway) this.outdated.add(collection); // for the next look, if one is under way
    if (document.hidden || this.isLooking || this.app.states.failure) return;
    if (!collection.length && !collection.complete) return; // its first page is on its way
    this.isLooking = true;
    try {
      if (this.outdated.has(collection) || await this.hasNews(collection)) {
        this.outdated.delete(collection);
        const isShown = await this.update(collection).catch(() => false);
        if (!isShown) this.outdated.add(collection);
      }
    } catch { /* the next look may have better luck */ }
    this.isLooking = false;
  }

  /**
   * Whether the feed has events about a place since the last look. The first look finds the end of the feed.
   * @param {Found | Folder} collection
   */
  async hasNews(collection) {
    this.looks += 1;
    if (!this.hasFeed) return this.looks % WITHOUT_FEED === 0;
    const after = this.cursors.get(collection);
    const prefix = collection.folder + (collection instanceof Folder ? collection.begins : "");
    try {
      const asked = { after: after ?? "latest", types: "image.saved,image.deleted", prefix, limit: MOST_SAVED };
      const { events, next } = await collection.api.get("storage/events", asked);
      this.cursors.set(collection, next);
      return after === undefined || events.length > 0;
    } catch (/** @type {any} */ error) {
      if (error.status === 410) this.cursors.delete(collection);
      else if (error.status === 403 || error.status === 404 || error.status === 501) this.hasFeed = false;
      else throw error;
      return true;
    }
  }

  /**
   * Show the news of a place. False if that has to wait, because a picture is open or a page is on its way.
   * @param {Found | Folder} collection
   */
  async update(collection) {
    if (collection instanceof Folder) return this.follow(collection);
    await this.count(collection);
    return true;
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
    if (collection.sieve) collection.sieve.found = null; // kept elsewhere meanwhile
    const isCompared = await this.compare(collection);
    if (!this.hasIndex) return isCompared;
    const known = await this.followed.get(collection) ?? await this.begin(collection);
    if (!known) return false;
    const { api, folder, begins, stop } = collection;
    const url = api.search({ prefix: folder + begins, saved_from: known.since, sort: "saved", limit: MOST_SAVED });
    const { items } = await api.found(url, stop.signal);
    const news = items.filter(({ path, etag, modified }) => !known.seen.has(etag + path)
      && (Date.parse(modified) > known.opened || !collection.holds(path))).map(({ path }) => path);
    const shown = new Set(await collection.sieved(news));
    for (const path of news) {
      const isNew = shown.has(path) && await collection.isThere(path) && !this.app.keeping.leaving.has(path);
      if (this.app.shelf?.collection !== collection) return false;
      if (isNew) this.saved(path);
    }
    if (known.seen.size > MOST_SAVED) known.seen.clear();
    for (const { path, etag } of items) known.seen.add(etag + path);
    const last = items.at(-1)?.modified;
    if (last) known.since = items.length < MOST_SAVED ? lateBy(Date.parse(last)) : last;
    return isCompared && items.length < MOST_SAVED;
  }

  /**
   * Compare what is on the screen with a listing of that part: the search finds nothing that is gone, and not yet
   * what another tool has put there.
   * @param {Folder} collection
   */
  async compare(collection) {
    const { grid, viewer } = this.app;
    if (collection.sieve) return true; // it shows a part of the listing
    if (viewer.isOpen || collection.under) return false;
    const { first, behind } = grid.range;
    const shown = collection.items.slice(first, behind);
    const { entries, next } = await collection.part(first, shown.length + AT_ONCE);
    if (this.app.shelf?.collection !== collection || viewer.isOpen) return false;
    const there = new Set(entries);
    const isWhole = !next && collection.complete;
    const last = entries.findLastIndex((entry) => collection.indexOf(entry) >= 0);
    const compared = isWhole ? collection.length : collection.indexOf(entries[last] ?? null);
    const gone = shown.filter((entry) => !there.has(entry) && collection.indexOf(entry) < compared);
    const come = entries.filter((entry, at) => (isWhole || at < last) && !collection.removed.has(entry));
    collection.remove(gone);
    const added = come.filter((entry) => collection.add(entry));
    if (gone.length || added.length) this.refreshSoon();
    return true;
  }

  /**
   * @param {string} path
   * @param {{ collection: Folder | Found, at: number } | null} place if the collection does not say where it shows
   */
  saved(path, place = null) {
    this.app.pictures?.forget(path);
    const collection = this.app.shelf?.collection;
    if (place && place.collection === collection) {
      if (place.collection.indexOf(path) < 0) place.collection.items.splice(place.at, 0, path);
      this.follows(place.collection);
    }
    if (!(collection instanceof Folder)) return;
    const entry = collection.entryOf(path);
    const replaced = !entry.endsWith("/") && collection.indexOf(entry) >= 0;
    if (collection.add(path) || replaced) this.follows(collection);
  }

  /** @param {Found | Folder} collection */
  follows(collection) {
    const { viewer } = this.app;
    if (viewer.described) viewer.at = collection.indexOf(viewer.described.key); // the next key counts from it
    this.refreshSoon();
  }

  /** Many small files are saved in a second: the grid follows a few times in it, but never during a click. */
  refreshSoon() {
    this.refreshing ??= setTimeout(() => {
      if (!this.app.grid.gestures.isPressed) return this.refresh();
      this.refreshing = undefined;
      this.refreshSoon();
    }, REFRESHED_MS);
  }

  /** Draw what has changed. */
  refresh() {
    if (this.refreshing === undefined) return;
    clearTimeout(this.refreshing);
    this.refreshing = undefined;
    const { grid, shelf, states, viewer } = this.app;
    if (!shelf) return;
    by("grid").hidden = !shelf.length;
    grid.refresh();
    states.show();
    if (!viewer.isOpen) say(by("told").textContent);
  }
}

/** @param {number} time */
const lateBy = (time) => new Date(Math.max(0, time - LATE_MS)).toISOString();
