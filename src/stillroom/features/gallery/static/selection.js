// What can be done with the pictures that are chosen: the bar at the foot, and what its buttons do.

import { copyResourceLink, download, downloadZip, keepAll } from "./actions.js";
import { ask, button, by, complain, count, folderOf, make, nameOf, say, toast, withoutPosters } from "./elements.js";
import { Comparison, LEAST, MOST } from "./comparing.js";
import { Editing } from "./editing.js";
import { lossIn } from "./kept.js";
import { Moving } from "./moving.js";
import { pictureFragment } from "./router.js";
import { grace, removeRuns, runAround } from "./runs.js";
import { FolderShelf, LibraryShelf } from "./shelves.js";
import { tagMany } from "./tags.js";
import { HAS_TRASH, offerUndo } from "./trash.js";
import { amountOf, gather, isFolder, pathsOf } from "./trees.js";
import { Work } from "./work.js";

const MOST_DOWNLOADS = 20;
/** @type {(number: number) => string} */
export const partOfRun = (number) => (number === 1
  ? "It is part of a published run, whose manifest will still name it."
  : "They are part of a published run, whose manifest will still name them.");

/**
 * The images outside of runs, which the library does not protect.
 * @param {Tree[]} trees
 */
function looseOf(trees) {
  const runs = trees.flatMap((tree) => tree.runs);
  return pathsOf(trees).filter((path) => !runs.some(({ folder }) => path.startsWith(`${folder}/`)));
}

export class Selection {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.editing = new Editing(app);
    this.moving = new Moving(app);
  }

  show() {
    const { grid, router, shelf } = this.app;
    const bar = by("chosen");
    const chosen = grid.selected.size;
    const hadFocus = bar.contains(document.activeElement);
    bar.hidden = chosen === 0;
    by("grid").classList.toggle("choosing", chosen > 0);
    if (!chosen || !shelf) {
      bar.replaceChildren();
      if (hadFocus) grid.focus();
      return;
    }
    const told = `${chosen.toLocaleString()} selected`;
    const view = router.place?.view;
    const [first] = grid.selected;
    const kind = chosen > 1 ? (this.areComparable ? "few" : "many") : isFolder(first) ? "folder" : "image";
    if (bar.childElementCount && !hadFocus) say(told);
    if (bar.childElementCount && bar.dataset.view === view && bar.dataset.kind === kind) {
      bar.firstElementChild.textContent = told;
      return;
    }
    Object.assign(bar.dataset, { view, kind });
    bar.replaceChildren(make("p", {}, told), ...this.buttons(shelf));
  }

  /** @param {Shelf} shelf */
  buttons(shelf) {
    const { grid, session } = this.app;
    if (shelf instanceof LibraryShelf) return this.libraryButtons(shelf);
    const mayMove = ["storage:read", "storage:write", "storage:delete"].every((scope) => session.may(scope));
    const keys = () => [...grid.selected];
    const [one] = grid.selected.size === 1 ? keys() : [];
    return [
      button("Share", "share", () => this.app.bar.share.open(keys())),
      this.areComparable ? this.comparer() : null,
      button("Download", "down", () => this.download(keys())),
      session.may("media") ? button("Add to library", "keep", () => this.keep(keys())) : null,
      one && mayMove ? button("Rename", "edit", () => this.moving.rename(one)) : null,
      mayMove ? button("Move", "move", () => this.moving.move(keys())) : null,
      shelf.mayRemove ? button("Delete", "bin", () => this.remove(keys()), { kind: "danger" }) : null,
      button("Clear selection", "close", () => grid.choosing.chooseNone(), { quiet: true }),
    ].filter((made) => made !== null);
  }

  /** @param {LibraryShelf} shelf */
  libraryButtons(shelf) {
    const { grid } = this.app;
    const chosen = () => shelf.resources([...grid.selected]);
    const zip = () => downloadZip(shelf.api, chosen().map(({ storage_key: key }) => key), "library");
    const isOne = grid.selected.size === 1;
    return [
      isOne ? button("Copy link", "link", () => copyResourceLink(shelf.api, chosen()[0])) : null,
      button("Download", "down", () => (grid.selected.size > MOST_DOWNLOADS ? zip() : shelf.download(chosen()))),
      isOne ? null : button("ZIP", "down", zip),
      this.areComparable ? this.comparer() : null,
      isOne ? button("Edit", "edit", () => this.editing.edit(chosen()[0].id))
        : button("Tags", "edit", () => tagMany(shelf.api, chosen(), (resource) => this.editing.follow(resource))),
      button("Delete", "bin", () => this.remove([...grid.selected]), { kind: "danger" }),
      button("Clear selection", "close", () => grid.choosing.chooseNone(), { quiet: true }),
    ].filter((made) => made !== null);
  }

  get areComparable() {
    const keys = [...this.app.grid.selected];
    return keys.length >= LEAST && keys.length <= MOST && !keys.some(isFolder);
  }

  comparer() {
    const made = button("Compare", "compare", () => this.compare());
    made.setAttribute("aria-keyshortcuts", "c");
    return made;
  }

  compare() {
    const { grid, shown } = this.app;
    if (!this.areComparable) toast(`Select ${LEAST} to ${MOST} images to compare them.`);
    else new Comparison(shown, [...grid.selected].map((key) => grid.describe(shown.collection.indexOf(key)))).open();
  }

  /**
   * What is chosen with all that is in folders; null where it was stopped or failed, which is said.
   * @param {string[]} keys
   */
  async trees(keys) {
    const work = new Work("Counting images");
    try {
      return await gather(this.app.shown.api, keys, work);
    } catch (/** @type {any} */ error) {
      complain(error.message);
      return null;
    } finally { work.close(); }
  }

  /** @param {string[]} keys */
  async download(keys) {
    const { api } = this.app.shown;
    const trees = await this.trees(keys);
    if (!trees) return;
    // More files than this a browser asks about, or passes over.
    if (amountOf(trees) > MOST_DOWNLOADS || keys.some(isFolder)) {
      const name = nameOf(keys.length === 1 ? keys[0] : this.app.router.here.folder) || "images";
      await downloadZip(api, pathsOf(trees).map((path) => `compute/${path}`), name);
    } else await download(api, keys);
  }

  /** @param {string[]} keys */
  async keep(keys) {
    const { api } = this.app.shown;
    const trees = await this.trees(keys);
    if (!trees) return;
    const paths = withoutPosters(pathsOf(trees));
    const mayMove = this.app.session.may("storage:delete");
    const answer = await ask(
      `Add ${count(paths.length, "image")} to the library?`,
      [
        make("p", {}, "Add: the originals stay in this folder, and the library shows them as long as they are there."),
        mayMove ? make("p", {}, `Move: copies go to addresses that never change. The originals disappear from this folder ${grace()}.`) : null,
      ].filter((one) => one !== null),
      [
        { text: "Cancel", value: "" },
        ...(mayMove ? [{ text: "Move", value: "move" }] : []),
        { text: "Add", value: "add", kind: "primary" },
      ],
    );
    if (!answer) return;
    await this.app.keeping.send(() => keepAll(api, paths, answer === "move"));
    this.app.keeping.forgetPlaces();
    for (const path of paths) this.app.pictures?.kept.forget(path);
    for (const cell of this.app.grid.cells.values()) if (this.app.shelf) cell.tellKept(this.app.shelf);
    this.app.grid.choosing.chooseNone();
  }

  /** @param {string[]} keys */
  async remove(keys) {
    const { shown: from } = this.app;
    if (!from.mayRemove) return;
    const { collection } = from;
    const trees = from instanceof FolderShelf ? await this.trees(keys) : keys.map((key) => ({ key, paths: [key], runs: [] }));
    const loss = trees && await this.loss(from, trees);
    if (!loss || !this.app.shelf) return;
    if (!pathsOf(trees).length) toast("There is nothing in it any more.");
    else if (!await this.confirm(from, trees, loss)) return;
    const work = new Work("Deleting images");
    const gone = new Set(await this.removeTrees(from, trees, work));
    work.close();
    const left = trees.filter(({ paths }) => paths.every((path) => gone.has(path))).map(({ key }) => key);
    this.leaveOut(collection, [...gone], left);
  }

  /**
   * No place shows these any more.
   * @param {Collection} collection where they were deleted
   * @param {string[]} gone
   * @param {string[]} left its entries among them
   */
  leaveOut(collection, gone, left = gone) {
    for (const known of this.app.visited.values()) if (known !== collection) known.remove([...gone, ...left]);
    if (this.app.shelf?.collection === collection) this.follow(collection, left);
  }

  /**
   * What the library loses; null where it was stopped.
   * @param {Shelf} from
   * @param {Tree[]} trees
   */
  async loss(from, trees) {
    const work = new Work("Counting images");
    try {
      return await lossIn(this.app, from instanceof FolderShelf ? looseOf(trees) : [], work, HAS_TRASH);
    } finally { work.close(); }
  }

  /**
   * What is gone at once; the images of runs go later.
   * @param {Shelf} from
   * @param {Tree[]} trees
   * @param {Work} work
   */
  async removeTrees(from, trees, work) {
    const runs = trees.flatMap((tree) => tree.runs);
    const loose = looseOf(trees);
    if (runs.length) await removeRuns(from.api, runs, work, (text, ids) => offerUndo(this.app, text, ids, true));
    for (const { folder } of runs) this.app.pictures?.forget(`${folder}/`);
    if (work.stopped || !loose.length) return [];
    const gone = await from.removeAll(loose, work);
    for (const path of gone) this.app.pictures?.forget(path);
    return gone;
  }

  /**
   * Show a place without what is gone.
   * @param {Collection} collection
   * @param {string[]} gone
   */
  follow(collection, gone) {
    const { grid, router, states, viewer } = this.app;
    states.show();
    if (router.place) this.app.bar.runLine.show(router.place);
    if (!gone.length) return;
    const at = Math.max(0, gone.reduce((first, key) => Math.min(first, collection.indexOf(key)), Infinity));
    collection.remove(gone);
    grid.refresh();
    states.show();
    const { picture } = router.here;
    if (picture !== null && gone.includes(picture)) this.showNext(collection, at);
    else if (!viewer.isOpen) this.app.focusOn(at);
  }

  /**
   * @param {Shelf} shelf
   * @param {Tree[]} trees
   * @param {HTMLElement[]} loss
   */
  async confirm(shelf, trees, loss) {
    const nameOfTree = (/** @type {Tree} */ { key, paths }) => {
      if (shelf instanceof LibraryShelf) return shelf.describe(shelf.collection.indexOf(key)).name;
      return isFolder(key) ? `${nameOf(key)} (folder, ${count(withoutPosters(paths).length, "image")})` : key;
    };
    const names = trees.slice(0, 5).map((tree) => make("li", { dir: "auto" }, nameOfTree(tree)));
    if (trees.length > 5) names.push(make("li", {}, `and ${(trees.length - 5).toLocaleString()} more`));
    const runs = trees.flatMap((tree) => tree.runs);
    const isOne = trees.length === 1 && shelf instanceof FolderShelf;
    const run = isOne ? await runAround(shelf.api, folderOf(trees[0].key)).catch(() => null) : this.app.bar.runLine.run;
    const warning = runs.length
      ? `${count(runs.length, "published run")} included, whose images go ${grace()}. Until then, what is added to the library or saved again stays.`
      : shelf.warning(amountOf(trees));
    const answer = await ask(
      `Delete ${count(amountOf(trees), "image")}${shelf.where}?`,
      [make("ul", {}, ...names), run && !runs.length ? make("p", {}, partOfRun(amountOf(trees))) : null, ...loss, make("p", {}, warning)].filter((one) => one !== null),
      [{ text: "Cancel", value: "" }, { text: "Delete", value: "delete", kind: "primary danger" }],
    );
    return answer === "delete";
  }

  /**
   * The picture that was looked at is gone: show the one that took its place.
   * @param {Collection} collection
   * @param {number} at
   */
  async showNext(collection, at) {
    const { router } = this.app;
    const { picture } = router.here;
    while (collection.length <= at && !collection.complete) {
      try { await collection.more(); } catch (/** @type {any} */ error) { complain(error.message); break; }
    }
    if (this.app.shelf?.collection !== collection || router.place?.picture !== picture) return;
    const next = Math.min(at, collection.length - 1);
    if (next >= 0 && !collection.describe(next).isFolder) {
      router.go(pictureFragment(collection.describe(next), router.place), { replace: true });
    } else router.up();
  }
}
