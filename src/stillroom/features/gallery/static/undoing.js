// Undo in the viewer: pictures that were deleted there come back one by one, the last one first.

import { nameOf, toast, withoutPosters } from "./elements.js";
import { Found } from "./finding.js";
import { Library } from "./listing.js";
import { pictureFragment } from "./router.js";
import { offerUndo, putBack } from "./trash.js";

/** @typedef {{ path: string, ids: string[], again: () => void }} Rejected `ids` are those in the trash */

export class Undoing {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    /** @type {Rejected[]} */
    this.rejected = [];
    this.dismiss = () => {};
  }

  /**
   * Return a function that shows a picture again where it is now, after it was deleted and restored.
   * @param {Folder | Found} collection
   * @param {string} path
   */
  returnOf(collection, path) {
    const at = Math.max(0, collection.indexOf(path));
    const isInserted = collection instanceof Found || collection.sieve?.keepsOut(path);
    return () => this.app.newcomers.saved(path, isInserted ? { collection, at } : null);
  }

  /**
   * Offer to undo a deletion. If it was that of the picture in the viewer, Undo shows the picture there again.
   * @param {string} text
   * @param {string[]} ids in the trash
   * @param {string[]} paths
   */
  offer(text, ids, paths) {
    const { shelf, viewer } = this.app;
    const [path, ...others] = withoutPosters(paths);
    const isShown = viewer.described?.key === path && !others.length;
    if (!isShown || !shelf || shelf.collection instanceof Library) offerUndo(this.app, text, ids);
    else this.tell({ path, ids, again: this.returnOf(shelf.collection, path) });
  }

  /** @param {Rejected} [rejected] the newest, or else the one before what was restored */
  tell(rejected) {
    if (rejected) this.rejected.push(rejected);
    const last = this.rejected.at(-1);
    this.dismiss();
    if (!last) return;
    this.dismiss = toast(`${nameOf(last.path)} deleted.`, false, () => this.restore(last));
  }

  /** @param {Rejected} rejected */
  async restore(rejected) {
    const { app } = this;
    const { place } = app.router;
    this.rejected = this.rejected.filter((one) => one !== rejected);
    if (await putBack(app, rejected.ids)) rejected.again();
    if (app.router.place === place && app.viewer.isOpen) {
      app.router.go(pictureFragment({ key: rejected.path, name: "", isFolder: false }, place), { replace: true });
    }
    this.tell();
  }
}
