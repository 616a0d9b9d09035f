// What can be done with the pictures that are chosen: the bar at the foot, and what its buttons do.

import { copyLink, download, downloadZip, keepAll } from "./actions.js";
import { ask, button, by, count, make, say } from "./elements.js";
import { pictureFragment } from "./router.js";
import { FolderShelf, LibraryShelf } from "./shelves.js";

const MOST_DOWNLOADS = 20;

/** @typedef {import("./listing.js").Folder | import("./finding.js").Found | import("./listing.js").Library} Collection */

export class Selection {
  /** @param {import("./app.js").App} app */
  constructor(app) { this.app = app; }

  show() {
    const { grid, router, shelf } = this.app;
    const bar = by("chosen");
    const chosen = grid.selected.size;
    const hadFocus = bar.contains(document.activeElement);
    bar.hidden = chosen === 0;
    by("grid").classList.toggle("choosing", chosen > 0);
    if (!chosen || !shelf) {
      bar.replaceChildren();
      if (hadFocus) grid.focus();
      return;
    }
    const told = `${chosen.toLocaleString()} selected`;
    const view = router.place?.view;
    if (bar.childElementCount && !hadFocus) say(told);
    if (bar.childElementCount && bar.dataset.view === view && bar.dataset.one === String(chosen === 1)) {
      bar.firstElementChild.textContent = told;
      return;
    }
    bar.dataset.view = view;
    bar.dataset.one = String(chosen === 1);
    bar.replaceChildren(make("p", {}, told), ...this.buttons(shelf));
  }

  /** @param {FolderShelf | LibraryShelf} shelf */
  buttons(shelf) {
    const { grid, session } = this.app;
    const inFolder = shelf instanceof FolderShelf;
    const paths = () => [...grid.selected];
    return [
      inFolder && grid.selected.size === 1
        ? button("Copy link", "link", () => copyLink(shelf.api, paths()[0]))
        : null,
      inFolder ? button("Download", "down", () => this.download(paths())) : null,
      inFolder && session.may("media") && session.may("storage:delete") ? button("Add to library", "keep", () => this.keep(paths())) : null,
      shelf.mayRemove ? button("Delete", "bin", () => this.remove(paths()), { kind: "danger" }) : null,
      button("Clear selection", "close", () => grid.choosing.chooseNone(), { quiet: true }),
    ].filter((one) => one !== null);
  }

  /** @param {string[]} paths */
  download(paths) {
    // More files than this a browser asks about, or passes over.
    (paths.length > MOST_DOWNLOADS ? downloadZip : download)(this.app.shown.api, paths);
  }

  /** @param {string[]} paths */
  async keep(paths) {
    const { api } = this.app.shown;
    const answer = await ask(
      `Add ${count(paths.length, "image")} to the library?`,
      [make("p", {}, "Each is copied to an address that never changes. The original here is deleted later.")],
      [{ text: "Cancel", value: "" }, { text: "Add", value: "keep", kind: "primary" }],
    );
    if (answer !== "keep") return;
    await keepAll(api, paths);
    this.app.visited.delete("library");
    this.app.grid.choosing.chooseNone();
  }

  /** @param {string[]} keys */
  async remove(keys) {
    const { grid, router, shown: from, states, viewer } = this.app;
    if (!from.mayRemove) return;
    const { collection } = from;
    if (!await this.confirm(from, keys) || !this.app.shelf) return;
    const gone = await from.removeAll(keys, (done) => {
      by("told").textContent = `Deleting ${(done + 1).toLocaleString()} of ${keys.length.toLocaleString()}…`;
    });
    if (this.app.shelf) states.show();
    if (!gone.length) return;
    const at = gone.reduce((first, key) => Math.min(first, collection.indexOf(key)), Infinity);
    collection.remove(gone);
    if (this.app.shelf?.collection !== collection) return;
    grid.refresh();
    states.show();
    const { picture } = router.here;
    if (picture !== null && gone.includes(picture)) this.showNext(collection, at);
    else if (!viewer.isOpen) this.app.focusOn(at);
  }

  /**
   * @param {FolderShelf | LibraryShelf} shelf
   * @param {string[]} keys
   */
  async confirm(shelf, keys) {
    const nameOfKey = (/** @type {string} */ key) =>
      (shelf instanceof LibraryShelf ? shelf.describe(shelf.collection.indexOf(key)).name : key);
    const names = keys.slice(0, 5).map((key) => make("li", { dir: "auto" }, nameOfKey(key)));
    if (keys.length > 5) names.push(make("li", {}, `and ${(keys.length - 5).toLocaleString()} more`));
    const answer = await ask(
      `Delete ${count(keys.length, "image")}${shelf.where}?`,
      [make("ul", {}, ...names), make("p", {}, shelf.warning)],
      [{ text: "Cancel", value: "" }, { text: "Delete", value: "delete", kind: "primary danger" }],
    );
    return answer === "delete";
  }

  /**
   * The picture that was looked at is gone: show the one that took its place.
   * @param {Collection} collection
   * @param {number} at
   */
  showNext(collection, at) {
    const next = Math.min(at, collection.length - 1);
    if (next >= 0 && !collection.describe(next).isFolder) {
      this.app.router.go(pictureFragment(collection.describe(next), this.app.router.place), { replace: true });
    } else this.app.router.up();
  }
}
