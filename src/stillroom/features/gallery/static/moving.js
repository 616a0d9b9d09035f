// Renaming and moving images and folders: all are copied, and only then the old ones deleted.

import { quoted } from "./api.js";
import { complain, count, folderOf, make, nameOf, sentence, toast, withoutPosters } from "./elements.js";
import { lossIn } from "./kept.js";
import { runAround } from "./runs.js";
import { amountOf, gather, isFolder, pathsOf } from "./trees.js";
import { Work, askText } from "./work.js";

const CHANGED = 412;
const GONE = 404;
const A_PAGE = 1000;
const RENAMING = { now: "Renaming", done: "renamed" };
const MOVING = { now: "Moving", done: "moved" };

/**
 * @typedef {typeof MOVING} Words
 * @typedef {{ source: string, target: string, seen?: string, made?: string, tried?: boolean }} Step `seen` and `made`
 *   are the ETags of what is moved and of its copy; one that was only `tried` may be there
 */

export class Moving {
  /** @param {App} app */
  constructor(app) { this.app = app; }

  /** @param {string} key */
  async rename(key) {
    const found = await this.look([key]);
    if (!found) return;
    const { trees, loss } = found;
    const what = isFolder(key) ? `folder with ${count(amountOf(trees), "image")}` : "image";
    askText(`Rename the ${what}`, loss, { label: "New name", value: nameOf(key), go: "Rename" }, async (name, close) => {
      if (name.includes("/")) return "A name has no slash. To put it into another folder, move it.";
      if (name && name !== nameOf(key)) return this.go(trees, (one) => folderOf(one) + name, RENAMING, close);
      close();
      return "";
    });
  }

  /** @param {string[]} keys */
  async move(keys) {
    const found = await this.look(keys);
    if (!found) return;
    const { trees, loss } = found;
    const here = folderOf(keys[0]);
    const { api } = this.app.shown;
    const offer = (/** @type {HTMLInputElement} */ input) =>
      make("div", { class: "tree" }, treeOf(api, "", here, (folder) => { input.value = folder; }));
    const how = { label: "To the folder", value: here, go: "Move", offer };
    const note = make("p", {}, "New folders are created. Leave empty for the top level.");
    askText(`Move ${count(amountOf(trees), "image")}`, [...loss, note], how, async (answer, close) => {
      const into = answer.replace(/^\/+|\/+$/g, "").replace(/.$/u, "$&/");
      if (keys.some((key) => folderOf(key) !== into)) return this.go(trees, (one) => into + nameOf(one), MOVING, close);
      close();
      return "";
    });
  }

  /**
   * What is to be moved, and what the library loses by that; null where it may not be, which is said.
   * @param {string[]} keys
   */
  async look(keys) {
    const { api } = this.app.shown;
    const work = new Work("Counting images");
    try {
      const trees = await gather(api, keys, work);
      if (!trees) return null;
      let run = trees.find(({ runs }) => runs.length)?.runs[0] ?? null;
      for (const folder of new Set(keys.map(folderOf))) run ??= await runAround(api, folder);
      if (run) {
        complain(`“${run.folder}” is a published run, which names its images by their paths. So it stays where it is: copy it with stillroom cp, or delete it.`);
        return null;
      }
      const loss = await lossIn(this.app, pathsOf(trees), work);
      if (!loss || pathsOf(trees).length) return loss && { trees, loss };
      complain("There are no images left here. Reload the page.");
    } catch (/** @type {any} */ error) { complain(error.message); } finally { work.close(); }
    return null;
  }

  /**
   * Move them, and show that; answers why nothing could be moved.
   * @param {Tree[]} trees
   * @param {(key: string) => string} targetOf a path without a slash at its end
   * @param {Words} words
   * @param {() => void} close the dialog that asked for it
   */
  async go(trees, targetOf, words, close) {
    const { api } = this.app.shown;
    const steps = trees.flatMap(({ key, paths }) => paths.map((path) => ({
      source: path, target: targetOf(key) + (isFolder(key) ? "/" : "") + path.slice(key.length),
    })));
    const work = new Work(`${words.now} ${count(amountOf(trees), "image")}`);
    try {
      const refusal = await this.refusal(api, trees, targetOf);
      if (refusal) return refusal;
      if (await this.copyAll(api, steps, work, words)) await this.removeAll(api, steps, work, words);
    } catch (/** @type {any} */ error) { return sentence(error.message); } finally { work.close(); }
    close();
    const [{ key }] = trees;
    await this.follow(steps, trees.map((tree) => tree.key), targetOf(key) + (isFolder(key) ? "/" : ""));
    return "";
  }

  /**
   * Why nothing is moved there: nothing is replaced, and no published run is added to.
   * @param {Api} api
   * @param {Tree[]} trees
   * @param {(key: string) => string} targetOf
   */
  async refusal(api, trees, targetOf) {
    const folder = folderOf(targetOf(trees[0].key));
    const inside = trees.find(({ key }) => isFolder(key) && folder.startsWith(key));
    if (inside) return `“${nameOf(inside.key)}” cannot be moved into itself. Choose another folder.`;
    const run = await runAround(api, folder);
    if (run) return `“${run.folder}” is a published run: what is moved there would not be part of it. Choose another folder.`;
    const targets = trees.flatMap(({ key, paths }) => (isFolder(key)
      ? [targetOf(key)] : paths.map((path) => targetOf(key) + path.slice(key.length))));
    if (new Set(targets).size < targets.length) return "Two of these have the same name. Rename one of them first.";
    const there = new Set();
    /** @type {URL | null} */
    let page = api.listing({ prefix: folder, delimiter: "/", limit: 10_000 });
    while (page) {
      const { entries, next } = await api.page(page);
      for (const entry of entries) there.add(entry.replace(/\/$/, ""));
      page = next;
    }
    const taken = targets.filter((target) => there.has(target));
    if (!taken.length) return "";
    const more = taken.length > 1 ? ` and ${(taken.length - 1).toLocaleString()} more` : "";
    return `“${taken[0]}”${more} exists already. Choose another name or folder.`;
  }

  /**
   * Copy all of them or none; false where it was none, thrown where the first is refused.
   * @param {Api} api
   * @param {Step[]} steps
   * @param {Work} work
   * @param {Words} words
   */
  async copyAll(api, steps, work, words) {
    let todo = steps;
    for (;;) {
      const { left, failure } = await work.each(todo, "copied", (step) => copy(api, step));
      if (!left.length) return true;
      const done = imagesIn(steps) - imagesIn(left);
      const why = failure ? `${sentence(failure.message)} ` : "";
      if (failure?.status === 401) {
        complain(`${why}${count(done, "image")} had been copied, and all are still in their old place. Delete the copies before you try again.`);
        return false;
      }
      const isRefused = failure?.status >= 400 && failure.status < 500;
      if (isRefused && todo === steps && !steps.some(({ made }) => made)) throw failure;
      todo = left;
      const answer = await work.ask(
        `Stopped after ${done.toLocaleString()} of ${count(imagesIn(steps), "image")}`,
        `${why}All of them are still in their old place.`,
        [{ text: "Undo", value: "" }, { text: "Go on", value: "again", kind: "primary" }],
      );
      if (answer === "again") continue;
      const undone = await work.each(steps.filter(({ tried }) => tried), "undone", (step) => undo(api, step));
      const first = undone.left[0];
      if (first) complain(`${count(undone.left.length, "copy", "copies")} left in “${folderOf(first.target)}”: ${sentence(undone.failure?.message ?? "stopped.")} Delete them there.`);
      else toast(`Nothing was ${words.done}.`);
      return false;
    }
  }

  /**
   * Delete what was copied, but for what has changed since.
   * @param {Api} api
   * @param {Step[]} steps
   * @param {Work} work
   * @param {Words} words
   */
  async removeAll(api, steps, work, words) {
    /** @type {Step[]} */
    const changed = [];
    const copied = steps.filter(({ made }) => made);
    const { left, failure } = await work.each(copied, words.done, async (step) => {
      if (!await remove(api, step.source, step.seen)) changed.push(step);
    });
    const moved = `${count(imagesIn(copied) - imagesIn([...left, ...changed]), "image")} ${words.done}.`;
    if (!left.length && !changed.length) { toast(moved); return; }
    complain([
      moved,
      changed.length ? `${count(imagesIn(changed), "image")} changed meanwhile and stayed here, too.` : "",
      left.length ? `${count(imagesIn(left), "image")} copied but not deleted here: ${sentence(failure?.message ?? "stopped.")} Delete them here.` : "",
    ].filter(Boolean).join(" "));
  }

  /**
   * The page as it is now.
   * @param {Step[]} steps
   * @param {string[]} keys of what was moved
   * @param {string} moved what is shown then, if it is here
   */
  async follow(steps, keys, moved) {
    const { app } = this;
    if (!app.shelf) return;
    for (const { source, target } of steps) for (const path of [source, target]) app.pictures?.forget(path);
    for (const [key, collection] of app.visited) if (collection !== app.shelf.collection) app.visited.delete(key);
    app.grid.choosing.chooseNone();
    app.newcomers.reload();
    const { collection } = app.shown;
    collection.remove(keys); // the search index learns of it later
    await collection.more().catch(() => {}); // the grid says why
    if (app.shelf?.collection === collection) app.focusOn(Math.max(0, collection.indexOf(moved)));
  }
}

/**
 * A poster is a part of its video.
 * @param {Step[]} steps
 */
const imagesIn = (steps) => withoutPosters(steps.map(({ source }) => source)).length;

/**
 * A folder with those below it, which are listed when it is opened; `chosen` hears of each that is pressed.
 * @param {Api} api
 * @param {string} folder
 * @param {string} here the folder to which it is open at first
 * @param {(folder: string) => void} chosen
 */
function treeOf(api, folder, here, chosen) {
  const below = make("ul");
  const name = make("summary", { dir: "auto", onclick: () => chosen(folder) }, nameOf(folder) || "All images");
  const fold = make("details", { open: here.startsWith(folder) }, name, below);
  fold.addEventListener("toggle", async () => {
    if (!fold.open) return;
    /** @type {string[]} */
    const entries = await api.get("storage/images", { prefix: folder, delimiter: "/", limit: A_PAGE }).catch(() => []);
    below.replaceChildren(...entries.filter(isFolder).map((one) => make("li", {}, treeOf(api, one, here, chosen))));
  });
  return fold;
}

/**
 * @param {Api} api
 * @param {Step} step
 */
async function copy(api, step) {
  const facts = await api.facts(step.source);
  if (!facts) return; // deleted meanwhile: there is nothing to move
  Object.assign(step, { seen: facts.etag, tried: true });
  step.made = (await api.post("storage/copy", { source: step.source, target: step.target })).etag;
}

/**
 * @param {Api} api
 * @param {Step} step
 */
async function undo(api, { target, made }) {
  const etag = made ?? (await api.facts(target))?.etag;
  if (etag) await remove(api, target, etag);
}

/**
 * Delete an image if it is the one that was seen; false if it is another one now.
 * @param {Api} api
 * @param {string} path
 * @param {string | undefined} etag
 */
async function remove(api, path, etag) {
  try {
    await api.ask(new URL(`storage/images/${quoted(path)}?purge=true`, api.root), { method: "DELETE", match: etag });
  } catch (/** @type {any} */ error) {
    if (error.status === CHANGED) return false;
    if (error.status !== GONE) throw error;
  }
  return true;
}
