// Links that work without a token until they expire: to an image, or to the ZIP of a folder, a run or a selection.

import { copy } from "./actions.js";
import { when } from "./details.js";
import { ask, button, by, complain, count, make, nameOf } from "./elements.js";
import { runAt } from "./runs.js";
import { isFolder, pathsOf } from "./trees.js";

/** @type {[string, number][]} */
const EXPIRIES = [["1 hour", 3600], ["1 day", 86_400], ["7 days", 7 * 86_400]];
const USUAL_S = 86_400;

/** @typedef {{ title: string, text: string, target: Record<string, unknown> }} Shared `target` is what the server signs */

/** The button *Share* of a folder, and the same for what is selected. */
export class Share {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    by("share").onclick = () => this.open([this.app.router.here.folder]);
  }

  /** @param {Place} place */
  show({ view, folder, search }) { by("share").hidden = view === "library" || search !== null || !folder; }

  /** @param {string[]} keys images, and folders with their slash */
  async open(keys) {
    const { api } = this.app.shown;
    try {
      const shared = await this.of(api, keys);
      if (shared) offer(api, shared);
    } catch (/** @type {any} */ error) { complain(error.message); }
  }

  /**
   * @param {Api} api
   * @param {string[]} keys
   * @returns {Promise<Shared | null>}
   */
  async of(api, keys) {
    const [first] = keys;
    const name = nameOf(first);
    if (keys.length > 1) {
      const trees = keys.some(isFolder) ? await this.app.selection.trees(keys) : null;
      if (keys.some(isFolder) && !trees) return null; // stopped, or it said why
      const paths = trees ? pathsOf(trees) : keys;
      const title = `Share ${count(paths.length, "image")}`;
      return { title, text: "The link downloads a ZIP file of these images.", target: { archive: { paths } } };
    }
    if (!isFolder(first)) return { title: `Share ${name}`, text: "The link shows this image.", target: { path: first } };
    const run = await runAt(api, first);
    if (run) return { title: `Share the run ${name}`, text: "The link downloads a ZIP file of the published images.", target: { run: run.folder } };
    const text = "The link downloads a ZIP file of all images that are in the folder then.";
    return { title: `Share the folder ${name}`, text, target: { archive: { prefix: first } } };
  }
}

/**
 * Ask for how long, and show the link.
 * @param {Api} api
 * @param {Shared} shared
 */
function offer(api, { title, text, target }) {
  const inputs = EXPIRIES.map(([, seconds]) => make("input", { type: "radio", name: "expiry", value: String(seconds), checked: seconds === USUAL_S }));
  const radios = EXPIRIES.map(([label], at) => make("label", { class: "check" }, inputs[at], label));
  const output = make("div", { role: "status" });
  const choice = make("fieldset", { onchange: () => output.replaceChildren() }, make("legend", {}, "It expires after"), ...radios);
  const sign = async () => {
    const seconds = Number(inputs.find(({ checked }) => checked)?.value);
    output.replaceChildren();
    try {
      const { url, expires_at: until } = await api.post("storage/signed-urls", { ...target, expires_in: seconds });
      const field = make("input", { class: "field", readOnly: true, value: url, "aria-label": "Link" });
      const copier = button("Copy", "copy", () => copy(url, "Link"), { kind: "primary" });
      output.replaceChildren(make("div", { class: "link" }, field, copier), make("p", {}, `It works until ${when(until)}.`));
      copier.focus();
    } catch (/** @type {any} */ error) {
      output.replaceChildren(make("p", { class: "notice" }, error.message));
    }
  };
  ask(
    title,
    [make("p", {}, `${text} It works without a token, for everybody who has it.`), choice, output],
    [{ text: "Close", value: "" }, { text: "Make link", value: "", kind: "primary", onclick: sign }],
  );
  inputs.find(({ checked }) => checked)?.focus();
}
