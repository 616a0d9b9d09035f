// What a folder or the library holds, page by page. The grid asks for more when it comes near the end.

const FIRST = 200;
const THEN = 2000;
const LARGEST = 10000;
const LIBRARY_PAGE = 200;

/** The server's order: that of UTF-8 bytes, which is that of code points, unlike JavaScript's. */
export function compare(one, other) {
  const most = Math.min(one.length, other.length);
  for (let at = 0; at < most; at += 1) {
    const [a, b] = [one.charCodeAt(at), other.charCodeAt(at)];
    if (a !== b) return inOrder(a) - inOrder(b);
  }
  return one.length - other.length;
}

const inOrder = (unit) => (unit < 0xd800 ? unit : unit < 0xe000 ? unit + 0x2000 : unit - 0x800);

class Pages {
  constructor(api, first) {
    this.api = api;
    this.next = first;
    this.items = [];
    this.under = null;
    this.current = null; // and where it was left
    this.scrolledTo = 0;
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
    const { entries, next } = await this.api.page(this.next, this.stop.signal);
    this.items.push(...entries.map((entry) => this.itemOf(entry)));
    this.next = next;
  }

  remove(keys) {
    const gone = new Set(keys);
    this.items = this.items.filter((_, at) => !gone.has(this.describe(at).key));
  }

  cancel() { this.stop.abort(); }
}

/** One folder, or what begins with a text in it. */
export class Folder extends Pages {
  constructor(api, folder, begins = "") {
    super(api, api.listing({ prefix: folder + begins, delimiter: "/", limit: FIRST }));
    this.folder = folder;
    this.begins = begins;
    this.late = [];
  }

  itemOf(path) { return path; }

  describe(at) {
    const path = this.items[at];
    return { key: path, name: nameBelow(path, this.folder), isFolder: path.endsWith("/") };
  }

  async load() {
    // A bucket is asked a thousand names at a time, whatever the page: few and large is cheap.
    if (this.length) this.next.searchParams.set("limit", this.length > THEN ? LARGEST : THEN);
    await super.load();
    for (const path of this.late.splice(0)) this.add(path);
  }

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

  /** Something was saved: it shows where a listing would show it, if it came that far. */
  add(path) {
    if (!path.startsWith(this.folder + this.begins)) return false;
    const rest = path.slice(this.folder.length);
    const entry = rest.includes("/") ? this.folder + rest.slice(0, rest.indexOf("/") + 1) : path;
    if (this.indexOf(entry) >= 0) return false;
    let at = this.items.findIndex((known) => compare(known, entry) > 0);
    if (at < 0) {
      if (!this.complete) {
        this.late.push(path); // the page under way may have been made before
        return false;
      }
      at = this.length;
    }
    this.items.splice(at, 0, entry);
    return true;
  }
}

const nameBelow = (path, folder) => path.slice(folder.length).replace(/\/$/, "");

/** The media library, newest first. */
export class Library extends Pages {
  constructor(api) { super(api, api.library(LIBRARY_PAGE)); }

  itemOf(resource) { return resource; }

  describe(at) {
    const resource = this.items[at];
    const source = resource.source_key?.split("/").at(-1);
    const name = resource.alt_text || resource.caption || source || `${resource.id}.${resource.extension}`;
    return { key: resource.id, name, isFolder: false, resource };
  }

  indexOf(id) { return this.items.findIndex((resource) => resource.id === id); }
}
