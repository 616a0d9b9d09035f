// Making elements. What is shown is set as text, never as markup: names come from strangers.

const SVG = "http://www.w3.org/2000/svg";

const { features = "", login } = document.documentElement.dataset;

/** True if the application around this page has a login of its own, so that its tokens may not be Stillroom's. */
export const HAS_OWN_LOGIN = login === "app";

/**
 * True if the server has this feature, such as `search`.
 * @param {string} name
 */
export const hasFeature = (name) => features.split(" ").includes(name);

/**
 * The element with this id. Its kind is what the page says, which the type check does not read.
 * @type {(id: string) => any}
 */
export const by = (id) => document.getElementById(id);

/**
 * An element with properties (`class` and attributes with a dash or `role` too) and children.
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {Record<string, any>} properties
 * @param {...(Node | string | null)} children
 * @returns {HTMLElementTagNameMap[Name]}
 */
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (key === "class") element.className = value;
    else if (key === "role" || key.includes("-")) element.setAttribute(key, value);
    else Object.assign(element, { [key]: value });
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/**
 * One of the drawings in the page; it says nothing to a screen reader.
 * @param {string} name
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** @type {NodeListOf<HTMLButtonElement>} */
const drawn = document.querySelectorAll("button[data-icon]");
for (const one of drawn) {
  one.prepend(icon(one.dataset.icon ?? ""));
  one.title ||= one.getAttribute("aria-label") ?? "";
}

/**
 * A button with a drawing, and a text beside it or for screen readers alone.
 * @param {string} text
 * @param {string | null} drawing
 * @param {() => unknown} onclick
 * @param {{ quiet?: boolean, kind?: string }} options
 */
export function button(text, drawing, onclick, { quiet = false, kind = "" } = {}) {
  const made = make("button", { type: "button", class: `button ${kind}`, onclick });
  if (drawing) made.append(icon(drawing));
  if (quiet) {
    made.classList.add("round");
    made.setAttribute("aria-label", text);
    made.title = text;
  } else made.append(make("span", {}, text));
  return made;
}

const UNDO_MS = 10_000;
const live = by("live");
const toasts = by("toasts");

/**
 * Behind an open dialog nothing is read out and nothing can be pressed: so it goes into it.
 * @param {HTMLElement} element
 */
function intoView(element) {
  const host = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;
  if (element.parentElement !== host) host.append(element);
}

/**
 * Close a dialog; what is said in it stays in the page.
 * @param {HTMLDialogElement} dialog
 */
export function shut(dialog) {
  dialog.close();
  const isSaying = dialog.contains(toasts);
  for (const one of [live, toasts]) if (dialog.contains(one)) intoView(one);
  if (isSaying && toasts.childElementCount) toasts.showPopover(); // moving has closed it
}

/**
 * The same, and take it out of the page.
 * @param {HTMLDialogElement} dialog
 */
export function dismiss(dialog) {
  shut(dialog);
  dialog.remove();
}

/**
 * Announce a text to screen readers.
 * @param {string} text
 */
export function say(text) {
  intoView(live);
  live.textContent = "";
  // Another frame, or the same words twice would be one change and not be read again.
  requestAnimationFrame(() => { live.textContent = text; });
}

/**
 * A short message at the foot of the page: it goes by itself, but for a failure. `undo` adds a button. Answers what
 * takes it away.
 * @param {string} text
 * @param {boolean} failed
 * @param {(() => unknown) | null} undo
 */
export function toast(text, failed = false, undo = null) {
  const shown = make("div", { class: failed ? "toast failed" : "toast" }, make("span", {}, text));
  const away = () => shown.remove();
  if (undo) shown.append(button("Undo", "again", () => { away(); undo(); }, { kind: "undo" }));
  shown.append(button("Dismiss", "close", away, { quiet: true }));
  for (const same of [...toasts.children]) if (!undo && same.textContent === shown.textContent) same.remove();
  toasts.append(shown);
  intoView(toasts);
  if (toasts.matches(":popover-open")) toasts.hidePopover();
  toasts.showPopover(); // above a dialog that was opened later, too
  if (!failed) setTimeout(away, undo ? UNDO_MS : 6000);
  say(text);
  return away;
}

/**
 * Say what has failed.
 * @param {string} text
 */
export const complain = (text) => toast(text, true);

/**
 * Ask in a dialog; answers the value of the button, or "" for Escape.
 * @param {string} title
 * @param {HTMLElement[]} body
 * @param {{ text: string, value: string, kind?: string, onclick?: () => unknown }[]} buttons one with `onclick` does
 *   not close it
 * @returns {Promise<string>}
 */
export function ask(title, body, buttons) {
  const dialog = make("dialog", { class: "question", "aria-labelledby": "question-title" });
  /** @param {string} value */
  const close = (value) => { dialog.returnValue = value; dialog.close(); };
  dialog.append(
    make("h2", { id: "question-title" }, title),
    ...body,
    make(
      "div",
      { class: "answers" },
      ...buttons.map(({ text, value, kind, onclick = () => close(value) }) => button(text, null, onclick, { kind })),
    ),
  );
  document.body.append(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dismiss(dialog);
      resolve(dialog.returnValue);
    });
    dialog.showModal();
  });
}

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];

/**
 * A size as people say it: 1 MB is 1,000,000 bytes.
 * @param {number} bytes
 */
export function size(bytes) {
  let unit = 0;
  let value = bytes;
  while (value >= 1000 && unit < UNITS.length - 1) { value /= 1000; unit += 1; }
  return `${value.toLocaleString(undefined, { maximumFractionDigits: unit ? 1 : 0 })} ${UNITS[unit]}`;
}

/** @type {(bytes: number) => string} */
export const exactSize = (bytes) => (bytes < 1000 ? size(bytes) : `${size(bytes)} (${bytes.toLocaleString()} bytes)`);

/**
 * A message before another sentence.
 * @type {(text: string) => string}
 */
export const sentence = (text) => text.replace(/^./, (one) => one.toUpperCase()).replace(/[^.!?…]$/, "$&.");

/**
 * `2 hours`; the largest unit that says it exactly enough.
 * @param {number} seconds
 */
export function duration(seconds) {
  const [unit, length] = LENGTHS.find(([, one]) => seconds >= one) ?? ["second", 1];
  return count(Math.round(seconds / length), unit);
}

/** @type {[string, number][]} */
const LENGTHS = [["day", 86_400], ["hour", 3600], ["minute", 60]];

/**
 * `3 images`.
 * @type {(number: number, one: string, many?: string) => string}
 */
export const count = (number, one, many = `${one}s`) =>
  `${number.toLocaleString()} ${number === 1 ? one : many}`;

/**
 * The last part of a path; a folder's without its slash.
 * @type {(path: string) => string}
 */
export const nameOf = (path) => path.replace(/\/$/, "").split("/").at(-1) ?? "";

const POSTER = /(?<=\.(?:mp4|m4v|mov|webm))\.poster\.webp$/i;

/**
 * The video that a path is the poster of, or else the path itself.
 * @type {(path: string) => string}
 */
export const videoOf = (path) => path.replace(POSTER, "");

/** @type {(path: string) => string} */
export const posterOf = (video) => `${video}.poster.webp`;

/**
 * Paths without the posters of videos among them.
 * @param {string[]} paths
 */
export function withoutPosters(paths) {
  const all = new Set(paths);
  return paths.filter((path) => videoOf(path) === path || !all.has(videoOf(path)));
}

/**
 * The folder that a path lies in, with its slash; "" at the top.
 * @type {(path: string) => string}
 */
export const folderOf = (path) => path.slice(0, path.replace(/\/$/, "").lastIndexOf("/") + 1);
