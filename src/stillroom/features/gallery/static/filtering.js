// Kept pictures alone, or the others alone; and deleting all of a folder that is not kept.

import { ask, button, by, complain, count, make, toast, videoOf, withoutPosters } from "./elements.js";
import { fragment, withOnly } from "./router.js";
import { runAround } from "./runs.js";
import { partOfRun } from "./selection.js";
import { FolderShelf } from "./shelves.js";
import { isFolder } from "./trees.js";
import { Work } from "./work.js";

const A_PAGE = 10_000;

/** @typedef {{ rest: string[], kept: number, hasFolders: boolean, isRun: boolean }} Rest */

/** What a place lets pass of its pages: images that the library has, or those that it has not. */
export class Sieve {
  /**
   * @param {import("./kept.js").Kept} kept
   * @param {import("./keeping.js").Keeping} keeping
   * @param {string} folder
   * @param {string} only "kept" or "unkept"
   */
  constructor(kept, keeping, folder, only) {
    this.kept = kept;
    this.keeping = keeping;
    this.folder = folder;
    this.only = only;
    /** @type {Promise<Map<string, Resource[]>> | null} */
    this.found = null;
  }

  /** @param {string[]} entries */
  async pass(entries) {
    this.found ??= this.keeping.settled().then(() => this.kept.below(this.folder));
    this.found.catch(() => { this.found = null; }); // to be asked again
    const images = entries.filter((entry) => !isFolder(entry));
    const kept = await this.kept.among(images, await this.found);
    return images.filter((path) => isKeptOf(path, kept) === (this.only === "kept"));
  }

  /**
   * What is saved while the place shows is not kept yet.
   * @param {string} entry
   */
  keepsOut(entry) { return this.only === "kept" || isFolder(entry); }
}

/**
 * An image, or the poster of a video.
 * @param {string} path
 * @param {Set<string>} kept
 */
const isKeptOf = (path, kept) => kept.has(path) || kept.has(videoOf(path));

/** The menu above the pictures, and the button that appears with it. */
export class Filter {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.menu = make(
      "select",
      { class: "field", "aria-label": "Show", onchange: () => this.choose(this.menu.value) },
      make("option", { value: "" }, "All images"),
      make("option", { value: "kept" }, "Kept"),
      make("option", { value: "unkept" }, "Not kept"),
    );
    this.rest = button("Delete what is not kept", "bin", () => this.deleteRest(), { kind: "danger" });
    by("told").after(this.menu);
    by("told").parentElement.append(this.rest);
  }

  /** @param {Place} place */
  show({ view, search, only }) {
    const { session } = this.app;
    this.menu.hidden = view === "library" || !session.seesLibrary;
    this.menu.value = only;
    this.rest.hidden = this.menu.hidden || !only || search !== null || !session.may("storage:delete");
  }

  /** @param {string} only */
  choose(only) {
    const { router } = this.app;
    router.go(withOnly(location.hash.startsWith("#/") ? location.hash : fragment(router.here.folder), only));
  }

  /**
   * Let only the images of a place pass that its address asks for.
   * @template {Folder | Found} Some
   * @param {Some} collection
   * @param {Place} place
   */
  over(collection, { only }) {
    const kept = this.app.pictures?.kept;
    if (only && kept && this.app.session.seesLibrary) collection.sieve ??= new Sieve(kept, this.app.keeping, collection.folder, only);
    return collection;
  }

  /** Delete all images of this folder that are not kept when it is confirmed. Folders in it stay. */
  async deleteRest() {
    const { app } = this;
    const { shown, router: { here: { folder } } } = app;
    const { collection } = shown;
    const first = await this.count(folder);
    if (!first || app.shelf !== shown || !(shown instanceof FolderShelf)) return;
    if (!first.rest.length) toast("All images here are kept.");
    else if (await this.confirm(first)) {
      const work = new Work("Deleting images");
      const { kept } = shown.pictures;
      const gone = await shown.removeAll(first.rest, work, async (some) => {
        await app.keeping.settled();
        const known = await kept.among([...new Set([...some, ...some.map(videoOf)])], await kept.below(folder));
        return some.filter((path) => !isKeptOf(path, known)); // others keep pictures, too
      });
      work.close();
      for (const path of gone) app.pictures?.forget(path);
      app.selection.leaveOut(collection, gone);
    }
  }

  /**
   * The images of a folder that are not kept, as the server says now; null if that was stopped or failed, which is said.
   * @param {string} folder
   * @returns {Promise<Rest | null>}
   */
  async count(folder) {
    const { api, pictures } = this.app.shown;
    const work = new Work("Counting images");
    try {
      await this.app.keeping.settled();
      /** @type {string[]} */
      const entries = [];
      /** @type {URL | null} */
      let page = api.listing({ prefix: folder, delimiter: "/", limit: A_PAGE });
      while (page && !work.stopped) {
        const { entries: some, next } = await api.page(page);
        entries.push(...some);
        work.tell(entries.length, 0, "images found");
        page = next;
      }
      const images = entries.filter((entry) => !isFolder(entry));
      const kept = /** @type {import("./thumbnails.js").Thumbnails} */ (pictures).kept;
      const found = await kept.below(folder, (some) => {
        work.tell(some, 0, "images found in the library");
        return !work.stopped;
      });
      const known = await kept.among(images, found);
      const rest = images.filter((path) => !isKeptOf(path, known));
      const isRun = await runAround(api, folder) !== null;
      return work.stopped ? null : { rest, kept: known.size, hasFolders: images.length < entries.length, isRun };
    } catch (/** @type {any} */ error) {
      complain(error.message);
      return null;
    } finally { work.close(); }
  }

  /** @param {Rest} found */
  async confirm({ rest, kept, hasFolders, isRun }) {
    const amount = withoutPosters(rest).length;
    const staying = `${count(kept, "kept image")} ${kept === 1 ? "stays" : "stay"}.`;
    const texts = [
      hasFolders ? `${staying} So do all folders in this one.` : staying,
      isRun ? partOfRun(amount) : "",
      this.app.shown.warning(amount),
    ];
    const answer = await ask(
      `Delete ${count(amount, "image")} that ${amount === 1 ? "is" : "are"} not kept?`,
      texts.filter(Boolean).map((text) => make("p", {}, text)),
      [{ text: "Cancel", value: "" }, { text: "Delete", value: "delete", kind: "primary danger" }],
    );
    return answer === "delete";
  }
}
