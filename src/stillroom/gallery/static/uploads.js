// Sending files: a few at a time, each with its progress, none over an image that is there unless asked.

import { imageUrl, refusalOf } from "./api.js";
import { button, by, count, make, say, size } from "./elements.js";

const AT_ONCE = 3;
const MOST_ROWS = 200;

export class Uploads {
  /** `saved(path)` is called for each image that is stored; `api()` is who is signed in. */
  constructor({ api, saved, mostBytes }) {
    Object.assign(this, { api, saved, mostBytes });
    this.waiting = [];
    this.under = new Set();
    this.rows = new Map();
    this.panel = by("uploads");
    this.reset();
    by("uploads-close").onclick = () => this.close();
    by("replace-all").onclick = () => this.replaceAll();
    addEventListener("beforeunload", (event) => {
      if (this.waiting.length || this.under.size) event.preventDefault();
    });
  }

  reset() { Object.assign(this, { total: 0, done: 0, failed: 0, skipped: 0 }); }

  /** Send `[{ file, path }]`; paths are whole. */
  add(files) {
    if (!files.length) return;
    if (!this.waiting.length && !this.under.size) this.clearFinished();
    this.total += files.length;
    this.waiting.push(...files.map(({ file, path }) => ({ file, path, replace: false })));
    this.panel.hidden = false;
    this.start();
    say(`Uploading ${count(files.length, "file")}.`);
  }

  clearFinished() {
    if (!this.rows.size) this.reset();
  }

  start() {
    if (!this.api()) return; // until somebody signs in again
    while (this.under.size < AT_ONCE && this.waiting.length) this.send(this.waiting.shift());
    this.tell();
  }

  send(upload) {
    const { file, path } = upload;
    this.under.add(upload);
    const progress = make("progress", { max: 1, value: 0, "aria-label": `Upload of ${path}` });
    const stop = button(`Stop the upload of ${path}`, "close", () => request.abort(), { quiet: true });
    this.row(upload, "under", [progress], [stop]);
    const request = new XMLHttpRequest(); // fetch tells nothing of an upload's progress
    upload.request = request;
    if (file.size > this.mostBytes) {
      this.refuse(upload, `${size(file.size)} is more than this server takes: ${size(this.mostBytes)}.`);
      return;
    }
    const form = new FormData();
    form.append("file", file, "file");
    request.open("POST", imageUrl(path));
    request.setRequestHeader("Authorization", `Bearer ${this.api().token}`);
    if (!upload.replace) request.setRequestHeader("If-None-Match", "*");
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) progress.value = event.loaded / event.total;
      // All sent is not yet stored: the server syncs before it says so.
      if (event.loaded === event.total) progress.removeAttribute("value");
    };
    request.onload = () => this.answered(upload, request);
    request.onerror = () => this.refuse(upload, "The connection broke off.", true);
    request.onabort = () => {
      this.total -= 1;
      this.finish(upload);
    };
    request.send(form);
  }

  answered(upload, request) {
    const refused = refusalOf(request.status, request.responseText);
    if (request.status === 200) {
      this.done += 1;
      this.saved(upload.path);
      this.finish(upload);
    } else if (request.status === 412 && !upload.replace) this.askToReplace(upload);
    else if (request.status === 401) {
      this.under.delete(upload);
      this.waiting.unshift(upload); // whoever signs in next goes on with it
      this.hide(upload);
      const api = this.api();
      api?.onUnauthorized(api, refused);
    } else {
      const mayPass = [408, 503, 507].includes(request.status);
      this.refuse(upload, refused.message, mayPass);
    }
  }

  askToReplace(upload) {
    this.under.delete(upload);
    upload.isTaken = true;
    this.row(upload, "taken", ["There is an image of this name already."], [
      button("Replace", null, () => this.again(upload, true)),
      button("Skip", null, () => {
        this.skipped += 1;
        this.finish(upload);
      }),
    ]);
    say(`${upload.path} is there already.`);
    this.start();
  }

  refuse(upload, detail, mayPass = false) {
    this.under.delete(upload);
    this.failed += 1;
    upload.hasFailed = true;
    this.row(upload, "failed", [detail], [
      mayPass ? button("Try again", "again", () => this.again(upload, upload.replace)) : null,
      button(`Dismiss ${upload.path}`, "close", () => this.finish(upload), { quiet: true }),
    ]);
    say(`${upload.path} was not uploaded: ${detail}`);
    this.start();
  }

  again(upload, replace) {
    if (upload.hasFailed) this.failed -= 1;
    Object.assign(upload, { replace, hasFailed: false, isTaken: false });
    this.hide(upload);
    this.waiting.unshift(upload);
    this.start();
  }

  replaceAll() {
    for (const upload of [...this.rows.keys()]) if (upload.isTaken) this.again(upload, true);
  }

  finish(upload) {
    this.under.delete(upload);
    this.hide(upload);
    this.start();
  }

  hide(upload) {
    this.rows.get(upload)?.remove();
    this.rows.delete(upload);
  }

  /** Somebody signs out: nothing more is sent. */
  stop() {
    this.waiting = [];
    for (const { request } of this.under) request.abort();
    this.under.clear();
    this.close();
  }

  row(upload, kind, texts, buttons) {
    const row = make(
      "li",
      { class: `upload ${kind}` },
      make("span", { class: "upload-name", dir: "auto" }, upload.path),
      make("span", { class: "upload-state" }, ...texts),
      ...buttons.filter(Boolean),
    );
    const before = this.rows.get(upload);
    if (before) before.replaceWith(row);
    else if (this.rows.size < MOST_ROWS || kind === "under") by("upload-rows").prepend(row);
    this.rows.set(upload, row);
  }

  tell() {
    const under = this.waiting.length + this.under.size;
    const taken = [...this.rows.keys()].filter(({ isTaken }) => isTaken).length;
    const parts = [`${this.done.toLocaleString()} of ${count(this.total, "file")} uploaded`];
    if (this.failed) parts.push(`${this.failed.toLocaleString()} refused`);
    if (taken) parts.push(`${taken.toLocaleString()} there already`);
    if (this.skipped) parts.push(`${this.skipped.toLocaleString()} skipped`);
    by("uploads-told").textContent = `${parts.join(", ")}.`;
    by("replace-all").hidden = taken < 2;
    const overall = by("uploads-progress");
    overall.hidden = under === 0;
    overall.max = Math.max(1, this.total);
    overall.value = this.total - under;
    if (under === 0 && this.total && this.told !== this.done) {
      this.told = this.done;
      say(by("uploads-told").textContent);
      if (!this.rows.size) this.closeSoon();
    }
  }

  closeSoon() {
    clearTimeout(this.closing);
    this.closing = setTimeout(() => {
      if (!this.waiting.length && !this.under.size && !this.rows.size) this.close();
    }, 5000);
  }

  close() {
    if (this.waiting.length || this.under.size) return;
    this.panel.hidden = true;
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    this.reset();
  }
}

/** The files of a drop, folders opened, each with its path below where it was dropped. */
export async function filesOf(transfer) {
  const entries = [...transfer.items]
    .filter(({ kind }) => kind === "file")
    .map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile())
    .filter(Boolean);
  const found = [];
  for (const entry of entries) await walk(entry, "", found);
  return found;
}

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

/** Where a file goes. macOS spells names in another way than the server takes them (NFC). */
export const pathFor = (folder, below) => folder + below.normalize("NFC");
