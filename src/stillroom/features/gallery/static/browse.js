// The lists of a place: its days, models, LoRAs, samplers, tools and tags with their counts. Each leads to a search.

import { ask, button, by, count, hasFeature, make, nameOf, say } from "./elements.js";
import { folderFragment, withOnly } from "./router.js";

const FEW = 10; // of each list, until all of it is asked for
const MOST_DAYS = 62; // above that, months

/** @type {["model" | "lora" | "sampler" | "tool" | "tag", string][]} */
const LISTS = [["model", "Models"], ["lora", "LoRAs"], ["sampler", "Samplers"], ["tool", "Tools"], ["tag", "Tags"]];

/**
 * @typedef {{ value: string, count: number }} Counted
 * @typedef {{ model: Counted[], lora: Counted[], sampler: Counted[], tool: Counted[], tag?: Counted[], day: Counted[],
 *   counted: number, complete: boolean }} Facets
 */

/** The button *Browse*, and what it opens. */
export class Browse {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    by("browse").onclick = () => this.open();
  }

  /** @param {Place} place */
  show({ view }) {
    by("browse").hidden = view === "library" || !hasFeature("search") || !this.app.session.may("storage:read");
  }

  async open() {
    const { place } = this.app.router;
    if (by("browse").hidden || !place) return;
    const body = make("div", { class: "facets" }, make("p", {}, "Looking…"));
    body.addEventListener("click", (event) => {
      const isLink = event.target instanceof Element && event.target.closest("a");
      if (isLink && !event.ctrlKey && !event.metaKey && !event.shiftKey) body.closest("dialog")?.close();
    });
    ask(`Browse ${nameOf(place.folder) || "all images"}`, [body], [{ text: "Close", value: "" }]);
    body.closest("dialog")?.classList.add("wide");
    try {
      const q = place.search?.trim();
      const facets = await this.app.shown.api.get("storage/search/facets", { prefix: place.folder, ...(q && { q }) });
      body.replaceChildren(...partsOf(facets, place));
      const strip = body.querySelector(".days");
      if (strip) strip.scrollLeft = strip.scrollWidth; // the newest
      if (body.isConnected) body.querySelector("a")?.focus({ preventScroll: true });
    } catch (/** @type {any} */ error) {
      body.replaceChildren(make("p", {}, error.message));
      say(error.message);
    }
  }
}

/**
 * @param {Facets} facets
 * @param {Place} place
 */
function partsOf(facets, place) {
  const { counted, complete, day } = facets;
  const images = count(counted, "image");
  const within = place.search?.trim() ? ` found by ${place.search.trim()}` : "";
  const lists = LISTS.filter(([name]) => facets[name]?.length)
    .map(([name, title]) => listOf(title, facets[name] ?? [], (value) => linkTo(place, `${name}:"${value.replaceAll('"', '""')}"`)));
  return [
    make("p", {}, `${complete ? images : `The newest ${images}`}${within}.`),
    day.length ? timeline(day, place) : null,
    ...(lists.length || !day.length ? lists : [make("p", {}, "None of them says how it was made.")]),
  ].filter((part) => part !== null);
}

/**
 * Attributes of a link to a place with one more filter. If the search has it, the link is to the place without it.
 * @param {Place} place
 * @param {string} filter
 */
function linkTo({ folder, search, sort, only }, filter) {
  const parts = (search ?? "").split(filter).map((part) => part.trim());
  const isThere = parts.length > 1;
  const text = [...parts, isThere ? "" : filter].filter(Boolean).join(" ");
  return { href: withOnly(folderFragment(folder, text || null, sort), only), "aria-current": isThere ? "true" : null };
}

/**
 * @param {string} title
 * @param {Counted[]} values
 * @param {(value: string) => Record<string, string | null>} link
 */
function listOf(title, values, link) {
  const rows = values.map(({ value, count: images }) => make(
    "li",
    {},
    make("a", { ...link(value), title: value }, make("span", { dir: "auto" }, value), make("span", {}, images.toLocaleString())),
  ));
  const list = make("ul", {}, ...rows.slice(0, FEW));
  const more = button(`All ${values.length}`, "down", () => {
    list.append(...rows.slice(FEW));
    more.remove();
    rows[FEW].querySelector("a")?.focus();
  });
  more.hidden = rows.length <= FEW;
  more.setAttribute("aria-label", `All ${values.length} ${title}`);
  return make("section", {}, make("h3", {}, title), list, more);
}

/**
 * The days as bars, oldest first; months if they are many.
 * @param {Counted[]} days newest first
 * @param {Place} place
 */
function timeline(days, place) {
  /** @type {Map<string, number>} */
  const spans = new Map();
  for (const { value, count: images } of days.toReversed()) {
    const span = days.length > MOST_DAYS ? value.slice(0, 7) : value;
    spans.set(span, (spans.get(span) ?? 0) + images);
  }
  const most = Math.max(...spans.values());
  let before = "";
  const bars = [...spans].map(([span, images]) => {
    const [year, month, day] = span.split("-");
    const group = day ? dateOf(span, { month: "short" }) : year;
    const label = make("span", {}, day ? String(Number(day)) : dateOf(`${year}-${month}`, { month: "short" }));
    const bar = make("span", { class: "bar-of-day" });
    bar.style.height = `${Math.max(4, (100 * images) / most)}%`;
    const said = `${dateOf(span, day ? { dateStyle: "medium" } : { month: "long", year: "numeric" })}: ${count(images, "image")}`;
    const link = make("a", { ...linkTo(place, `after:${span} before:${following(span)}`), title: said, "aria-label": said });
    link.append(make("span", { class: "shaft" }, bar), label, make("span", {}, group === before ? "" : group));
    before = group;
    return make("li", {}, link);
  });
  const list = make("ol", { class: "days" }, ...bars);
  return make("section", { class: "timeline" }, make("h3", {}, days.length > MOST_DAYS ? "Months" : "Days"), list);
}

/** @type {(span: string, how: Intl.DateTimeFormatOptions) => string} */
const dateOf = (span, how) => new Date(span).toLocaleDateString(undefined, { timeZone: "UTC", ...how });

/**
 * The day after a day, or the month after a month.
 * @param {string} span
 */
function following(span) {
  const [year, month, day] = span.split("-").map(Number);
  return new Date(Date.UTC(year, day ? month - 1 : month, (day || 0) + 1)).toISOString().slice(0, span.length);
}
