// What people say of a resource: its caption, alt text and tags, and whether it is protected.

import { button, by, complain, dismiss, make, toast } from "./elements.js";
import { TagField, changeTags } from "./tags.js";

const CHANGED = 412;
const TRIED = 5; // what is computed of a resource changes its ETag, too
/** @type {["caption", "alt_text"]} */
const TEXTS = ["caption", "alt_text"];
const LABELS = { caption: "Caption", alt_text: "Alt text", protected: "Protected: it cannot be deleted" };

/**
 * @typedef {keyof typeof LABELS} Field
 * @typedef {Record<Field, string | boolean | null>} Values
 */

export class Editing {
  /** @param {App} app */
  constructor(app) { this.app = app; }

  /** @param {string} id */
  async edit(id) {
    const { api } = this.app.shown;
    try {
      const form = new Form(api, await load(api, id), (resource) => this.follow(resource));
      form.open();
    } catch (/** @type {any} */ error) { complain(error.message); }
  }

  /**
   * Show a resource as it is now.
   * @param {Resource} resource
   */
  follow(resource) {
    const { grid, shelf, viewer } = this.app;
    const collection = /** @type {any} */ (shelf?.collection);
    const at = collection?.indexOf(resource.id) ?? -1;
    if (!shelf || at < 0) return;
    collection.items[at] = resource;
    grid.refresh();
    if (viewer.described?.key !== resource.id) return;
    viewer.described = shelf.describe(at);
    by("viewer-name").textContent = viewer.described.name;
    by("viewer-actions").replaceChildren(...shelf.actions(viewer.described));
    viewer.details.show(shelf);
    viewer.holdFocus();
    this.app.tellTitle();
  }
}

/** The dialog. A change that was made elsewhere meanwhile is shown, and replaced only when that is asked for. */
class Form {
  /**
   * @param {Api} api
   * @param {{ resource: Resource, etag: string }} known as it is in the library
   * @param {(resource: Resource) => void} saved
   */
  constructor(api, known, saved) {
    this.api = api;
    this.known = known;
    this.saved = saved;
    this.texts = {
      caption: make("textarea", { class: "field", id: "edit-caption", rows: 2, maxLength: 10_000, dir: "auto" }),
      alt_text: make("textarea", { class: "field", id: "edit-alt_text", rows: 2, maxLength: 10_000, dir: "auto" }),
    };
    this.tags = new TagField("edit-tags");
    this.isProtected = make("input", { type: "checkbox", id: "edit-protected" });
    this.notice = make("p", { class: "notice", role: "alert" });
    this.go = button("Save", null, () => this.save(), { kind: "primary" });
    this.theirs = button("Use theirs", null, () => this.takeTheirs());
    this.theirs.hidden = true;
    this.dialog = make("dialog", { class: "question", "aria-labelledby": "edit-title" });
    const close = () => this.dialog.close();
    this.dialog.append(
      make("h2", { id: "edit-title" }, "Edit"),
      ...TEXTS.flatMap((field) => [make("label", { htmlFor: `edit-${field}` }, LABELS[field]), this.texts[field]]),
      make("label", { htmlFor: "edit-tags" }, "Tags, separated by commas"),
      ...this.tags.elements,
      make("label", { class: "check" }, this.isProtected, LABELS.protected),
      this.notice,
      make("div", { class: "answers" }, button("Cancel", null, close), this.theirs, this.go),
    );
    this.dialog.addEventListener("close", () => dismiss(this.dialog));
    /** @type {string[]} */
    this.before = []; // the tags that were shown
    this.fill(known.resource);
  }

  open() {
    document.body.append(this.dialog);
    this.dialog.showModal();
  }

  /** @param {Resource} resource */
  fill(resource) {
    for (const field of TEXTS) this.texts[field].value = resource[field] ?? "";
    this.before = resource.tags;
    this.tags.value = resource.tags;
    this.isProtected.checked = resource.protected;
  }

  /** @returns {Values} what is in the form */
  get values() {
    return {
      caption: this.texts.caption.value || null,
      alt_text: this.texts.alt_text.value || null,
      protected: this.isProtected.checked,
    };
  }

  async save() {
    if (!this.tags.take()) return;
    this.go.disabled = true;
    this.notice.textContent = "";
    try {
      if (await this.saveTexts()) {
        const { resource } = this.known;
        resource.tags = await changeTags(this.api, resource.id, this.before, this.tags.value) ?? resource.tags;
        this.dialog.close(); // the focus goes back, perhaps to what is replaced now
        this.saved(resource);
        toast("Saved.");
      }
    } catch (/** @type {any} */ error) { this.notice.textContent = error.message; }
    this.go.disabled = false;
  }

  /** Only what differs is sent, and only over what was seen; false where that was changed elsewhere. */
  async saveTexts() {
    for (let times = 0; times < TRIED; times += 1) {
      const before = valuesOf(this.known.resource);
      const changes = differing(this.values, before);
      if (!changes.length) return true;
      const body = Object.fromEntries(changes.map((field) => [field, this.values[field]]));
      try {
        this.known = await change(this.api, this.known, body);
        return true;
      } catch (/** @type {any} */ error) { if (error.status !== CHANGED) throw error; }
      this.known = await load(this.api, this.known.resource.id);
      const theirs = valuesOf(this.known.resource);
      const clashes = differing(theirs, before).filter((field) => changes.includes(field) && theirs[field] !== this.values[field]);
      for (const field of differing(theirs, before)) if (!changes.includes(field)) this.set(field, theirs[field]);
      if (clashes.length) {
        this.tell(clashes, theirs);
        return false;
      }
    }
    throw new Error("It is changed again and again. Try again in a moment.");
  }

  /**
   * @param {Field} field
   * @param {string | boolean | null} value
   */
  set(field, value) {
    if (field === "protected") this.isProtected.checked = Boolean(value);
    else this.texts[field].value = String(value ?? "");
  }

  /**
   * @param {Field[]} clashes
   * @param {Values} theirs
   */
  tell(clashes, theirs) {
    const now = clashes.map((field) => make("span", { class: "theirs", dir: "auto" }, saidOf(field, theirs[field])));
    this.notice.replaceChildren("Nothing was saved: this was changed elsewhere meanwhile. It says now:", ...now, "Save again to replace that.");
    this.theirs.hidden = false;
  }

  takeTheirs() {
    this.fill(this.known.resource);
    this.notice.textContent = "";
    this.theirs.hidden = true;
  }
}

/** @type {(resource: Resource) => Values} */
const valuesOf = ({ caption, alt_text, protected: isProtected }) =>
  ({ caption: inForm(caption), alt_text: inForm(alt_text), protected: isProtected });

/** @type {(text: string | null) => string | null} as a text field has it */
const inForm = (text) => text && text.replace(/\r\n?/g, "\n");

/**
 * @param {Values} one
 * @param {Values} other
 */
function differing(one, other) {
  /** @type {Field[]} */
  const fields = ["caption", "alt_text", "protected"];
  return fields.filter((field) => (one[field] || null) !== (other[field] || null));
}

/**
 * @param {Field} field
 * @param {string | boolean | null} value
 */
function saidOf(field, value) {
  if (field === "protected") return value ? "protected" : "not protected";
  return value ? `${LABELS[field]}: “${value}”` : `${LABELS[field]}: none`;
}

/**
 * @param {Api} api
 * @param {string} id
 */
const load = (api, id) => read(api.ask(new URL(`media-resources/${id}`, api.root)));

/**
 * @param {Api} api
 * @param {{ resource: Resource, etag: string }} known
 * @param {unknown} body
 */
const change = (api, { resource, etag }, body) =>
  read(api.ask(new URL(`media-resources/${resource.id}`, api.root), { method: "PATCH", body, match: etag }));

/**
 * @param {Promise<Response>} asked
 * @returns {Promise<{ resource: Resource, etag: string }>}
 */
async function read(asked) {
  const answer = await asked;
  // A proxy that compresses answers makes the ETag a weak one, which no If-Match may have.
  return { resource: await answer.json(), etag: (answer.headers.get("ETag") ?? "").replace(/^W\//, "") };
}
