// Reads that are asked for in one go are one request.

import { refusalOf } from "./api.js";

export class Batch {
  /** @param {import("./api.js").Api} api */
  constructor(api) {
    this.api = api;
    /** @type {{ target: string, resolve: (body: any) => void, reject: (error: unknown) => void }[]} */
    this.waiting = [];
  }

  /**
   * @param {string} path
   * @param {Record<string, string | number>} parameters
   * @returns {Promise<any>}
   */
  get(path, parameters = {}) {
    const query = new URLSearchParams(Object.entries(parameters).map(([name, value]) => [name, String(value)]));
    return new Promise((resolve, reject) => {
      this.waiting.push({ target: `${path}?${query}`, resolve, reject });
      if (this.waiting.length === 1) queueMicrotask(() => this.send());
    });
  }

  async send() {
    const reads = this.waiting.splice(0);
    try {
      const { results } = await this.api.post("batch", { targets: reads.map(({ target }) => target) });
      for (const [at, { resolve, reject }] of reads.entries()) {
        const { status, body } = results[at];
        if (status < 400) resolve(body);
        else reject(refusalOf(status, JSON.stringify(body)));
      }
    } catch (error) {
      for (const { reject } of reads) reject(error);
    }
  }
}
