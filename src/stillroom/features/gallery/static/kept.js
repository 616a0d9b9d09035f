// Which images of a folder the library has: asked for those that show, together.

import { ask, count, make, nameOf } from "./elements.js";
import { isBare } from "./listing.js";
import { Batch, Turns } from "./turns.js";

const ASKED_AT_ONCE = 50; // as often a parameter may be given
const LONGEST = 5000; // characters of a query before its last path, of up to 3100; servers take 8 KB of a target
const AT_ONCE = 2;
const A_PAGE = 1000;
export const IN_PLACE = "compute/"; // before the paths of images that are in folders

/**
 * @typedef {{ path: string, resolve: (key: string) => void }} Waiter
 */

export class Kept {
  /** @param {Api} api */
  constructor(api) {
    this.api = api;
    this.batch = new Batch(api);
    this.turns = new Turns(AT_ONCE);
    /** @type {Map<string, Promise<string>>} */
    this.known = new Map();
    /** @type {Waiter[]} */
    this.waiting = [];
  }

  /**
   * Where the library has this very image, by the path that it was taken from; "" if it has not.
   * @param {string} path
   */
  has(path) {
    const known = this.known.get(path);
    if (known) return known;
    /** @type {Promise<string>} */
    const answer = new Promise((resolve) => {
      this.waiting.push({ path, resolve });
      if (this.waiting.length === 1) queueMicrotask(() => this.askAll());
    });
    this.known.set(path, answer);
    return answer;
  }

  /** @param {string} path */
  forget(path) { this.known.delete(path); }

  askAll() {
    const all = this.waiting.splice(0);
    while (all.length) {
      const query = new URLSearchParams({ limit: "200" });
      /** @type {Waiter[]} */
      const some = [];
      while (all.length && some.length < ASKED_AT_ONCE && (!some.length || query.toString().length < LONGEST)) {
        const one = /** @type {Waiter} */ (all.shift());
        query.append("source_key", IN_PLACE + one.path);
        some.push(one);
      }
      this.turns.take(() => this.ask(query, some));
    }
  }

  /**
   * @param {URLSearchParams} query
   * @param {Waiter[]} some
   */
  async ask(query, some) {
    try {
      /** @type {Resource[]} */
      const found = await this.api.get(`media-resources?${query}`);
      const bySource = Map.groupBy(found, ({ source_key: key }) => key?.slice(IN_PLACE.length));
      for (const { path, resolve } of some) {
        resolve(await this.keyOf(path, bySource.get(path) ?? []));
      }
    } catch {
      for (const { path, resolve } of some) {
        this.forget(path); // to be asked again
        resolve("");
      }
    }
  }

  /**
   * It may have been replaced since.
   * @param {string} path
   * @param {Resource[]} found
   */
  async keyOf(path, found) { return (await this.resourceOf(path, found))?.storage_key ?? ""; }

  /**
   * The resource of what is at a path now.
   * @param {string} path
   * @param {Resource[]} found
   */
  async resourceOf(path, found) {
    const facts = found.length ? await this.api.facts(path) : null;
    return found.find(({ content_hash: hash }) => facts && [null, hash].includes(facts.sha256));
  }

  /**
   * The same, as the server says now.
   * @param {string} path
   */
  async at(path) { return this.resourceOf(path, (await this.below(path)).get(path) ?? []); }

  /**
   * Resources that came from images below a folder, or have their files there, by the paths of these. The server is
   * asked each time.
   * @param {string} folder with its slash, or a path
   * @param {(found: number) => boolean} goesOn
   */
  async below(folder, goesOn = () => true) {
    /** @type {Map<string, Resource[]>} */
    const found = new Map();
    /** @type {URL | null} */
    let page = this.api.library({ source_prefix: IN_PLACE + folder, limit: A_PAGE });
    while (page && goesOn(found.size)) {
      const { entries, next } = await this.api.page(page);
      for (const resource of /** @type {Resource[]} */ (entries)) {
        for (const key of new Set([resource.source_key, resource.storage_key])) {
          const path = key?.startsWith(IN_PLACE) ? key.slice(IN_PLACE.length) : null;
          if (path !== null) found.set(path, [...found.get(path) ?? [], resource]);
        }
      }
      page = next;
    }
    return found;
  }

  /**
   * Which of these paths the library has. What the index does not know is taken to be unchanged; what it says has
   * changed is looked at.
   * @param {string[]} paths
   * @param {Map<string, Resource[]>} found what `below` has found
   * @returns {Promise<Set<string>>}
   */
  async among(paths, found) {
    const keys = await Promise.all(paths.map(async (path) => {
      const resources = found.get(path);
      if (!resources) return "";
      /** @type {Promise<{ items: Facts[] }>} */
      const asked = this.batch.get("storage/search", { prefix: path, sort: "path", limit: 1 });
      const [first] = (await asked.catch(() => ({ items: [] }))).items;
      const hash = first?.path === path ? first.sha256 : null;
      const same = hash ? resources.find((resource) => resource.content_hash === hash) : resources[0];
      return same?.storage_key ?? this.keyOf(path, resources);
    }));
    for (const [at, path] of paths.entries()) if (keys[at]) this.learn(path, keys[at]); // others may be kept by now
    return new Set(paths.filter((_, at) => keys[at]));
  }

  /**
   * @param {string} path
   * @param {string} key where the library has it; "" if it has not
   */
  learn(path, key) { this.known.set(path, Promise.resolve(key)); }

  /**
   * How many of these images the library has no copy of, so that it loses them with their files.
   * @param {string[]} paths
   */
  async withoutCopy(paths) {
    for (const path of paths) this.forget(path); // they may have been added elsewhere since
    // Of a picture, with its poster, a file that came from elsewhere is found, too.
    const keys = await Promise.all(paths.map((path) => (paths.length > 2 ? this.has(path)
      : this.at(path).then((resource) => resource?.storage_key, () => ""))));
    return paths.filter((path, at) => keys[at] === IN_PLACE + path).length;
  }
}

/**
 * Ask before a resource is deleted that others may need: undo would make another one.
 * @param {Resource} resource
 * @param {string} path
 * @param {boolean} isOurs it was made in this session
 */
export async function mayDelete(resource, path, isOurs) {
  if (isOurs && isBare(resource)) return true;
  const why = isBare(resource) ? "Other applications may use it." : "It has a caption, an alt text or tags.";
  return await ask(
    `Remove ${nameOf(path)} from the library?`,
    [make("p", {}, `${why} The image stays in this folder.`)],
    [{ text: "Cancel", value: "" }, { text: "Remove", value: "remove", kind: "primary danger" }],
  ) === "remove";
}

/**
 * What is said before images go from their paths: whether the library loses some; null where it was stopped.
 * @param {App} app
 * @param {string[]} paths
 * @param {Work} work
 * @param {boolean} isTrashed the images can be restored
 */
export async function lossIn(app, paths, work, isTrashed = false) {
  const kept = app.session.seesLibrary ? app.pictures?.kept : null;
  let lost = 0;
  for (let at = 0; kept && at < paths.length; at += A_PAGE) {
    work.tell(at, paths.length, "images looked up in the library");
    lost += await kept.withoutCopy(paths.slice(at, at + A_PAGE));
    if (work.stopped) return null;
  }
  if (!lost) return [];
  const [are, them] = lost > 1 ? ["are", "them"] : ["is", "it"];
  const loss = isTrashed ? `, which cannot show ${them} unless you restore ${them}` : ` and will be lost there`;
  return [make("p", {}, `${count(lost, "image")} ${are} in the library${loss}.`)];
}
