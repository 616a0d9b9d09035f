// What stands beside or in place of the pictures: how many there are, why there are none, what to do about it.

import { UNREACHABLE } from "./api.js";
import { button, by, icon, make, say } from "./elements.js";
import { Folder, Library } from "./listing.js";
import { folderFragment, fragment, libraryFragment, withOnly } from "./router.js";

const RETRIED_AFTER_S = 5;
const EMPTY = "Nothing here yet";

export class States {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    /** @type {Refused | null} */
    this.failure = null;
    /** @type {number | undefined} */
    this.retrying = undefined;
    addEventListener("online", () => this.tryAgain());
  }

  /** Say how much there is, or why nothing shows and what to do. */
  show() {
    const { collection } = this.app.shown;
    const some = collection.length > 0;
    const what = collection instanceof Library ? "resource" : "entry";
    const many = what === "entry" ? "entries" : "resources";
    by("told").textContent = some
      ? `${collection.length.toLocaleString()}${collection.complete ? "" : "+"} ${collection.length === 1 ? what : many}`
      : "";
    by("grid").hidden = !some;
    const state = some ? null : this.of(collection);
    by("state").hidden = state === null;
    by("state").replaceChildren(...(state ?? []));
    this.showFoot(some);
  }

  /** What it says, as one text. */
  get text() {
    return [...by("state").querySelectorAll("h2, p")].map((one) => one.textContent).join(" ");
  }

  /** @param {boolean} some */
  showFoot(some) {
    const foot = by("foot");
    foot.hidden = !some || (!this.failure && !this.app.grid.isFull);
    if (foot.hidden) return;
    foot.replaceChildren(...(this.failure
      ? [`${this.failure.message} `, this.again()]
      : ["This page cannot show more. Search to find the rest."]));
  }

  again(kind = "") { return button("Try again", "again", () => this.tryAgain(), { kind }); }

  /** @param {Collection} collection */
  of(collection) {
    if (this.failure) return this.ofFailure(this.failure);
    if (!collection.complete) return []; // on its way; nothing that would flash
    if (collection.sieve) {
      const [title, text] = collection.sieve.only === "kept"
        ? ["Nothing is kept here", "Open a picture and press k to keep it."]
        : ["Nothing else is here", "All images here are kept."];
      return state("keep", title, [text], link("Show all images", withOnly(location.hash, "")));
    }
    if (!(collection instanceof Folder) && collection.search?.trim()) {
      const home = this.app.session.folder;
      const isBelow = !(collection instanceof Library) && collection.folder !== home;
      return state(
        "find",
        "Nothing found",
        ["Words match by their beginnings, in any case."],
        isBelow ? link("Search all folders", folderFragment(home, collection.search)) : null,
        everything(collection),
        button("Filters", "help", () => by("help").showModal()),
      );
    }
    if (collection instanceof Library) {
      const text = "Select images and add them to the library: they get an address that never changes.";
      return state("keep", "The library is empty", [text], link("Go to images", "#/"));
    }
    if (!this.app.session.may("storage:write")) return state("folder", EMPTY, ["Images saved here will appear."]);
    return state(
      "up",
      EMPTY,
      ["Drop images or folders anywhere on this page, or choose them."],
      button("Choose files", "up", () => by("files").click(), { kind: "primary" }),
      button("Choose a folder", "folder", () => by("folder").click()),
    );
  }

  /** @param {Refused} error */
  ofFailure(error) {
    const again = this.again("primary");
    const said = `The server says: ${error.message}`;
    if (error.status === 403) return this.ofRefusal(said);
    if (error.status === 0) {
      return navigator.onLine
        ? state("again", UNREACHABLE, ["It may be restarting, or the network may be down. Retrying every few seconds."], again)
        : state("again", "You are offline", ["This page reconnects automatically."], again);
    }
    const { collection } = this.app.shown;
    if (error.status === 422 && !(collection instanceof Folder)) {
      return state("find", "This search does not work", [error.message], everything(collection));
    }
    if (error.status === 503) {
      const advice = "Retrying automatically. If this persists, check the server log.";
      return state("again", "Storage is unavailable", [said, advice], again);
    }
    return state("close", "Something went wrong", [said], again, link("Go to all images", "#/"));
  }

  /** @param {string} said */
  ofRefusal(said) {
    const { session } = this.app;
    const { folder } = session;
    const advice = folder ? `It is limited to the folder ${folder}.` : "Sign in with a token that has the scope and folder for this.";
    return state(
      "out",
      "Not allowed with this token",
      [said, advice],
      folder ? link("Go to its folder", fragment(folder)) : null,
      button("Use another token", null, () => session.signOut()),
    );
  }

  /**
   * A page could not be loaded.
   * @param {Refused} error
   */
  fail(error) {
    if (error.status === 401 || !this.app.shelf) return;
    this.failure = error;
    this.show();
    say(this.text || error.message);
    if (error.status !== 0 && error.status !== 503) return;
    clearTimeout(this.retrying);
    this.retrying = setTimeout(() => this.tryAgain(), (error.retryAfter || RETRIED_AFTER_S) * 1000);
  }

  async tryAgain() {
    clearTimeout(this.retrying);
    const { shelf } = this.app;
    if (!shelf || !this.failure) return;
    this.failure = null;
    await this.app.grid.retry();
    if (this.app.shelf?.collection === shelf.collection) this.show();
  }
}

/**
 * @param {string} text
 * @param {string} href
 */
const link = (text, href) => make("a", { class: "button", href }, text);

/**
 * The way out of a search.
 * @param {Found | Library} collection
 */
const everything = (collection) => (collection instanceof Library
  ? link("Show the whole library", libraryFragment(null))
  : link("Show all images", folderFragment(collection.folder)));

/**
 * A drawing, a title, paragraphs and what can be done.
 * @param {string} drawing
 * @param {string} title
 * @param {string[]} texts
 * @param {...(HTMLElement | null)} ways
 */
const state = (drawing, title, texts, ...ways) => [
  icon(drawing),
  make("h2", {}, title),
  ...texts.map((text) => make("p", {}, text)),
  make("div", { class: "row" }, ...ways),
];
