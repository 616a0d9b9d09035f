// A bound on how much is under way at once.

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
