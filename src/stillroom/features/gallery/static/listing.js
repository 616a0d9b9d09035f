// What a folder or the library holds, page by page. The grid asks for more when it comes near the end.

import { posterOf, videoOf, withoutPosters } from "./elements.js";
import { Batch } from "./turns.js";

const FIRST = 200;
const THEN = 2000;
const LARGEST = 10000;
const LIBRARY_PAGE = 200;
const INDEXED_MS = 120_000; // a search finds no longer by then what was deleted

/** @typedef {{ key: string, name: string, isFolder: boolean, resource?: any }} Described */

/**
 * The server's order: that of UTF-8 bytes, which is that of code points, unlike JavaScript's.
 * @param {string} one
 * @param {string} other
 */
export function compare(one, other) {
  const most = Math.min(one.length, other.length);
  for (let at = 0; at < most; at += 1) {
    const [a, b] = [one.charCodeAt(at), other.charCodeAt(at)];
    if (a !== b) return inOrder(a) - inOrder(b);
  }
  return one.length - other.length;
}

/** @param {number} unit */
const inOrder = (unit) => (unit < 0xd800 ? unit : unit < 0xe000 ? unit + 0x2000 : unit - 0x800);

/** @template Item */
export class Pages {
  /**
   * @param {Api} api
   * @param {URL} first
   */
  constructor(api, first) {
    this.api = api;
    this.batch = new Batch(api);
    /** @type {URL | null} */
    this.next = first;
    /** @type {Item[]} */
    this.items = [];
    /** @type {Promise<void> | null} */
    this.under = null;
    /** @type {string | null} */
    this.current = null; // and where it was left
    this.scrolledTo = 0;
    /** @type {Set<string>} */
    this.removed = new Set();
    /** @type {import("./filtering.js").Sieve | null} */
    this.sieve = null;
    this.stop = new AbortController();
  }

  get length() { return this.items.length; }

  get complete() { return this.next === null; }

  /** Load the next page. All who ask meanwhile wait for the same one. */
  more() {
    if (this.complete) return Promise.resolve();
    this.under ??= this.load().finally(() => { this.under = null; });
    return this.under;
  }

  async load() {
    if (!this.next) return;
    const { entries, next } = await this.page(this.next);
    this.items.push(...await this.sieved(entries));
    this.next = next;
  }

  /**
   * What shows of a page.
   * @param {any[]} entries
   * @returns {Promise<Item[]>}
   */
  async sieved(entries) { return this.sieve ? /** @type {any} */ (this.sieve.pass(entries)) : entries; }

  /**
   * @param {URL} url
   * @returns {Promise<{ entries: Item[], next: URL | null }>}
   */
  page(url) { return this.api.page(url, this.stop.signal); }

  /**
   * @param {number} _at
   * @returns {Described}
   */
  describe(_at) { throw new Error("each kind of collection describes its own"); }

  /** @param {string[]} keys */
  remove(keys) {
    const gone = new Set(keys);
    for (const key of gone) this.removed.add(key);
    setTimeout(() => { for (const key of gone) this.removed.delete(key); }, INDEXED_MS);
    this.items = this.items.filter((_, at) => !gone.has(this.describe(at).key));
  }

  /**
   * A search may still find what was deleted or moved here a moment ago; a listing does not.
   * @param {string} path
   */
  async isThere(path) {
    const named = [path, videoOf(path)];
    for (const key of this.removed) {
      if (named.includes(key) || (key.endsWith("/") && path.startsWith(key))) return this.isListed(path);
    }
    return true;
  }

  /** @param {string} path */
  async isListed(path) {
    return (await this.batch.get("storage/images", { prefix: path, limit: 1 }))[0] === path;
  }

  cancel() { this.stop.abort(); }
}

/**
 * One folder, or what begins with a text in it.
 * @extends {Pages<string>}
 */
export class Folder extends Pages {
  /**
   * @param {Api} api
   * @param {string} folder
   */
  constructor(api, folder, begins = "") {
    super(api, api.listing({ prefix: folder + begins, delimiter: "/", limit: FIRST }));
    this.folder = folder;
    this.begins = begins;
    /** @type {string[]} */
    this.late = [];
  }

  /**
   * @param {number} at
   * @returns {Described}
   */
  describe(at) {
    const path = this.items[at];
    return { key: path, name: nameBelow(path, this.folder), isFolder: path.endsWith("/") };
  }

  async load() {
    // A bucket is asked a thousand names at a time, whatever the page: few and large is cheap.
    const isFar = this.sieve || this.length > THEN; // of what is sieved, a page may leave nothing
    if (this.length || isFar) this.next?.searchParams.set("limit", String(isFar ? LARGEST : THEN));
    await super.load();
    for (const path of this.late.splice(0)) this.add(path);
    Object.assign(this, { items: withoutPosters(this.items) });
  }

  /**
   * The entries from `first` on, as they are now.
   * @param {number} first
   * @param {number} limit
   */
  part(first, limit) {
    const before = this.items[first - 1];
    const range = { prefix: this.folder + this.begins, delimiter: "/", limit, ...(before && { start_after: before }) };
    return this.page(this.api.listing(range));
  }

  /** @param {string | null} path */
  indexOf(path) {
    if (path === null) return -1;
    let [low, high] = [0, this.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compare(this.items[middle], path) < 0) low = middle + 1;
      else high = middle;
    }
    if (this.items[low] === path) return low;
    return this.items.indexOf(path); // a bucket's own order may be another
  }

  /**
   * The image or folder that stands for a path here: for a poster its video.
   * @param {string} path
   */
  entryOf(path) {
    const rest = path.slice(this.folder.length);
    if (rest.includes("/")) return this.folder + rest.slice(0, rest.indexOf("/") + 1);
    return this.indexOf(videoOf(path)) >= 0 ? videoOf(path) : path;
  }

  /** @param {string} path */
  holds(path) { return this.indexOf(this.entryOf(path)) >= 0; }

  /**
   * Something was saved: it shows where a listing would show it, if it came that far.
   * @param {string} path
   */
  add(path) {
    if (!path.startsWith(this.folder + this.begins) || this.holds(path)) return false;
    const entry = this.entryOf(path);
    if (this.sieve?.keepsOut(entry)) return false;
    let at = this.items.findIndex((known) => compare(known, entry) > 0);
    if (at < 0) {
      if (!this.complete) {
        this.late.push(path); // the page under way may have been made before
        return false;
      }
      at = this.length;
    }
    this.items.splice(at, 0, entry);
    const poster = this.indexOf(posterOf(entry));
    if (poster >= 0 && videoOf(posterOf(entry)) === entry) this.items.splice(poster, 1);
    return true;
  }
}

/**
 * Whether a resource has neither texts nor tags.
 * @param {Resource} resource
 */
export const isBare = ({ tags, caption, alt_text: alt }) => !tags.length && caption === null && alt === null;

/** @type {(path: string, folder: string) => string} */
export const nameBelow = (path, folder) => path.slice(folder.length).replace(/\/$/, "");

/**
 * The name of the image that it was taken from, as it was in its folder.
 * @type {(resource: Resource) => string}
 */
export const nameInLibrary = ({ source_key: source, id, extension }) =>
  source?.split("/").at(-1) ?? `${id}.${extension}`;

/**
 * The media library, newest first, or what a search finds of it.
 * @extends {Pages<Resource>}
 */
export class Library extends Pages {
  /**
   * @param {Api} api
   * @param {string | null} search
   */
  constructor(api, search) {
    super(api, api.library({ q: search ?? "", limit: LIBRARY_PAGE }));
    this.search = search;
    /** @type {Map<string, Promise<Resource | undefined>>} */
    this.posters = new Map(); // by the keys that they came from
  }

  async load() {
    await super.load();
    const videos = this.items.filter(({ content_type: type }) => type.startsWith("video/"));
    const sources = new Set(videos.map(({ source_key: source }) => posterOf(source ?? "")));
    Object.assign(this, { items: this.items.filter(({ source_key: source }) => !sources.has(source ?? "")) });
  }

  /**
   * The newest resource that came from a key.
   * @param {string} source
   * @returns {Promise<Resource | undefined>}
   */
  async from(source) { return (await this.batch.get("media-resources", { source_key: source, limit: 1 }))[0]; }

  /**
   * Delete the poster of a deleted video, unless another video has it, or it has tags or texts of its own.
   * @param {string} source that the video came from
   */
  async removePoster(source) {
    const [other, poster] = await Promise.all([source, posterOf(source)].map((key) => this.from(key)));
    if (!other && poster && isBare(poster)) await this.api.delete(`media-resources/${poster.id}`);
  }

  /**
   * The poster that was moved with a video, whatever a search finds.
   * @param {string} key that it came from
   */
  poster(key) {
    const poster = this.posters.get(key) ?? this.from(key);
    this.posters.set(key, poster);
    poster.catch(() => this.posters.delete(key)); // to be asked again
    return poster;
  }

  /**
   * @param {number} at
   * @returns {Described}
   */
  describe(at) {
    const resource = this.items[at];
    return { key: resource.id, name: nameInLibrary(resource), isFolder: false, resource };
  }

  /** @param {string | null} id */
  indexOf(id) { return this.items.findIndex((resource) => resource.id === id); }
}
