// How a picture was made, beside it: each fact with a button that copies it, the raw graph behind a fold.

import { KEPT_FOR_MS, save } from "./actions.js";
import { copy } from "./actions.js";
import { ASKED, dimensions } from "./details.js";
import { button, make } from "./elements.js";
import { folderFragment } from "./router.js";

const WORD = /[\p{L}\p{N}]+/gu;
const MOST_WORDS = 30; // of a prompt, in a search for the same

/**
 * @typedef {{ name: string, weight: number | null }} Lora
 * @typedef {{ tool: string | null, prompt: string | null, negative_prompt: string | null, seed: string | null,
 *   steps: number | null, cfg_scale: number | null, sampler: string | null, scheduler: string | null,
 *   model: string | null, loras: Lora[] | null, width: number | null, height: number | null,
 *   derived_from: string[] | null, raw: Record<string, unknown> | null }} Generation
 * @typedef {Facts & { generation: Generation | null, ai_mark: string | null,
 *   expires_at?: string | null, derived_from?: string[] | null, derivatives?: number | null }} Metadata
 */

/**
 * An answer with the seed as text: it has up to 64 bits, and numbers here have 53.
 * @param {string} text
 * @returns {Metadata}
 */
export function metadataOf(text) {
  const found = JSON.parse(text, exactly);
  // Inside of a text the quotation marks would have backslashes, so this is a name, and the first one.
  const seed = /,"seed":(\d+)/.exec(text)?.[1] ?? null;
  if (found.generation) found.generation.seed = found.generation.seed === null ? null : seed;
  return found;
}

/**
 * Numbers in what is shown as JSON again, as they were spelled, where the browser can.
 * @param {string} _name
 * @param {unknown} value
 * @param {{ source?: string }} [context]
 */
function exactly(_name, value, context) {
  const { rawJSON } = /** @type {any} */ (JSON);
  if (typeof value !== "number" || Math.abs(value) < 2 ** 53 || !rawJSON || !context?.source) return value;
  return rawJSON(context.source);
}

/**
 * What an image says of itself: that AI made it, and by which mark.
 * @param {string | null} mark
 * @returns {Row[]}
 */
export function markOf(mark) {
  const said = { c2pa: "manifest (C2PA), not verified", iptc: "property (IPTC)", both: "manifest (C2PA), not verified, and property (IPTC)" }[mark ?? ""];
  return said ? [["Made by AI", said]] : [];
}

/**
 * The facts that are known, those first that people look for.
 * @param {Generation | null} made
 * @returns {Row[]}
 */
export function rowsOf(made) {
  if (!made) return [];
  const loras = made.loras?.map(({ name, weight }) => (weight === null ? name : `${name} (${weight})`));
  const asked = made.width && made.height ? dimensions(made.width, made.height) : null;
  /** @type {[string, string | number | null | undefined, boolean][]} */
  const rows = [
    ["Prompt", made.prompt, true],
    ["Negative prompt", made.negative_prompt, true],
    ["Seed", made.seed, true],
    ["Model", made.model, true],
    ["LoRAs", loras?.join("\n"), true],
    ["Steps", made.steps, true],
    ["CFG scale", made.cfg_scale, false],
    ["Sampler", made.sampler, false],
    ["Scheduler", made.scheduler, false],
    [ASKED, asked, false],
    ["Made from", made.derived_from?.join("\n"), true],
    ["Made with", made.tool, false],
  ];
  return rows.flatMap(([label, value, canCopy]) => (
    value === null || value === undefined || value === "" ? [] : [[label, String(value), canCopy]]
  ));
}

/**
 * Links to searches for images that were made alike; `address` is that of a search.
 * @param {Generation | null} made
 * @param {(search: string) => string} address
 * @returns {Row[]}
 */
export function alikeOf(made, address = (search) => folderFragment("", search)) {
  const words = made?.prompt?.match(WORD)?.slice(0, MOST_WORDS).join(" ");
  const ways = [
    words ? make("a", { href: address(`prompt:"${words}"`) }, "Same prompt") : null,
    made?.seed === null || made?.seed === undefined ? null : make("a", { href: address(`seed:${made.seed}`) }, "Same seed"),
  ].filter((one) => one !== null);
  return ways.length ? [["Find", make("span", { class: "row" }, ...ways)]] : [];
}

/**
 * What the tool has written, as a fold; it is put into the page when it is opened. A workflow can be saved.
 * @param {Generation | null} made
 * @param {string} name
 * @returns {Row[]}
 */
export function foldOf(made, name) {
  if (!made?.raw) return [];
  const { raw } = made;
  const inner = make("div", {});
  const fold = make("details", { class: "raw" }, make("summary", {}, "As the tool wrote it"), inner);
  fold.addEventListener("toggle", () => inner.replaceChildren(...(fold.open ? partsOf(raw) : [])));
  const { workflow } = raw;
  return [...(workflow ? [/** @type {Row} */ (["Workflow", button("Open workflow", "down", () => saveJson(workflow, name))])] : []), ["", fold]];
}

/**
 * Save a workflow as the file that ComfyUI opens.
 * @param {unknown} workflow
 * @param {string} name of the image
 */
function saveJson(workflow, name) {
  const url = URL.createObjectURL(new Blob([textOf(workflow)], { type: "application/json" }));
  save(url, `${name}.json`);
  setTimeout(() => URL.revokeObjectURL(url), KEPT_FOR_MS);
}

/** @param {unknown} value */
const textOf = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

/**
 * @param {Record<string, unknown>} raw
 * @returns {HTMLElement[]}
 */
function partsOf(raw) {
  return Object.entries(raw).flatMap(([name, value]) => {
    const text = textOf(value);
    return [
      make("div", { class: "raw-head" }, make("h4", { dir: "auto" }, name), copier(name, text)),
      make("pre", { dir: "auto", tabIndex: 0 }, text),
    ];
  });
}

/**
 * @param {string} name
 * @param {string} text
 */
const copier = (name, text) => button(`Copy ${name}`, "copy", () => copy(text, name), { quiet: true });
