// Sending files: a few at a time, each with its progress, none over an image that is there unless asked.

import { Refused, imageUrl, refusalOf } from "./api.js";
import { sendToBucket } from "./direct.js";
import { button, by, count, make, say, size } from "./elements.js";

const AT_ONCE = 3;
const DIRECT_FROM = 64 * 1024 ** 2;
const MOST_ROWS = 200;
const CLOSED_AFTER_MS = 5000;

/**
 * @typedef {{ file: File, path: string, replace: boolean, request?: { abort: () => void }, isTaken?: boolean,
 *   hasFailed?: boolean, issued?: import("./direct.js").Issued, isRefused?: boolean }} Upload `isRefused` by the bucket
 */

export class Uploads {
  /**
   * `saved(path)` is called for each image that is stored; `api()` is who is signed in.
   * `mostDirect` is what a file may have that goes to the bucket; 0 where none does.
   * @param {{ api: () => Api | null, saved: (path: string) => void, mostBytes: number, mostDirect: number }} hooks
   */
  constructor({ api, saved, mostBytes, mostDirect }) {
    this.api = api;
    this.saved = saved;
    this.mostBytes = mostBytes;
    this.mostDirect = mostDirect;
    this.total = 0;
    this.done = 0;
    this.failed = 0;
    this.skipped = 0;
    this.told = -1;
    /** @type {number | undefined} */
    this.closing = undefined;
    /** @type {Upload[]} */
    this.waiting = [];
    /** @type {Set<Upload>} */
    this.under = new Set();
    /** @type {Map<Upload, HTMLElement>} */
    this.rows = new Map();
    this.panel = by("uploads");
    by("uploads-close").onclick = () => this.close();
    by("replace-all").onclick = () => this.replaceAll();
    addEventListener("beforeunload", (event) => {
      if (this.waiting.length || this.under.size) event.preventDefault();
    });
  }

  reset() { Object.assign(this, { total: 0, done: 0, failed: 0, skipped: 0 }); }

  /**
   * Send files; paths are whole.
   * @param {{ file: File, path: string }[]} files
   */
  add(files) {
    if (!files.length) return;
    if (!this.waiting.length && !this.under.size && !this.rows.size) this.reset();
    this.total += files.length;
    this.waiting.push(...files.map(({ file, path }) => ({ file, path, replace: false })));
    this.panel.hidden = false;
    this.start();
    say(`Uploading ${count(files.length, "file")}.`);
  }

  start() {
    if (!this.api()) return; // until the next sign-in
    while (this.under.size < AT_ONCE) {
      const next = this.waiting.shift();
      if (!next) break;
      this.send(next);
    }
    this.tell();
  }

  /** @param {Upload} upload */
  send(upload) {
    const { file, path } = upload;
    const api = this.api();
    if (!api) return;
    this.under.add(upload);
    const progress = make("progress", { max: 1, value: 0, "aria-label": `Upload of ${path}` });
    const stop = button(`Cancel the upload of ${path}`, "close", () => upload.request?.abort(), { quiet: true });
    this.row(upload, "under", [progress], [stop]);
    if (!file.size) {
      this.refuse(upload, "The file is empty. Choose another one.");
      return;
    }
    const most = Math.max(this.mostBytes, this.mostDirect);
    if (file.size > most) {
      this.refuse(upload, `${size(file.size)} is over the limit of this server, ${size(most)}. Choose a smaller file.`);
      return;
    }
    /** @type {(event: ProgressEvent) => void} */
    const onprogress = (event) => {
      if (event.lengthComputable) progress.value = event.loaded / event.total;
      // All sent is not yet stored: the server syncs before it says so.
      if (event.loaded === event.total) progress.removeAttribute("value");
    };
    const isLarge = file.size > Math.min(DIRECT_FROM, this.mostBytes);
    if (isLarge && file.size <= this.mostDirect && !upload.isRefused) this.sendDirectly(api, upload, onprogress);
    else this.post(api, upload, onprogress);
  }

  /**
   * @param {Api} api
   * @param {Upload} upload
   * @param {(event: ProgressEvent) => void} onprogress
   */
  post(api, upload, onprogress) {
    const { file, path } = upload;
    const request = new XMLHttpRequest(); // fetch tells nothing of an upload's progress
    upload.request = request;
    const form = new FormData();
    form.append("file", file, "file");
    request.open("POST", imageUrl(path));
    request.setRequestHeader("Authorization", `Bearer ${api.token}`);
    if (!upload.replace) request.setRequestHeader("If-None-Match", "*");
    request.upload.onprogress = onprogress;
    request.onload = () => this.answered(upload, refusalOf(request.status, request.responseText));
    request.onerror = () => this.answered(upload, new Refused(0, "The connection was lost. Try again."));
    request.onabort = () => this.aborted(upload);
    request.send(form);
  }

  /**
   * @param {Api} api
   * @param {Upload} upload
   * @param {(event: ProgressEvent) => void} onprogress
   */
  async sendDirectly(api, upload, onprogress) {
    const request = new AbortController();
    upload.request = request;
    const refused = await sendToBucket(api, upload, request.signal, onprogress).catch((error) => error);
    if (!refused) this.answered(upload, new Refused(200, ""));
    else if (request.signal.aborted) this.aborted(upload);
    else if (refused.status === 501 && upload.file.size <= this.mostBytes) {
      upload.isRefused = true;
      this.post(api, upload, onprogress);
    } else this.answered(upload, refused);
  }

  /** @param {Upload} upload */
  aborted(upload) {
    this.total -= 1;
    this.finish(upload);
  }

  /**
   * @param {Upload} upload
   * @param {Refused} refused a status of 200 is none
   */
  answered(upload, refused) {
    const { status, code } = refused;
    if (status === 200) {
      this.done += 1;
      this.saved(upload.path);
      this.finish(upload);
    } else if (status === 412 && !upload.replace) this.askToReplace(upload);
    else if (status === 401) {
      this.under.delete(upload);
      this.waiting.unshift(upload); // the next sign-in goes on with it
      this.hide(upload);
      const api = this.api();
      if (api) api.onUnauthorized(api, refused);
    } else {
      const mayPass = [0, 408, 502, 503, 504, 507].includes(status) || ["bucket", "upload_missing", "grant_expired"].includes(code);
      this.refuse(upload, refused.message, mayPass);
    }
  }

  /** @param {Upload} upload */
  askToReplace(upload) {
    this.under.delete(upload);
    upload.isTaken = true;
    this.row(upload, "taken", ["An image with this name already exists."], [
      button("Replace", null, () => this.again(upload, true)),
      button("Skip", null, () => {
        this.skipped += 1;
        this.finish(upload);
      }),
    ]);
    say(`${upload.path} already exists.`);
    this.start();
  }

  /**
   * @param {Upload} upload
   * @param {string} detail
   */
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

  /**
   * @param {Upload} upload
   * @param {boolean} replace
   */
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

  /** @param {Upload} upload */
  finish(upload) {
    this.under.delete(upload);
    this.hide(upload);
    this.start();
  }

  /** @param {Upload} upload */
  hide(upload) {
    this.rows.get(upload)?.remove();
    this.rows.delete(upload);
  }

  /** Sign-out: nothing more is sent. */
  stop() {
    this.waiting = [];
    for (const { request } of this.under) request?.abort();
    this.under.clear();
    this.close();
  }

  /**
   * @param {Upload} upload
   * @param {string} kind
   * @param {(Node | string)[]} texts
   * @param {(Node | null)[]} buttons
   */
  row(upload, kind, texts, buttons) {
    const row = make(
      "li",
      { class: `upload ${kind}` },
      make("span", { class: "upload-name", dir: "auto" }, upload.path),
      make("span", { class: "upload-state" }, ...texts),
      ...buttons,
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
    if (this.failed) parts.push(`${this.failed.toLocaleString()} failed`);
    if (taken) parts.push(`${taken.toLocaleString()} already exist`);
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
      clearTimeout(this.closing);
      if (!this.rows.size) this.closing = setTimeout(() => { if (!this.rows.size) this.close(); }, CLOSED_AFTER_MS);
    }
  }

  close() {
    if (this.waiting.length || this.under.size) return;
    this.panel.hidden = true;
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    this.reset();
  }
}
