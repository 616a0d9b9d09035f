// The trash: a deletion is undone right after it, or later in the list of what was deleted.

import { ask, button, complain, count, duration, make, size, toast } from "./elements.js";
import { Folder } from "./listing.js";
import { askText } from "./work.js";

const TRASH_S = Number(document.documentElement.dataset.trash);
const AT_ONCE = 1000;
const LISTED = 100;

/** True if deleted images go to the trash. */
export const HAS_TRASH = TRASH_S > 0;

/**
 * How long deleted images stay in the trash, as a sentence.
 * @param {number} number of images
 */
export const stay = (number) => `${number === 1 ? "It stays" : "They stay"} in the trash for ${duration(TRASH_S)}.`;

/**
 * @typedef {{ id: string, path: string, size: number, purge_at: string, count: number | null }} Trashed
 * @typedef {{ id: string, path?: string, code?: string, detail?: string }} Restored
 */

/**
 * Show what was deleted, with a way back for ten seconds.
 * @param {App} app
 * @param {string} text
 * @param {string[]} ids in the trash
 * @param {boolean} areRuns
 */
export const offerUndo = (app, text, ids, areRuns = false) => toast(text, false, () => putBack(app, ids, areRuns));

/**
 * Restore what was just deleted.
 * @param {App} app
 * @param {string[]} ids
 * @param {boolean} areRuns
 */
export async function putBack(app, ids, areRuns = false) {
  const { api } = app.session;
  return api ? tellRestored(await restore(app, api, ids, areRuns)) : false;
}

/**
 * Restore images and runs. Pages that show their folders follow.
 * @param {App} app
 * @param {Api} api
 * @param {string[]} ids
 * @param {boolean} hasRuns
 * @returns {Promise<Restored[]>}
 */
async function restore(app, api, ids, hasRuns) {
  /** @type {Restored[]} */
  const results = [];
  for (let at = 0; at < ids.length; at += AT_ONCE) {
    const some = ids.slice(at, at + AT_ONCE);
    try {
      results.push(...(await api.post("storage/trash/restore", { ids: some })).results);
    } catch (/** @type {any} */ error) {
      results.push(...some.map((id) => ({ id, code: error.code || "failed", detail: error.message })));
    }
  }
  follow(app, results.filter(({ code }) => !code).map(({ path = "" }) => path), hasRuns);
  return results;
}

/**
 * Show what was restored: images, and folders of runs.
 * @param {App} app
 * @param {string[]} paths
 * @param {boolean} hasRuns
 */
function follow(app, paths, hasRuns = false) {
  const { newcomers, router: { place }, shelf } = app;
  if (!shelf || !paths.length) return;
  if (!hasRuns && shelf.collection instanceof Folder) for (const path of paths) newcomers.saved(path);
  else if (place?.picture === null) newcomers.reload();
}

/** @param {Restored[]} results */
function tellRestored(results) {
  const refused = results.filter(({ code }) => code);
  if (refused.length) complain(`${count(refused.length, "item")} not restored: ${refused[0].detail}`);
  else toast(`${count(results.length, "item")} restored.`);
  return !refused.length;
}

/** The list of what is in the trash, newest first. */
export class Trash {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.list = make("ul", { class: "trash", "aria-label": "Deleted images" });
    this.told = make("p", { role: "status" });
    /** @type {string | null} */
    this.next = null;
    this.hasFailed = false; // the last page
    this.all = make("input", { type: "checkbox", onchange: () => this.chooseAll() });
    this.more = button("Show more", "down", () => this.load());
    const { session } = app;
    this.restoring = button("Restore", "again", () => this.restoreChosen(), { kind: "primary" });
    this.deleting = button("Delete for good", "bin", () => this.deleteChosen(), { kind: "danger" });
    this.restoring.hidden = !session.may("storage:write") || !session.may("storage:delete");
    this.deleting.hidden = !session.may("storage:delete");
  }

  /** Open the list; it ends when it is closed. */
  async open() {
    this.list.onchange = () => this.follow();
    this.load();
    await ask(
      "Trash",
      [
        this.told,
        make("label", { class: "check" }, this.all, "Select all"),
        this.list,
        make("div", { class: "answers" }, this.more, this.deleting, this.restoring),
      ],
      [{ text: "Close", value: "" }],
    );
  }

  get api() {
    const { api } = this.app.session;
    if (!api) throw new Error("signed out");
    return api;
  }

  /** Load the next page. */
  async load() {
    this.more.disabled = true;
    const { folder } = this.app.session;
    try {
      const parameters = { limit: LISTED, prefix: folder, ...(this.next && { cursor: this.next }) };
      const { items, next } = await this.api.get("storage/trash", parameters);
      this.next = next;
      this.list.append(...items.map(rowOf));
      this.hasFailed = false;
    } catch (/** @type {any} */ error) {
      this.hasFailed = true;
      complain(error.message);
    }
    this.more.disabled = false;
    this.follow();
  }

  /** @returns {HTMLInputElement[]} */
  get boxes() { return [...this.list.querySelectorAll("input")]; }

  get chosen() { return this.boxes.filter(({ checked }) => checked); }

  chooseAll() {
    for (const box of this.boxes) box.checked = this.all.checked;
    this.follow();
  }

  /** Say how many there are, and what can be done with the selected ones. */
  follow() {
    const { boxes, chosen } = this;
    const all = `${boxes.length.toLocaleString()}${this.next ? "+" : ""} deleted, ${chosen.length.toLocaleString()} selected.`;
    this.told.textContent = boxes.length ? all : this.hasFailed ? "The trash could not be loaded." : `The trash is empty. Deleted images stay here for ${duration(TRASH_S)}.`;
    this.all.checked = boxes.length > 0 && chosen.length === boxes.length;
    this.all.parentElement?.toggleAttribute("hidden", boxes.length === 0);
    this.more.hidden = this.next === null && !this.hasFailed;
    for (const one of [this.restoring, this.deleting]) one.disabled = chosen.length === 0;
  }

  /** @param {string[]} ids */
  drop(ids) {
    for (const box of this.boxes) if (ids.includes(box.value)) box.closest("li")?.remove();
    this.follow();
    if (!this.list.childElementCount && this.next) this.load();
  }

  async restoreChosen() {
    const boxes = this.chosen;
    this.restoring.disabled = true;
    const results = await restore(this.app, this.api, boxes.map(({ value }) => value), boxes.some(isRun));
    this.drop(results.filter(({ code }) => !code).map(({ id }) => id));
    const [only] = results;
    if (results.length === 1 && only.code === "path_conflict" && !isRun(boxes[0])) this.restoreAs(only.id, boxes[0].name);
    else tellRestored(results);
  }

  /**
   * Restore an image under another path, because its own is taken.
   * @param {string} id
   * @param {string} path
   */
  restoreAs(id, path) {
    const taken = make("p", {}, "Another image has this path now. Choose another one.");
    askText("Restore as", [taken], { label: "Path", value: path, go: "Restore" }, async (text, close) => {
      try {
        await this.api.post(`storage/trash/${id}/restore`, { path: text });
      } catch (/** @type {any} */ error) { return error.message; }
      follow(this.app, [text]);
      this.drop([id]);
      close();
      toast("1 item restored.");
      return "";
    });
  }

  async deleteChosen() {
    const ids = this.chosen.map(({ value }) => value);
    const answer = await ask(
      `Delete ${count(ids.length, "item")} for good?`,
      [make("p", {}, "This can't be undone.")],
      [{ text: "Cancel", value: "" }, { text: "Delete for good", value: "delete", kind: "primary danger" }],
    );
    if (answer !== "delete") return;
    const gone = [];
    try {
      for (const id of ids) {
        await this.api.delete(`storage/trash/${id}`);
        gone.push(id);
      }
      toast(`${count(gone.length, "item")} deleted for good.`);
    } catch (/** @type {any} */ error) {
      complain(`${count(ids.length - gone.length, "item")} not deleted: ${error.message}`);
    }
    this.drop(gone);
  }
}

/** @type {(box: HTMLInputElement) => boolean} */
const isRun = (box) => box.dataset.run !== undefined;

/** @param {Trashed} trashed */
function rowOf({ id, path, size: bytes, purge_at: until, count: images }) {
  const left = Math.max(0, (Date.parse(until) - Date.now()) / 1000);
  return make(
    "li",
    {},
    make(
      "label",
      { class: "check", title: path },
      make("input", { type: "checkbox", value: id, name: path, "data-run": images === null ? null : "" }),
      make("span", { class: "trashed", dir: "auto" }, path),
      make("span", {}, `${images === null ? size(bytes) : count(images, "image")} · ${left ? `${duration(left)} left` : "due"}`),
    ),
  );
}
