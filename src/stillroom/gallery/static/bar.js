// The bar at the top, and the keys that work anywhere: finding, theme, density, help.

import { by, say } from "./elements.js";
import { folderFragment } from "./router.js";

const THEME = "stillroom.theme";
const THEMES = ["", "dark", "light"];
const THEME_NAMES = ["system", "dark", "light"];
const SIZES = ["roomy", "usual", "dense"];
const SIZE_NAMES = ["large", "medium", "small"];
const TYPED_MS = 180;

export class Bar {
  /** @param {import("./app.js").App} app */
  constructor(app) {
    this.app = app;
    /** @type {number | undefined} */
    this.typing = undefined;
    this.listenToFinder();
    by("theme").onclick = () => this.nextTheme();
    by("theme").title = `Theme: ${themeName()}`;
    by("density").onclick = () => this.nextDensity();
    by("help-open").onclick = () => by("help").showModal();
    by("help-close").onclick = () => by("help").close();
    by("skip").onclick = () => this.app.focusOn(this.app.grid.current);
    addEventListener("keydown", (event) => this.pressed(event));
  }

  /** @param {import("./router.js").Place} place */
  show({ view, begins }) {
    const isLibrary = view === "library";
    by("tab-images").setAttribute("aria-current", isLibrary ? "false" : "page");
    by("tab-library").setAttribute("aria-current", isLibrary ? "page" : "false");
    by("finder").hidden = isLibrary;
    by("upload").hidden = isLibrary || !this.app.session.may("storage:write");
    if (document.activeElement !== by("begins")) by("begins").value = begins;
  }

  listenToFinder() {
    by("begins").addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(() => this.find(by("begins").value.normalize("NFC")), TYPED_MS);
    });
    by("begins").addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "ArrowDown" && event.key !== "Enter") return;
      event.preventDefault();
      this.app.grid.focus();
    });
  }

  /** @param {string} begins */
  find(begins) {
    const { place } = this.app.router;
    if (!this.app.shelf || place?.view !== "folder" || begins === place.begins) return;
    this.app.router.go(folderFragment(place.folder, begins), { replace: Boolean(place.begins) });
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
    if (!this.app.session.api || isTyped || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "?") by("help").showModal();
    else if (event.key === "/" && !by("finder").hidden) by("begins").focus();
    else return;
    event.preventDefault();
  }
}

const theme = () => localStorage.getItem(THEME) ?? "";
const themeName = () => THEME_NAMES[THEMES.indexOf(theme())];
