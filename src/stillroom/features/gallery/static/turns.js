// Requests that wait: for others, of which few are under way at once, or to be sent together.

import { refusalOf } from "./api.js";

const AT_ONCE = 60; // reads, as many a server takes
const MOST = 4; // requests under way
const LONGEST = 2048;
const TOO_LARGE = 413;

/** So many at a time, newest first: what was asked for last is what is looked at. */
export class Turns {
  /** @param {number} most */
  constructor(most) {
    this.free = most;
    /** @type {(() => void)[]} */
    this.waiting = [];
  }

  /**
   * @template Result
   * @param {() => Promise<Result>} work
   */
  async take(work) {
    if (this.free) this.free -= 1;
    else await new Promise((resolve) => { this.waiting.push(() => resolve(null)); });
    try {
      return await work();
    } finally {
      const next = this.waiting.pop();
      if (next) next();
      else this.free += 1;
    }
  }
}

/** @typedef {{ target: string, resolve: (body: any) => void, reject: (error: unknown) => void }} Waiter */

/** Reads that are asked for in one go are one request. */
export class Batch {
  /** @param {Api} api */
  constructor(api) {
    this.api = api;
    /** @type {Waiter[]} */
    this.waiting = [];
    this.turns = new Turns(MOST);
  }

  /**
   * @param {string} path
   * @param {Record<string, string | number>} parameters
   * @returns {Promise<any>}
   */
  get(path, parameters = {}) {
    const query = new URLSearchParams(Object.entries(parameters).map(([name, value]) => [name, String(value)]));
    const target = `${path}?${query}`;
    if (target.length > LONGEST) return this.api.get(target);
    return new Promise((resolve, reject) => {
      this.waiting.push({ target, resolve, reject });
      if (this.waiting.length === 1) queueMicrotask(() => this.sendAll());
    });
  }

  sendAll() {
    while (this.waiting.length) {
      const some = this.waiting.splice(0, AT_ONCE);
      this.turns.take(() => this.send(some));
    }
  }

  /** @param {Waiter[]} reads */
  async send(reads) {
    try {
      const { results } = await this.api.post("batch", { targets: reads.map(({ target }) => target) });
      for (const [at, { resolve, reject }] of reads.entries()) {
        const { status, body } = results[at];
        const refused = refusalOf(status, JSON.stringify(body));
        if (status === 401) this.api.onUnauthorized(this.api, refused);
        if (status < 400) resolve(body);
        else reject(refused);
      }
    } catch (/** @type {any} */ error) {
      const half = Math.ceil(reads.length / 2);
      if (error.status === TOO_LARGE && half < reads.length) for (const some of [reads.slice(0, half), reads.slice(half)]) this.send(some);
      else for (const { reject } of reads) reject(error);
    }
  }
}
