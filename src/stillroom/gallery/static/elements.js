// Making elements. What is shown is set as text, never as markup: names come from strangers.

const SVG = "http://www.w3.org/2000/svg";

/** The element with this id. */
export const by = (id) => document.getElementById(id);

/** An element with properties (`class` and attributes with a dash or `role` too) and children. */
export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (key === "class") element.className = value;
    else if (key === "role" || key.includes("-")) element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** One of the drawings in the page; it says nothing to a screen reader. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

for (const one of document.querySelectorAll("button[data-icon]")) {
  one.prepend(icon(one.dataset.icon));
  one.title ||= one.getAttribute("aria-label") ?? "";
}

/** A button with a drawing, and a text beside it or for screen readers alone. */
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

const live = by("live");
const toasts = by("toasts");

/** Behind an open dialog nothing is read out and nothing can be pressed: so it goes into it. */
function intoView(element) {
  const host = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;
  if (element.parentElement !== host) host.append(element);
}

/** Tell it to those who listen. */
export function say(text) {
  intoView(live);
  live.textContent = "";
  // Another frame, or the same words twice would be one change and not be read again.
  requestAnimationFrame(() => { live.textContent = text; });
}

/** A short message at the foot of the page. */
export function toast(text, { failed = false } = {}) {
  const shown = make("div", { class: failed ? "toast failed" : "toast" }, make("span", {}, text));
  const away = () => shown.remove();
  shown.append(button("Close this message", "close", away, { quiet: true }));
  toasts.append(shown);
  intoView(toasts);
  if (toasts.matches(":popover-open")) toasts.hidePopover();
  toasts.showPopover(); // above a dialog that was opened later, too
  if (!failed) setTimeout(away, 6000);
  say(text);
}

/** Ask in a dialog; answers the value of the button, or "" for Escape. */
export function ask(title, body, buttons) {
  const dialog = make("dialog", { class: "question", "aria-labelledby": "question-title" });
  const close = (value) => { dialog.returnValue = value; dialog.close(); };
  dialog.append(
    make("h2", { id: "question-title" }, title),
    ...body,
    make(
      "div",
      { class: "answers" },
      ...buttons.map(({ text, value, kind }) => button(text, null, () => close(value), { kind })),
    ),
  );
  document.body.append(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue);
    });
    dialog.showModal();
  });
}

const UNITS = ["bytes", "KB", "MB", "GB", "TB"];

/** A size as people say it: 1 MB is 1,000,000 bytes. */
export function size(bytes) {
  let unit = 0;
  let value = bytes;
  while (value >= 1000 && unit < UNITS.length - 1) { value /= 1000; unit += 1; }
  return `${value.toLocaleString(undefined, { maximumFractionDigits: unit ? 1 : 0 })} ${UNITS[unit]}`;
}

/** `2 hours`; the largest unit that says it exactly enough. */
export function duration(seconds) {
  const [unit, length] = [["day", 86_400], ["hour", 3600], ["minute", 60]].find(([, one]) => seconds >= one) ?? ["second", 1];
  return count(Math.round(seconds / length), unit);
}

/** `3 images`. */
export const count = (number, one, many = `${one}s`) =>
  `${number.toLocaleString()} ${number === 1 ? one : many}`;

/** The last part of a path; a folder's without its slash. */
export const nameOf = (path) => path.replace(/\/$/, "").split("/").pop();

/** The folder that a path lies in, with its slash; "" at the top. */
export const folderOf = (path) => path.slice(0, path.replace(/\/$/, "").lastIndexOf("/") + 1);
