// The page as a whole: what is shown where, and what each part tells the others.

import { by, complain, nameOf, say } from "./elements.js";
import { Bar, showCrumbs } from "./bar.js";
import { FileDrops } from "./drops.js";
import { Filter } from "./filtering.js";
import { Found } from "./finding.js";
import { Grid } from "./grid.js";
import { Keeping } from "./keeping.js";
import { Folder, Library } from "./listing.js";
import { Newcomers } from "./newcomers.js";
import { Router, keyOf, pictureFragment } from "./router.js";
import { Selection } from "./selection.js";
import { Session } from "./session.js";
import { FolderShelf, LibraryShelf } from "./shelves.js";
import { States } from "./states.js";
import { LibraryPictures, Thumbnails, shapeFor } from "./thumbnails.js";
import { Uploads } from "./uploads.js";
import { Viewer } from "./viewer.js";

const REMEMBERED = 12; // places, with what was loaded of them, for Back

export class App {
  constructor() {
    /** @type {Shelf | null} */
    this.shelf = null;
    /** @type {Map<string, Collection>} */
    this.visited = new Map();
    /** @type {{ key: string, chosen: string[] } | null} */
    this.interrupted = null; // what was chosen where, when a token ended
    /** @type {Thumbnails | null} */
    this.pictures = null;
    /** @type {LibraryPictures | null} */
    this.libraryPictures = null;
    this.session = new Session({
      entered: () => this.entered(),
      leaving: () => {
        this.interrupted = null;
        this.uploads.stop();
      },
      ended: (expired) => this.interrupt(expired),
      left: () => this.left(),
    });
    this.router = new Router({
      home: () => this.session.folder,
      moved: () => { if (this.session.api) this.route(); },
    });
    this.states = new States(this);
    this.selection = new Selection(this);
    this.grid = new Grid(by("grid"), {
      open: (at) => this.router.go(this.addressOf(at)),
      addressOf: (at) => this.addressOf(at),
      shelf: () => this.shown,
      chosen: () => this.selection.show(),
      remove: () => this.selection.remove([...this.grid.selected]),
      trouble: (error) => this.states.fail(error),
      grown: () => this.states.show(),
      isCovered: () => this.viewer.isOpen,
      follow: () => this.newcomers.refresh(),
    });
    this.viewer = new Viewer({
      shelf: () => this.shown,
      shape: () => shapeFor(this.grid.shape?.width ?? 256, "contain"),
      moved: (at) => this.router.go(this.addressOf(at), { replace: true }),
      closed: () => this.router.up(),
      keys: () => this.keeping.keys,
    });
    this.keeping = new Keeping(this);
    this.filter = new Filter(this);
    this.uploads = new Uploads({
      api: () => this.session.api,
      mostBytes: Number(document.documentElement.dataset.maxUploadBytes),
      mostDirect: Number(document.documentElement.dataset.maxDirectBytes),
      saved: (path) => this.newcomers.saved(path),
    });
    this.drops = new FileDrops(this);
    this.bar = new Bar(this);
    this.newcomers = new Newcomers(this);
  }

  /** The shelf, where there must be one. */
  get shown() {
    if (!this.shelf) throw new Error("nothing is shown");
    return this.shelf;
  }

  // Signing in and out ------------------------------------------------------------------------------

  entered() {
    const { api } = this.session;
    if (!api) return;
    this.pictures = new Thumbnails(api);
    this.libraryPictures = new LibraryPictures(api);
    by("tab-library").hidden = !this.session.seesLibrary;
    this.route();
    this.uploads.start();
  }

  /** @param {boolean} expired */
  interrupt(expired) {
    const { place } = this.router;
    this.interrupted = expired && place ? { key: keyOf(place), chosen: [...this.grid.selected] } : null;
  }

  left() {
    this.shelf?.collection.cancel();
    this.shelf = null;
    this.router.place = null;
    this.visited.clear();
    this.libraryPictures?.close();
    this.keeping.clear();
    this.viewer.close();
    /** @type {NodeListOf<HTMLDialogElement>} */
    const dialogs = document.querySelectorAll("dialog[open]");
    for (const dialog of dialogs) dialog.close();
    by("toasts").replaceChildren();
    this.grid.leave();
  }

  // Where we are ------------------------------------------------------------------------------------

  route() {
    const { router } = this;
    const wanted = router.whereabouts();
    const before = router.place;
    const isSame = this.shelf !== null && router.isHere(wanted);
    router.place = wanted; // the cells' addresses depend on it
    if (!isSame) for (const told of by("toasts").querySelectorAll(".toast:not(.failed, :has(.undo))")) told.remove();
    if (!isSame || (wanted.picture === null && before?.picture === null && !router.comesBack)) this.showPlace(wanted);
    if (wanted.picture !== null) this.showPicture(wanted, wanted.picture);
    else if (this.viewer.isOpen) this.leaveViewer();
    this.tellTitle();
  }

  tellTitle() {
    const { view, folder, picture } = this.router.here;
    const name = picture !== null ? by("viewer-name").textContent
      : view === "library" ? "Library" : nameOf(folder) || "All images";
    document.title = `${name} – Stillroom`;
  }

  /**
   * The grid of a folder or the library. Back finds it as it was left.
   * @param {Place} wanted
   */
  showPlace(wanted) {
    const key = keyOf(wanted);
    const isFirst = this.shelf === null;
    if (this.shelf) this.shelf.collection.scrolledTo = scrollY;
    this.shelf = this.shelfOf(wanted, key);
    const { collection } = this.shelf;
    this.visited.delete(key);
    this.visited.set(key, collection);
    for (const oldest of this.visited.keys()) {
      if (this.visited.size <= REMEMBERED) break;
      this.visited.delete(oldest);
    }
    this.states.failure = null;
    this.pictures?.checked.clear();
    this.newcomers.reset();
    this.bar.show(wanted);
    this.filter.show(wanted);
    showCrumbs(wanted);
    by("grid").setAttribute("aria-label", wanted.view === "library" ? "Images in the library" : "Images");
    by("grid").hidden = false;
    this.grid.use(collection);
    this.states.show();
    if (!collection.length) this.load(collection, key, isFirst);
    else if (collection.current && wanted.picture === null) this.grid.focus();
  }

  /**
   * @param {Place} wanted
   * @param {string} key
   */
  shelfOf(wanted, key) {
    const { session: { api }, pictures, libraryPictures } = this;
    if (!api || !pictures || !libraryPictures) throw new Error("signed out");
    const known = this.router.comesBack ? this.visited.get(key) : undefined;
    const kept = known?.length ? known : undefined;
    const hooks = {
      may: (/** @type {string} */ scope) => this.session.may(scope),
      seesLibrary: () => this.session.seesLibrary,
      keep: (/** @type {string[]} */ paths) => this.selection.keep(paths),
      remove: (/** @type {string[]} */ keys) => this.selection.remove(keys),
      undo: this.keeping.undoing.offer.bind(this.keeping.undoing),
      edit: (/** @type {string} */ id) => this.selection.editing.edit(id),
      choice: (/** @type {Described} */ described) => this.keeping.buttons(described),
    };
    if (wanted.view === "library") {
      return new LibraryShelf(kept instanceof Library ? kept : new Library(api, wanted.search), libraryPictures, hooks);
    }
    if (wanted.search !== null) {
      const found = kept instanceof Found ? kept : new Found(api, wanted.folder, wanted.search, wanted.sort);
      return new FolderShelf(this.filter.over(found, wanted), pictures, hooks);
    }
    const folder = kept instanceof Folder ? kept : new Folder(api, wanted.folder);
    return new FolderShelf(this.filter.over(folder, wanted), pictures, hooks);
  }

  /**
   * The first page.
   * @param {Collection} collection
   * @param {string} key
   * @param {boolean} isFirst
   */
  async load(collection, key, isFirst) {
    await this.grid.retry();
    if (this.shelf?.collection !== collection) return;
    if (this.interrupted?.key === key) this.grid.choosing.choose(this.interrupted.chosen);
    this.interrupted = null;
    this.states.show();
    say(by("told").textContent || this.states.text);
    if (!isFirst && document.activeElement === document.body) this.grid.focus(); // what was pressed has gone
  }

  // The pictures ------------------------------------------------------------------------------------

  /** @param {number} at */
  addressOf(at) { return pictureFragment(this.shown.describe(at), this.router.place); }

  /**
   * @param {Place} place
   * @param {string} picture
   */
  async showPicture({ view, folder }, picture) {
    const { collection } = this.shown;
    if (this.showAt(collection.indexOf(picture))) return;
    if (view === "folder") {
      this.viewer.show({ key: picture, name: picture.slice(folder.length), isFolder: false }, -1);
      this.tellTitle();
    }
    await this.find(collection, picture);
    if (this.shelf?.collection !== collection || this.router.place?.picture !== picture) return;
    if (!collection.complete && collection.indexOf(picture) < 0) return; // the grid says why
    this.grid.measure();
    this.states.show();
    if (!this.showAt(collection.indexOf(picture)) && view === "library") {
      complain("This resource is not in the library. It may have been deleted: search the library for it.");
      this.router.go("#library", { replace: true });
    }
  }

  /** @param {number} at */
  showAt(at) {
    if (at < 0) return false;
    this.viewer.show(this.shown.describe(at), at);
    this.tellTitle();
    return true;
  }

  /**
   * An address was opened: its neighbours are found page by page, while the picture shows.
   * @param {Collection} collection
   * @param {string} picture
   */
  async find(collection, picture) {
    try {
      while (collection.indexOf(picture) < 0 && !collection.complete) {
        await collection.more();
        if (this.shelf?.collection !== collection || this.router.place?.picture !== picture) return;
      }
    } catch { /* the grid says why */ }
  }

  leaveViewer() {
    const { at } = this.viewer;
    this.viewer.close();
    this.focusOn(at);
    this.keeping.left();
  }

  /**
   * A picture of the grid; where there is none, what says why.
   * @param {number} at
   */
  focusOn(at) {
    if (at >= 0 && this.grid.length) this.grid.focus(at);
    else by("content").focus();
  }
}

new App().session.resume();
