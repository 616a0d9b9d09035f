// A search in a folder, usually the newest first: what was asked for, its pages, and what has come since.

import { videoOf } from "./elements.js";
import { Pages, nameBelow } from "./listing.js";

const A_PAGE = 100;

/**
 * Paths of images, also of deeper folders.
 * @extends {Pages<string>}
 */
export class Found extends Pages {
  /**
   * @param {Api} api
   * @param {string} folder
   * @param {string} search
   * @param {string} sort "" for the newest first
   */
  constructor(api, folder, search, sort = "") {
    const asked = { q: search, prefix: folder, limit: A_PAGE };
    const first = api.search({ ...asked, ...(sort && { sort }) });
    super(api, first);
    this.first = first;
    this.newest = api.search(asked);
    /** @type {Set<string> | null} */
    this.seen = null; // the newest when they were first counted, if the order is another one
    this.isSorted = sort !== "";
    this.folder = folder;
    this.search = search;
    /** @type {Set<string>} */
    this.alone = new Set(); // posters without a video
  }

  /**
   * @override
   * @param {URL} url
   */
  async page(url) {
    const { items, next } = await this.api.found(url, this.stop.signal);
    const known = new Set(this.items); // a copy saved meanwhile may come twice
    const entries = (await this.folded(items)).filter((path) => !known.has(path));
    const after = new URL(this.first);
    after.searchParams.set("cursor", next ?? "");
    return { entries, next: next ? after : null };
  }

  /**
   * What was found, with videos in place of their posters.
   * @param {Facts[]} items
   */
  async folded(items) {
    const known = new Set([...this.items, ...items.map(({ path }) => path)]);
    const paths = await Promise.all(items.map(async ({ path }) => {
      if (!await this.isThere(path)) return null;
      const video = videoOf(path);
      if (known.has(video)) return video;
      if (!this.alone.has(path) && await this.isListed(video)) return video;
      this.alone.add(path);
      return path;
    }));
    return [...new Set(paths)].filter((path) => path !== null);
  }

  /** How many have come since the first page was loaded; all of a page: at least so many. */
  async fresh() {
    const { items } = await this.api.found(this.newest, this.stop.signal);
    if (this.sieve) this.sieve.found = null; // kept elsewhere meanwhile
    const entries = await this.sieved(await this.folded(items));
    if (this.isSorted) this.seen ??= new Set(entries);
    const at = entries.findIndex((path) => (this.seen ? this.seen.has(path) : path === this.items[0]));
    return at < 0 ? entries.length : at;
  }

  /**
   * @param {number} at
   * @returns {Described}
   */
  describe(at) {
    const path = this.items[at];
    return { key: path, name: nameBelow(path, this.folder), isFolder: false };
  }

  /** @param {string | null} path */
  indexOf(path) { return path === null ? -1 : this.items.indexOf(path); }
}
