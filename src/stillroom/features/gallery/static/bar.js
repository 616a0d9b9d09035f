// The bar at the top, and the keys that work anywhere: finding, theme, density, help.

import { by, make, say } from "./elements.js";
import { folderFragment, libraryFragment } from "./router.js";
import { RunLine } from "./runs.js";
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
    this.listenToSearch();
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
    const { view, search } = place;
    this.runLine.show(place);
    const isLibrary = view === "library";
    by("tab-images").setAttribute("aria-current", isLibrary ? "false" : "page");
    by("tab-library").setAttribute("aria-current", isLibrary ? "page" : "false");
    by("upload").hidden = isLibrary || !this.app.session.may("storage:write");
    by("newest").hidden = isLibrary;
    by("trash").hidden = !HAS_TRASH || !this.app.session.may("storage:read");
    if (document.activeElement !== by("search")) by("search").value = search ?? "";
    if (search === "") this.isNewest = true;
    if (search === null) this.isNewest = false;
    by("newest").setAttribute("aria-pressed", String(search !== null));
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
    by("newest").onclick = () => {
      by("search").value = "";
      this.search(this.app.router.here.search === null ? "" : null);
    };
  }

  /** @param {string | null} text */
  search(text) {
    const { place } = this.app.router;
    if (!this.app.shelf || !place || text === place.search) return;
    const address = place.view === "library" ? libraryFragment(text) : folderFragment(place.folder, text);
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
    const isTyped = event.target instanceof Element && event.target.closest("input, dialog");
    if (!this.app.session.api || isTyped || event.altKey) return;
    if (event.ctrlKey || event.metaKey) {
      if (event.key.toLowerCase() === "z") by("toasts").querySelector(".undo")?.click();
      if (event.key.toLowerCase() !== "a" || !this.app.grid.length) return;
      this.app.grid.choosing.chooseAll();
    } else if (event.key === "?") by("help").showModal();
    else if (event.key === "/" || event.key === "s") by("search").focus();
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
export function showCrumbs({ view, folder }) {
  if (view === "library") {
    by("crumbs").replaceChildren(make("li", {}, make("h1", {}, "Library")));
    return;
  }
  const parts = folder.split("/").slice(0, -1);
  by("crumbs").replaceChildren(...["All images", ...parts].map((name, at) => make("li", {}, at === parts.length
    ? make("h1", { dir: "auto" }, name)
    : make("a", { href: folderFragment(parts.slice(0, at).map((part) => `${part}/`).join("")), dir: "auto" }, name))));
}
