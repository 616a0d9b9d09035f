// Choosing one picture after the other: one key keeps it, another rejects it. What is seen does not wait.

import { removeAll } from "./actions.js";
import { button, complain, folderOf, make, nameOf, posterOf, say, toast, videoOf } from "./elements.js";
import { IN_PLACE, mayDelete } from "./kept.js";
import { Library } from "./listing.js";
import { runAround } from "./runs.js";
import { FolderShelf } from "./shelves.js";
import { HAS_TRASH } from "./trash.js";
import { Undoing } from "./undoing.js";

const KEPT = "in the library";

export class Keeping {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    /** @type {Promise<unknown>} */
    this.pressing = Promise.resolve();
    /** @type {Promise<unknown>} */
    this.sending = Promise.resolve(); // requests, in the order of the keys
    this.waiting = 0;
    /** @type {Map<string, { isKept: boolean }>} */
    this.wishes = new Map(); // that the server has not confirmed
    /** @type {Set<string>} */
    this.changed = new Set(); // while a picture was open
    /** @type {Map<string, Resource>} */
    this.released = new Map(); // what was taken out of the library, for its texts and tags
    /** @type {Set<string>} */
    this.made = new Set(); // ids of resources that were made here
    /** @type {Map<string, Run | null>} */
    this.runs = new Map(); // around folders, while the viewer is open
    /** @type {Set<string>} */
    this.leaving = new Set(); // rejected, while the server has them
    this.undoing = new Undoing(app);
    this.dismissReleased = () => {};
    this.mark = make("button");
    addEventListener("beforeunload", (event) => { if (this.waiting) event.preventDefault(); });
  }

  /** A session has ended. */
  clear() {
    for (const one of [this.wishes, this.changed, this.released, this.made, this.runs, this.leaving]) one.clear();
    this.undoing.rejected = [];
  }

  /** Keys of the viewer. */
  get keys() {
    const { described } = this.app.viewer;
    return { k: () => described && this.toggle(described), x: () => described && this.reject(described) };
  }

  get kept() { return this.app.pictures?.kept; }

  get mayKeep() { return this.app.session.seesLibrary && this.app.shelf instanceof FolderShelf; }

  /**
   * The buttons of a picture.
   * @param {Described} described
   */
  buttons(described) {
    const mark = button("Keep", "keep", () => this.toggle(described), { quiet: true });
    Object.assign(mark, { title: "Keep (k)", hidden: !this.app.session.seesLibrary });
    mark.setAttribute("aria-pressed", "false");
    mark.setAttribute("aria-keyshortcuts", "k");
    const reject = button("Reject", "close", () => this.reject(described), { quiet: true });
    Object.assign(reject, { title: "Reject (x)", hidden: !this.app.session.may("storage:delete") });
    reject.setAttribute("aria-keyshortcuts", "x");
    this.mark = mark;
    this.isKept(described.key).then((isKept) => mark.setAttribute("aria-pressed", String(isKept)));
    const edit = button("Edit", "edit", () => this.edit(described.key), { quiet: true, kind: "of-kept" });
    return make("span", { class: "choice" }, reject, mark, edit);
  }

  /**
   * Edit what the library says of a picture.
   * @param {string} path
   */
  edit(path) {
    this.press(async () => {
      await this.sending;
      const resource = await this.kept?.at(path);
      if (resource) await this.app.selection.editing.edit(resource.id);
    });
  }

  /** @param {string} path */
  async isKept(path) {
    if (!this.app.session.seesLibrary) return false;
    return this.wishes.get(path)?.isKept ?? Boolean(await this.kept?.has(path));
  }

  /**
   * Keep a picture, or take it back.
   * @param {Described} described
   */
  toggle({ key }) {
    if (!this.mayKeep) return;
    this.press(async () => {
      const isKept = await this.isKept(key);
      if (!isKept || await this.mayRelease(key)) this.wish(key, !isKept);
    });
  }

  /** @param {string} path */
  async mayRelease(path) {
    const resource = this.wishes.has(path) ? null : await this.kept?.at(path); // what waits was pressed a moment ago
    return !resource || mayDelete(resource, path, this.made.has(resource.id));
  }

  /**
   * One key after the other, since the next one may depend on what this one does.
   * @param {() => Promise<unknown>} work
   */
  press(work) { this.pressing = this.pressing.then(this.app.session.during(work)).catch(({ message }) => complain(message)); }

  /**
   * @param {string} path
   * @param {boolean} isKept
   */
  wish(path, isKept) {
    const { api } = this.app.shown;
    const wish = { isKept };
    this.wishes.set(path, wish);
    this.show(path, isKept);
    say(isKept ? "Kept" : "Not kept");
    this.send(async () => {
      try {
        if (isKept) await this.keep(api, path);
        else await this.release(api, path);
      } catch (/** @type {any} */ error) {
        complain(`${path}: ${error.message}`); // the message may name another image of this name
        if (this.wishes.get(path) !== wish) return;
        this.wishes.delete(path);
        this.kept?.forget(path);
        this.show(path, await this.isKept(path));
        return;
      }
      if (this.wishes.get(path) === wish) this.wishes.delete(path);
      this.forgetPlaces();
      const { shelf, viewer } = this.app;
      if (shelf && viewer.described?.key === path) viewer.details.refresh(shelf).then(() => viewer.holdFocus());
    });
  }

  /** @param {() => Promise<unknown>} request */
  send(request) {
    this.waiting += 1;
    this.sending = this.sending.then(this.app.session.during(request)).finally(() => { this.waiting -= 1; });
    return this.sending;
  }

  /** All that was pressed has reached the server. */
  async settled() {
    await this.pressing;
    await this.sending;
  }

  /**
   * @param {Api} api
   * @param {string} path
   */
  async keep(api, path) {
    const asked = { storage_key: IN_PLACE + path, relocate: false };
    /** @type {Resource} */
    const { id, content_hash: hash, source_key: source, storage_key: key } = await api.post("media-resources/ingest", asked);
    if (source !== IN_PLACE + path && key !== IN_PLACE + path) {
      throw new Error(`the library has the same image from ${(source ?? key).replace(IN_PLACE, "")}. You need not keep this copy.`);
    }
    this.kept?.learn(path, key);
    this.made.add(id);
    const before = this.released.get(path);
    if (before?.content_hash !== hash) return;
    const { caption, alt_text, tags } = before;
    const url = new URL(`media-resources/${id}`, api.root);
    if (caption !== null || alt_text !== null) await api.ask(url, { method: "PATCH", body: { caption, alt_text } });
    if (tags.length) await api.post(`media-resources/${id}/tags`, { tags });
    this.released.delete(path);
  }

  /**
   * @param {Api} api
   * @param {string} path
   */
  async release(api, path) {
    const resource = await this.kept?.at(path);
    if (!resource) return;
    if (resource.storage_key !== IN_PLACE + path) throw new Error("the library has its file elsewhere. Delete it there.");
    await api.delete(`media-resources/${resource.id}`);
    this.released.set(path, resource);
    this.kept?.learn(path, "");
    this.dismissReleased();
    this.dismissReleased = toast(`${nameOf(path)} is not kept any more.`, false, () => this.wish(path, true));
  }

  /**
   * Marks of a picture, in the viewer and the grid.
   * @param {string} path
   * @param {boolean} isKept
   */
  show(path, isKept) {
    const { grid, viewer, shelf } = this.app;
    this.changed.add(path);
    this.kept?.learn(path, isKept ? IN_PLACE + path : "");
    if (viewer.described?.key === path) this.mark.setAttribute("aria-pressed", String(isKept));
    for (const cell of grid.cells.values()) {
      if (cell.described.key !== path || !shelf) continue;
      if (isKept) cell.tellKept(shelf);
      else {
        cell.tell(KEPT, false);
        cell.badges.querySelector(".keep")?.remove();
      }
    }
  }

  /** The library, and places with kept images alone or without them, are asked for again. */
  forgetPlaces() {
    const { visited, shelf } = this.app;
    for (const [key, known] of visited) {
      if (known instanceof Library || (known.sieve && known !== shelf?.collection)) visited.delete(key);
    }
  }

  /** The viewer was closed: a place that shows kept images alone, or the others, follows. */
  async left() {
    const { collection } = this.app.shown;
    const { sieve } = collection;
    const paths = [...this.changed].filter((path) => collection.indexOf(path) >= 0);
    this.changed.clear();
    this.runs.clear();
    if (!sieve || !paths.length) return;
    const areKept = await Promise.all(paths.map((path) => this.isKept(path)));
    const gone = paths.filter((_, at) => areKept[at] !== (sieve.only === "kept"));
    if (this.app.shelf?.collection === collection && !this.app.viewer.isOpen) this.app.selection.follow(collection, gone);
  }

  /**
   * Delete a picture without a question where the trash has it, and show the next.
   * @param {Described} described
   */
  reject(described) {
    const { shown: shelf } = this.app;
    this.press(async () => {
      const { key } = described;
      const { collection: { removed } } = shelf;
      const isCurrent = () => this.app.viewer.described?.key === key
        && (!removed.has(key) || shelf.collection.indexOf(key) >= 0); // else it was pressed twice
      if (!shelf.mayRemove || !isCurrent()) return;
      const isAsked = !HAS_TRASH || !(shelf instanceof FolderShelf) || await this.isMissed(shelf, key).catch(() => true);
      if (!isCurrent()) return;
      if (isAsked) shelf.remove(described);
      else this.discard(shelf, key);
    });
  }

  /**
   * Whether the library or a run would lose an image.
   * @param {FolderShelf} shelf
   * @param {string} path
   */
  async isMissed({ api, pictures: { kept } }, path) {
    const folder = folderOf(path);
    if (!this.runs.has(folder)) this.runs.set(folder, await runAround(api, folder));
    if (this.runs.get(folder)) return true;
    if (!this.app.session.seesLibrary) return false;
    return this.wishes.get(path)?.isKept ?? (await kept.among([path, posterOf(path)], await kept.below(path))).size > 0;
  }

  /**
   * @param {FolderShelf} shelf
   * @param {string} path
   */
  discard({ api, collection, pictures }, path) {
    const { app } = this;
    const paths = [path, posterOf(path)].filter((one) => videoOf(one) === path);
    const again = this.undoing.returnOf(collection, path);
    this.leaving.add(path);
    app.selection.leaveOut(collection, [path]);
    this.send(async () => {
      const gone = await removeAll(api, paths, { stopped: false, tell: () => {} }, (_, ids) => this.undoing.tell({ path, ids, again }));
      for (const one of gone) pictures.forget(one);
      this.leaving.delete(path);
      if (!gone.includes(path)) again();
    });
  }
}
