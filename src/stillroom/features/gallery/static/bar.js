// The bar at the top, and the keys that work anywhere: finding, theme, density, help.

import { Browse } from "./browse.js";
import { by, hasFeature, make, say } from "./elements.js";
import { folderFragment, libraryFragment, withOnly } from "./router.js";
import { RunLine } from "./runs.js";
import { Share } from "./share.js";
import { Sorting } from "./sorting.js";
import { HAS_TRASH, Trash } from "./trash.js";

const THEME = "stillroom.theme";
const THEMES = ["", "dark", "light"];
const THEME_NAMES = ["system", "dark", "light"];
const SIZES = ["roomy", "usual", "dense", "named"];
const SIZE_NAMES = ["large", "medium", "small", "medium, with names"];
const TYPED_MS = 180;

export class Bar {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    /** @type {number | undefined} */
    this.typing = undefined;
    this.isNewest = false;
    this.runLine = new RunLine(app);
    this.sorting = new Sorting(this);
    this.browse = new Browse(app);
    this.share = new Share(app);
    this.listenToSearch();
    by("search").parentElement?.toggleAttribute("hidden", !hasFeature("search"));
    by("theme").onclick = () => this.nextTheme();
    by("theme").title = `Theme: ${themeName()}`;
    by("density").onclick = () => this.nextDensity();
    by("trash").onclick = () => new Trash(app).open();
    by("help-open").onclick = () => by("help").showModal();
    by("help-close").onclick = () => by("help").close();
    by("skip").onclick = () => this.app.focusOn(this.app.grid.current);
    addEventListener("keydown", (event) => this.pressed(event));
  }

  /** @param {Place} place */
  show(place) {
    const { view, folder, search } = place;
    for (const part of [this.runLine, this.sorting, this.browse, this.share]) part.show(place);
    const isLibrary = view === "library";
    by("tab-images").setAttribute("aria-current", isLibrary ? "false" : "page");
    by("tab-library").setAttribute("aria-current", isLibrary ? "page" : "false");
    by("upload").hidden = isLibrary || !this.app.session.may("storage:write") || !folder.startsWith(this.app.session.folder);
    by("trash").hidden = !HAS_TRASH || !this.app.session.may("storage:read");
    if (document.activeElement !== by("search")) by("search").value = search ?? "";
    if (search === "") this.isNewest = true;
    if (search === null) this.isNewest = false;
  }

  listenToSearch() {
    by("search").addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => {
        const text = by("search").value.normalize("NFC");
        this.search(text.trim() || this.isNewest ? text : null);
      }, TYPED_MS);
    });
    by("search").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "ArrowDown" && event.key !== "Enter") return;
      event.preventDefault();
      this.app.grid.focus();
    });
  }

  /**
   * @param {string | null} text
   * @param {string} [order] as now, if it is left out
   */
  search(text, order) {
    const { place } = this.app.router;
    if (!this.app.shelf || !place) return;
    const sort = text === null ? "" : order ?? place.sort;
    if (text === place.search && sort === place.sort) return;
    const { view, folder } = place;
    const only = order === undefined ? "" : place.only; // other words are looked for among all
    const address = view === "library" ? libraryFragment(text) : withOnly(folderFragment(folder, text, sort), only);
    this.app.router.go(address, { replace: Boolean(place.search) });
  }

  nextTheme() {
    const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
    localStorage.setItem(THEME, next);
    if (next) document.documentElement.dataset.theme = next;
    else delete document.documentElement.dataset.theme;
    say(`Theme: ${themeName()}`);
    by("theme").title = `Theme: ${themeName()}`;
  }

  nextDensity() {
    const { grid } = this.app;
    const next = (SIZES.indexOf(grid.density) + 1) % SIZES.length;
    grid.setDensity(SIZES[next]);
    say(`Thumbnail size: ${SIZE_NAMES[next]}`);
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const isTyped = event.target instanceof Element && event.target.closest("input, select, dialog");
    const isUndo = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !document.activeElement?.matches("input, textarea");
    if (isUndo) [...by("toasts").querySelectorAll(".undo")].at(-1)?.click(); // the last one first
    if (!this.app.session.api || isTyped || event.altKey) return;
    if (event.ctrlKey || event.metaKey) {
      if (event.key.toLowerCase() !== "a" || !this.app.grid.length) return;
      this.app.grid.choosing.chooseAll();
    } else if (event.key === "?") by("help").showModal();
    else if (event.key === "c" && this.app.grid.selected.size) this.app.selection.compare();
    else if (event.key === "/" || event.key === "s") by("search").focus();
    else if (event.key === "b") this.browse.open();
    else return;
    event.preventDefault();
  }
}

const theme = () => localStorage.getItem(THEME) ?? "";
const themeName = () => THEME_NAMES[THEMES.indexOf(theme())];

/**
 * The way to the folder, above its images.
 * @param {Place} place
 */
export function showCrumbs({ view, folder, search }) {
  if (view === "library") {
    by("crumbs").replaceChildren(make("li", {}, make("h1", {}, "Library")));
    return;
  }
  const parts = folder.split("/").slice(0, -1);
  if (search?.trim()) parts.push(`Results for “${search.trim()}”`);
  by("crumbs").replaceChildren(...["All images", ...parts].map((name, at) => make("li", {}, at === parts.length
    ? make("h1", { dir: "auto" }, name)
    : make("a", { href: folderFragment(parts.slice(0, at).map((part) => `${part}/`).join("")), dir: "auto" }, name))));
}
