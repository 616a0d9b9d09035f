// Where the pictures of a view come from, and what can be done with one: the same for viewer and grid.

import { button, count, duration, nameOf, size, toast } from "./elements.js";
import { DIMENSIONS, copy } from "./viewer.js";

const LINK_FOR_S = 24 * 3600;
const DELETED_AT_ONCE = 100;
const INGESTED_AT_ONCE = 25;
const FOR_GOOD = "This can't be undone.";

const when = (text) => new Date(text).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });

class Shelf {
  constructor(collection, pictures, hooks) {
    Object.assign(this, { collection, pictures, hooks });
  }

  get api() { return this.collection.api; }

  get length() { return this.collection.length; }

  get complete() { return this.collection.complete; }

  more() { return this.collection.more(); }

  describe(at) { return this.collection.describe(at); }

  remove({ key }) { this.hooks.remove([key]); }

  removal(described) {
    return button("Delete", "bin", () => this.remove(described), { quiet: true, kind: "danger" });
  }

  total() { return `${this.length.toLocaleString()}${this.complete ? "" : "+"}`; }
}

/** Images in a folder. */
export class FolderShelf extends Shelf {
  show(image, { key, isFolder }, shape, failed) {
    if (!isFolder) this.pictures.show(image, key, shape, failed);
  }

  full({ key }) { return this.api.signedUrl(key); }

  exists({ key }) { return this.api.facts(key); }

  async facts({ key }) {
    const facts = await this.api.facts(key);
    if (!facts) return [["", "This picture is gone."]];
    return [
      ["Size", `${size(facts.size)} (${facts.size.toLocaleString()} bytes)`],
      ["Type", facts.content_type],
      ["Saved", when(facts.modified)],
      ["Path", key, true],
      ["SHA-256", facts.sha256 ?? "not known", Boolean(facts.sha256)],
      ["ETag", facts.etag, true],
    ];
  }

  actions(described) {
    const { may } = this.hooks;
    return [
      button("Copy a link", "link", () => copyLink(this.api, described.key), { quiet: true }),
      button("Download", "down", () => download(this.api, [described.key]), { quiet: true }),
      may("media") && may("storage:delete") ? button("Keep in the library", "keep", () => this.hooks.keep([described.key]), { quiet: true }) : null,
      this.mayRemove ? this.removal(described) : null,
    ].filter(Boolean);
  }

  get mayRemove() { return this.hooks.may("storage:delete"); }

  get where() { return ""; }

  get warning() { return FOR_GOOD; }

  removeAll(keys, progress) { return removeAll(this.api, keys, progress); }
}

/** The media library. */
export class LibraryShelf extends Shelf {
  show(image, { resource }, shape, failed) { this.pictures.show(image, resource, failed); }

  full({ resource }) { return this.pictures.url(resource); }

  exists({ resource }) { return this.api.get(`media-resources/${resource.id}`).then(() => true); }

  async facts({ resource }) {
    return [
      [DIMENSIONS, `${resource.width.toLocaleString()} × ${resource.height.toLocaleString()}`],
      ["Size", `${size(resource.file_size)} (${resource.file_size.toLocaleString()} bytes)`],
      ["Type", resource.content_type],
      ["Colour profile", resource.color_profile ?? "none"],
      ["Kept", when(resource.created_at)],
      ["Alt text", resource.alt_text ?? "none"],
      ["Caption", resource.caption ?? "none"],
      ["Protected", resource.protected ? "yes" : "no"],
      ["Id", resource.id, true],
      ["Key", resource.storage_key, true],
      ["SHA-256", resource.content_hash, true],
    ];
  }

  actions({ resource }) {
    return [button("Download", "down", async () => {
      try {
        save(await this.pictures.url(resource), `${resource.id}.${resource.extension}`);
      } catch (error) {
        toast(error.message, { failed: true });
      }
    }, { quiet: true }), this.removal({ key: resource.id })];
  }

  get mayRemove() { return true; } // who sees the library may change it

  get where() { return " from the library"; }

  get warning() {
    const grace = Number(document.documentElement.dataset.deletionGrace);
    return grace >= 1
      ? `The bytes are deleted in ${duration(grace)}. Until then, keeping the same image again brings it back.`
      : FOR_GOOD;
  }

  removeAll(keys, progress) { return removeResources(this.api, keys, progress); }
}

/** A link for whoever needs one, that ends by itself. */
export async function copyLink(api, path) {
  try {
    await copy(await api.link(path, LINK_FOR_S), "Link", "It works for 24 hours.");
  } catch (error) {
    toast(error.message, { failed: true });
  }
}

/** Save images as files. */
export async function download(api, paths) {
  try {
    for (const url of await Promise.all(paths.map((path) => api.signedUrl(path)))) {
      save(url, nameOf(decodeURIComponent(new URL(url).pathname)));
    }
  } catch (error) {
    toast(error.message, { failed: true });
  }
}

function save(url, name) {
  const link = document.createElement("a");
  // A CDN's answer is of another origin, where `download` is passed over: then it is shown, elsewhere.
  Object.assign(link, { href: url, download: name, target: "_blank", rel: "noopener" });
  link.click();
}

/** Take resources out of the library; answers those that are out, and says why others are not. */
async function removeResources(api, ids, progress) {
  const gone = [];
  let refused = null;
  for (const [at, id] of ids.entries()) {
    progress(at);
    try {
      await api.delete(`media-resources/${id}`);
      gone.push(id);
    } catch (error) {
      if (error.code === "resource_not_found") gone.push(id);
      else refused ??= error;
      if (error.status === 0 || error.status === 401) break;
    }
  }
  tellRemoved(gone.length, ids.length, refused?.message);
  return gone;
}

function tellRemoved(gone, all, why) {
  if (gone < all) toast(`${count(all - gone, "image")} not deleted: ${why}`, { failed: true });
  else toast(`${count(gone, "image")} deleted.`);
}

/** Delete images; answers those that are gone, and says why others are not. */
async function removeAll(api, paths, progress) {
  const gone = [];
  const kept = [];
  try {
    for (let at = 0; at < paths.length; at += DELETED_AT_ONCE) {
      const some = paths.slice(at, at + DELETED_AT_ONCE);
      progress(at);
      const { results } = await api.post("storage/delete", { paths: some });
      for (const result of results) {
        if (!result.code || result.code === "not_found") gone.push(result.path);
        else kept.push(result);
      }
    }
  } catch (error) {
    kept.push({ detail: error.message });
  }
  for (const path of gone) api.forget(path);
  tellRemoved(gone.length, paths.length, kept[0]?.detail);
  return gone;
}

/** Take images into the library. */
export async function keepAll(api, paths) {
  let done = 0;
  const refused = [];
  try {
    for (let at = 0; at < paths.length; at += INGESTED_AT_ONCE) {
      const items = paths.slice(at, at + INGESTED_AT_ONCE).map((path) => ({ storage_key: `compute/${path}` }));
      const { results } = await api.post("media-resources/ingest", { items });
      for (const result of results) {
        if (result.code) refused.push(result);
        else done += 1;
      }
    }
  } catch (error) {
    refused.push({ detail: error.message });
  }
  if (refused.length) toast(`${count(paths.length - done, "image")} not kept: ${refused[0].detail}`, { failed: true });
  else toast(`${count(done, "image")} kept in the library.`);
  return done;
}
