// What a folder's tile shows: the newest picture below it, how many there are, and whether it is a published run.

import { count, withoutPosters } from "./elements.js";
import { runAt } from "./runs.js";
import { Batch, Turns } from "./turns.js";

const COUNTED = 100;
const COVERS = 5;
const AT_ONCE = 20; // folders, with three reads each: a server takes 60 in a batch
const KNOWN_FOR_MS = 30_000;
const INDEXED_AFTER_MS = 1500; // the search index is written behind the answer to a save

/**
 * @typedef {{ covers: string[], told: string, run: Run | null }} Looks
 */

export class FolderLooks {
  /** @param {Api} api */
  constructor(api) {
    this.batch = new Batch(api);
    this.turns = new Turns(AT_ONCE);
    /** @type {Map<string, { looks: Looks, until: number }>} */
    this.known = new Map();
    /** @type {Map<string, () => void>} */
    this.changed = new Map();
  }

  /**
   * What is known of a folder; null where that is not wanted any more.
   * @param {string} folder
   * @param {() => boolean} wanted
   * @param {() => void} changed is called when that may be another answer
   * @returns {Promise<Looks | null>}
   */
  async of(folder, wanted, changed) {
    this.changed.set(folder, changed);
    const known = this.known.get(folder);
    if (known && known.until > Date.now()) return known.looks;
    return this.turns.take(async () => {
      if (!wanted()) return null;
      const [newest, run, amount] = await Promise.all([
        orNull(this.newest(folder)), orNull(runAt(this.batch, folder)), orNull(this.amount(folder)),
      ]);
      // Whether all are images is known of the newest alone.
      const what = newest?.some(({ content_type: type }) => !/^(image|video)/.test(type)) ? "file" : "image";
      const told = typeof run?.count === "number" ? count(run.count, what) : amount?.(what);
      const looks = { covers: newest?.map(({ path }) => path) ?? [], run, told: told ?? "" };
      this.known.set(folder, { looks, until: Date.now() + KNOWN_FOR_MS });
      return looks;
    });
  }

  /**
   * By the search index, which has them at once; not all have a picture.
   * @param {string} folder
   * @returns {Promise<Facts[]>}
   */
  async newest(folder) {
    return (await this.batch.get("storage/search", { prefix: folder, limit: COVERS })).items;
  }

  /**
   * @param {string} folder
   * @returns {Promise<(what: string) => string>}
   */
  async amount(folder) {
    const paths = await this.batch.get("storage/images", { prefix: folder, limit: COUNTED + 1 });
    const number = withoutPosters(paths).length;
    return (what) => (paths.length > COUNTED ? `${Math.min(number, COUNTED)}+ ${what}s` : count(number, what));
  }

  /**
   * Something was saved or deleted: the folders that it lies in are looked at again.
   * @param {string} path
   */
  forget(path) {
    for (const [folder, changed] of this.changed) {
      if (!path.startsWith(folder)) continue;
      this.known.delete(folder);
      this.changed.delete(folder); // until it is asked for again
      setTimeout(changed, INDEXED_AFTER_MS);
    }
  }
}

/**
 * A tile without one of these is still a folder.
 * @template Result
 * @param {Promise<Result>} promise
 * @returns {Promise<Result | null>}
 */
const orNull = (promise) => promise.catch(() => null);
