// Files that come in by a drop or a file dialog.

import { by, complain, nameOf, sentence } from "./elements.js";
import { FolderShelf } from "./shelves.js";

const JUNK = new Set([".DS_Store", "Thumbs.db", "desktop.ini"]);

/** @typedef {{ file: File, below: string }} Found a file, and its path below where it was dropped */

export class FileDrops {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    by("upload").onclick = () => by("files").click();
    for (const id of ["files", "folder"]) {
      by(id).onchange = () => {
        /** @type {File[]} */
        const files = [...by(id).files];
        this.upload(files.map((file) => ({ file, below: file.webkitRelativePath || file.name })));
        by(id).value = "";
      };
    }
    addEventListener("dragover", (event) => this.over(event));
    addEventListener("dragleave", (event) => {
      if (event.relatedTarget === null) by("drop").hidden = true;
    });
    addEventListener("drop", (event) => this.drop(event));
  }

  /** The folder that files may be dropped into now. */
  get folder() {
    const { session, shelf, viewer } = this.app;
    const isOpen = session.api && shelf instanceof FolderShelf && !by("upload").hidden && !viewer.isOpen;
    return isOpen ? shelf.collection.folder : null;
  }

  /** @param {DragEvent} event */
  over(event) {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault(); // a browser would open the file in place of the page
    const { folder } = this;
    event.dataTransfer.dropEffect = folder === null ? "none" : "copy";
    if (folder === null) return;
    by("drop-told").textContent = `Drop to upload to ${nameOf(folder) || "all images"}`;
    by("drop").hidden = false;
  }

  /** @param {DragEvent} event */
  async drop(event) {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    by("drop").hidden = true;
    if (this.folder === null) return;
    try {
      this.upload(await filesOf(event.dataTransfer));
    } catch (/** @type {any} */ error) {
      complain(`The folder cannot be read: ${sentence(error.message)} Check its permissions, and drop the folder again.`);
    }
  }

  /** @param {Found[]} found */
  upload(found) {
    const { shelf, uploads } = this.app;
    if (!(shelf instanceof FolderShelf)) return;
    const { folder } = shelf.collection;
    uploads.add(found
      .filter(({ below }) => !JUNK.has(nameOf(below)))
      .map(({ file, below }) => ({ file, path: pathFor(folder, below) })));
  }
}

/**
 * The files of a drop, folders opened.
 * @param {DataTransfer} transfer
 */
async function filesOf(transfer) {
  const entries = [...transfer.items]
    .filter(({ kind }) => kind === "file")
    .map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile())
    .filter((entry) => entry !== null);
  /** @type {Found[]} */
  const found = [];
  for (const entry of entries) await walk(entry, "", found);
  return found;
}

/**
 * @param {any} entry a `FileSystemEntry`, or a `File` where a browser has none
 * @param {string} above
 * @param {Found[]} found
 */
async function walk(entry, above, found) {
  if (entry instanceof File) found.push({ file: entry, below: above + entry.name });
  else if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ file, below: above + entry.name });
  } else {
    const reader = entry.createReader();
    const read = () => new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    for (let some = await read(); some.length; some = await read()) { // a hundred at a time
      for (const one of some) await walk(one, `${above}${entry.name}/`, found);
    }
  }
}

/**
 * Where a file goes. macOS spells names in another way than the server takes them (NFC).
 * @type {(folder: string, below: string) => string}
 */
const pathFor = (folder, below) => folder + below.normalize("NFC");
