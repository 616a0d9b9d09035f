// Which images of a folder the library has: asked for those that show, together.

import { Turns } from "./turns.js";

const ASKED_AT_ONCE = 50; // as often a parameter may be given
const LONGEST = 5000; // characters of a query before its last path, of up to 3100; servers take 8 KB of a target
const AT_ONCE = 2;

/**
 * @typedef {{ path: string, resolve: (isKept: boolean) => void }} Waiter
 */

export class Kept {
  /** @param {Api} api */
  constructor(api) {
    this.api = api;
    this.turns = new Turns(AT_ONCE);
    /** @type {Map<string, Promise<boolean>>} */
    this.known = new Map();
    /** @type {Waiter[]} */
    this.waiting = [];
  }

  /**
   * Whether the library has this very image, by the path that it was taken from.
   * @param {string} path
   */
  has(path) {
    const known = this.known.get(path);
    if (known) return known;
    /** @type {Promise<boolean>} */
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
        const hashes = bySource.get(path)?.map(({ content_hash: hash }) => hash);
        resolve(hashes !== undefined && await this.isAmong(path, hashes));
      }
    } catch {
      for (const { path, resolve } of some) {
        this.forget(path); // to be asked again
        resolve(false);
      }
    }
  }

  /**
   * It may have been replaced since.
   * @param {string} path
   * @param {string[]} hashes
   */
  async isAmong(path, hashes) {
    const facts = await this.api.facts(path);
    return facts !== null && (facts.sha256 === null || hashes.includes(facts.sha256));
  }
}
