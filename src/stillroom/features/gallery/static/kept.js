// Which images of a folder the library has: asked for those that show, together.

import { count, make } from "./elements.js";
import { Turns } from "./turns.js";

const ASKED_AT_ONCE = 50; // as often a parameter may be given
const LONGEST = 5000; // characters of a query before its last path, of up to 3100; servers take 8 KB of a target
const AT_ONCE = 2;
const A_PAGE = 1000;

/**
 * @typedef {{ path: string, resolve: (key: string) => void }} Waiter
 */

export class Kept {
  /** @param {Api} api */
  constructor(api) {
    this.api = api;
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
        query.append("source_key", `compute/${one.path}`);
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
      const bySource = Map.groupBy(found, ({ source_key: key }) => key?.slice("compute/".length));
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
  async keyOf(path, found) {
    const facts = found.length ? await this.api.facts(path) : null;
    return found.find(({ content_hash: hash }) => facts && [null, hash].includes(facts.sha256))?.storage_key ?? "";
  }

  /**
   * How many of these images the library has no copy of, so that it loses them with their files.
   * @param {string[]} paths
   */
  async withoutCopy(paths) {
    for (const path of paths) this.forget(path); // they may have been added elsewhere since
    const keys = await Promise.all(paths.map((path) => this.has(path)));
    return paths.filter((path, at) => keys[at] === `compute/${path}`).length;
  }
}

/**
 * What is said before images go from their paths: whether the library loses some; null where it was stopped.
 * @param {App} app
 * @param {string[]} paths
 * @param {Work} work
 */
export async function lossIn(app, paths, work) {
  const kept = app.session.seesLibrary ? app.pictures?.kept : null;
  let lost = 0;
  for (let at = 0; kept && at < paths.length; at += A_PAGE) {
    work.tell(at, paths.length, "images looked up in the library");
    lost += await kept.withoutCopy(paths.slice(at, at + A_PAGE));
    if (work.stopped) return null;
  }
  return lost ? [make("p", {}, `${count(lost, "image")} ${lost > 1 ? "are" : "is"} in the library and will be lost there.`)] : [];
}
