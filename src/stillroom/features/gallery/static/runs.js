// Published runs: which folder is one, what is said above its images, and how it is deleted.

import { quoted } from "./api.js";
import { button, by, complain, count, duration, folderOf, hasFeature, icon, make, toast } from "./elements.js";

/**
 * @typedef {{ folder: string, state: string, published_at: string | null, count: number | null,
 *   expires_at?: string | null }} Run
 */

/** @type {(text: string) => string} */
const moment = (text) => new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });

/**
 * The published run that a folder is; null if it is none.
 * @param {Pick<Api, "get">} api
 * @param {string} folder with its slash
 * @returns {Promise<Run | null>}
 */
export async function runAt(api, folder) {
  if (!folder || !hasFeature("runs")) return null;
  const [first] = await api.get("storage/runs", { prefix: folder, limit: 1 });
  return first?.state === "published" && `${first.folder}/` === folder ? first : null;
}

/**
 * The published runs in a folder, itself included.
 * @param {Api} api
 * @param {string} folder with its slash
 * @param {number} limit
 * @returns {Promise<Run[]>}
 */
export const runsIn = async (api, folder, limit) =>
  hasFeature("runs") ? api.get("storage/runs", { prefix: folder, state: "published", limit }) : [];

/**
 * The published run that a folder is or lies in; null if there is none.
 * @param {Api} api
 * @param {string} folder with its slash
 */
export async function runAround(api, folder) {
  for (let at = folder; at; at = folderOf(at)) {
    const run = await runAt(api, at).catch((error) => {
      if (error.status === 403 || error.status === 404) return null; // above the token's folder, or there are no runs
      throw error;
    });
    if (run) return run;
  }
  return null;
}

/** How long what is deleted stays, as words. */
export function grace() {
  const seconds = Number(document.documentElement.dataset.deletionGrace);
  return seconds >= 1 ? `in ${duration(seconds)}` : "soon";
}

/**
 * Delete runs, and say what became of them.
 * @param {Api} api
 * @param {Run[]} runs
 * @param {Work} work
 * @param {(text: string, ids: string[]) => void} undo offers to restore what is in the trash
 */
export async function removeRuns(api, runs, work, undo) {
  /** @type {string[]} */
  const trashed = [];
  const sum = { marked: 0, kept: 0, newer: 0 };
  const { left, failure } = await work.each(runs, "runs deleted", async ({ folder }) => {
    const { marked, kept, newer, trash_id: id } = await (await api.delete(`storage/runs/${quoted(folder)}`)).json();
    Object.assign(sum, { marked: sum.marked + marked, kept: sum.kept + kept, newer: sum.newer + newer });
    if (id) trashed.push(id);
  });
  const said = [
    `${count(runs.length - left.length, "run")} deleted${trashed.length ? "." : `: ${count(sum.marked, "image")} will be gone ${grace()}.`}`,
    sum.kept ? `Staying in the library: ${count(sum.kept, "image")}.` : "",
    sum.newer ? `Staying, saved since: ${count(sum.newer, "image")}.` : "",
  ].filter(Boolean).join(" ");
  if (left.length) complain(`${count(left.length, "run")} not deleted: ${failure?.message ?? "stopped."} ${said}`);
  if (trashed.length) undo(said, trashed);
  else if (!left.length) toast(said);
}

/** The line above a run's images. */
export class RunLine {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    /** @type {Run | null} */
    this.run = null;
  }

  /** @param {Place} place */
  async show({ view, folder, search }) {
    const line = by("run");
    const isFolder = view === "folder" && search === null;
    if (!isFolder || this.run?.folder !== folder.slice(0, -1)) this.hide();
    if (!isFolder) return;
    const { shelf } = this.app;
    const run = await runAt(this.app.shown.api, folder).catch(() => null);
    if (this.app.shelf !== shelf) return;
    this.hide();
    if (!run) return;
    this.run = run;
    line.replaceChildren(icon("run"), make("span", {}, saidOf(run)));
    if (this.app.session.may("storage:delete")) {
      line.append(button("Delete run", "bin", () => this.app.selection.remove([folder]), { kind: "danger" }));
    }
    line.hidden = false;
    this.app.grid.schedule(); // it has moved down
  }

  hide() {
    this.run = null;
    by("run").hidden = true;
  }
}

/** @param {Run} run */
function saidOf(run) {
  return [
    "Published run",
    run.count === null ? null : count(run.count, "image"),
    run.published_at && moment(run.published_at),
    run.expires_at && `will be deleted ${moment(run.expires_at)}`,
  ].filter(Boolean).join(" · ");
}
