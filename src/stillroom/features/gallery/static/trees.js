// What is chosen, with all that lies in the folders among it.

import { posterOf, videoOf, withoutPosters } from "./elements.js";
import { runsIn } from "./runs.js";

const A_PAGE = 10_000;
const MOST_IMAGES = 100_000;
const MOST_RUNS = 1000;

/**
 * @typedef {{ key: string, paths: string[], runs: Run[] }} Tree an image, a video and its
 *   poster, or a folder and its images
 */

/** @type {(key: string) => boolean} */
export const isFolder = (key) => key.endsWith("/");

/**
 * All images of folders and the images themselves; null where it was stopped.
 * @param {Api} api
 * @param {string[]} keys
 * @param {Work} work
 * @returns {Promise<Tree[] | null>}
 * @throws where there are too many for a page
 */
export async function gather(api, keys, work) {
  /** @type {Tree[]} */
  const trees = [];
  let found = 0;
  for (const key of keys) {
    /** @type {Tree} */
    const tree = { key, paths: [], runs: [] };
    trees.push(tree);
    if (!isFolder(key)) {
      tree.paths.push(key);
      const poster = posterOf(key);
      if (videoOf(poster) === key && await api.facts(poster)) tree.paths.push(poster);
      found += 1;
      continue;
    }
    /** @type {URL | null} */
    let page = api.listing({ prefix: key, limit: A_PAGE });
    while (page) {
      const { entries, next } = await api.page(page);
      for (const path of entries) tree.paths.push(path);
      found += entries.length;
      if (work.stopped) return null;
      if (found > MOST_IMAGES) throw new Error(`These are more than ${MOST_IMAGES.toLocaleString()} images. Do this on the command line, with stillroom mv or stillroom rm.`);
      work.tell(found, 0, "images found");
      page = next;
    }
    tree.runs = await runsIn(api, key, MOST_RUNS);
    if (tree.runs.length === MOST_RUNS) throw new Error(`There are ${MOST_RUNS.toLocaleString()} published runs or more in it. Open it, and select fewer.`);
    if (work.stopped) return null;
  }
  return trees;
}

/** @type {(trees: Tree[]) => string[]} */
export const pathsOf = (trees) => trees.flatMap(({ paths }) => paths);

/** @type {(trees: Tree[]) => number} */
export const amountOf = (trees) => withoutPosters(pathsOf(trees)).length;
