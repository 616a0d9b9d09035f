// Where the pictures of a view come from, and what can be done with one: the same for viewer and grid.

import { copyLink, copyResourceLink, download, removeAll, removeResources, save } from "./actions.js";
import { button, complain, duration, exactSize, nameOf, posterOf } from "./elements.js";
import { nameInLibrary } from "./listing.js";
import { DIMENSIONS, DURATION, MISSING, dimensions, when } from "./details.js";
import { clock, posterAt } from "./films.js";
import { alikeOf, foldOf, markOf, rowsOf } from "./generation.js";
import { withLineage } from "./lineage.js";
import { libraryFragment } from "./router.js";
import { linkTags } from "./tags.js";
import { HAS_TRASH, stay } from "./trash.js";

const FOR_GOOD = "This can't be undone.";

/**
 * @typedef {{ may: (scope: string) => boolean, seesLibrary: () => boolean, keep: (paths: string[]) => void,
 *   remove: (paths: string[]) => void, undo: (text: string, ids: string[], paths: string[]) => void, edit: (id: string) => void,
 *   choice: (described: Described) => HTMLElement }} Hooks
 * @typedef {[label: string, value: string | HTMLElement, canCopy?: boolean]} Row
 */

/**
 * @template {Folder | Found | Library} Collection
 * @template {{ posterless: Set<string> }} Pictures
 */
class Shelf {
  /**
   * @param {Collection} collection
   * @param {Pictures} pictures
   * @param {Hooks} hooks
   */
  constructor(collection, pictures, hooks) {
    this.collection = collection;
    this.pictures = pictures;
    this.hooks = hooks;
  }

  get api() { return this.collection.api; }

  get length() { return this.collection.length; }

  get complete() { return this.collection.complete; }

  more() { return this.collection.more(); }

  /** @param {number} at */
  describe(at) { return this.collection.describe(at); }

  /** @param {{ key: string }} described */
  remove({ key }) { this.hooks.remove([key]); }

  /** @param {{ key: string }} described */
  removal(described) {
    return button("Delete", "bin", () => this.remove(described), { quiet: true, kind: "danger" });
  }

  /** @param {Described} described a video, which is not asked for its poster again */
  lacksPoster({ key }) { this.pictures.posterless.add(key); }

  total() { return `${this.length.toLocaleString()}${this.complete ? "" : "+"}`; }
}

/**
 * Images in a folder.
 * @extends {Shelf<Folder | Found, import("./thumbnails.js").Thumbnails>}
 */
export class FolderShelf extends Shelf {
  /**
   * @param {HTMLImageElement} image
   * @param {Described} described
   * @param {Shape} shape
   * @param {Failed} failed
   * @param {Cut} [cut]
   */
  show(image, { key, isFolder }, shape, failed, cut) {
    if (!isFolder) this.pictures.show(image, key, shape, failed, cut);
  }

  /**
   * What a folder's tile shows.
   * @param {Described} described
   * @param {() => boolean} wanted
   * @param {() => void} changed
   */
  folder({ key }, wanted, changed) { return this.pictures.folders.of(key, wanted, changed); }

  /**
   * Where the library has it, if this token may see that.
   * @param {Described} described
   * @returns {Promise<string>}
   */
  isKept({ key, isFolder }) {
    return isFolder || !this.hooks.seesLibrary() ? Promise.resolve("") : this.pictures.kept.has(key);
  }

  /** @param {Described} described */
  full({ key }) { return this.api.signedUrl(key); }

  /** @param {Described} described */
  isVideo({ key, isFolder }) { return !isFolder && this.pictures.films.has(key); }

  /** @param {Described} described */
  isCertain({ key }) { return this.pictures.films.isCertain(key); }

  /**
   * @param {Described} described
   * @param {boolean} isVideo
   */
  learn({ key }, isVideo) { this.pictures.films.learned.set(key, isVideo); }

  /**
   * The picture beside a video, or the frame that a CDN makes of it.
   * @param {Described} described
   * @param {Shape} shape
   */
  poster({ key }, shape) { return posterAt(this, key, key, shape); }

  /**
   * What a tile takes a frame of.
   * @param {Described} described
   */
  film({ key }) { return this.api.signedUrl(key); }

  /** @param {Described} described */
  exists({ key }) { return this.api.facts(key); }

  /**
   * @param {Described} described
   * @param {boolean} hasLinks
   * @returns {Promise<Row[]>}
   */
  async facts({ key }, hasLinks = true) {
    const facts = await this.api.metadata(key);
    if (!facts) return [["", MISSING]];
    return [
      ...(hasLinks ? withLineage(rowsOf(facts.generation), this, facts) : rowsOf(facts.generation)),
      ...alikeOf(facts.generation),
      ...markOf(facts.ai_mark),
      ["Size", exactSize(facts.size)],
      ["Type", facts.content_type],
      ["Saved", when(facts.modified)],
      ...(facts.expires_at ? [/** @type {Row} */ (["Will be deleted", when(facts.expires_at)])] : []),
      ["Path", key, true],
      ["SHA-256", facts.sha256 ?? "unknown", Boolean(facts.sha256)],
      ["ETag", facts.etag, true],
      ...foldOf(facts.generation, nameOf(key)),
    ];
  }

  /** @param {Described} described */
  actions(described) {
    const { may } = this.hooks;
    return [
      button("Copy link", "link", () => copyLink(this.api, described.key), { quiet: true }),
      button("Download", "down", () => download(this.api, [described.key]), { quiet: true }),
      may("media") && !this.hooks.seesLibrary()
        ? button("Add to library", "keep", () => this.hooks.keep([described.key]), { quiet: true }) : null,
      this.hooks.choice(described),
      this.mayRemove ? this.removal(described) : null,
    ].filter((one) => one !== null);
  }

  get mayRemove() { return this.hooks.may("storage:delete"); }

  get where() { return ""; }

  /** @param {number} number of images */
  warning(number) { return HAS_TRASH ? stay(number) : FOR_GOOD; }

  /**
   * @param {string[]} keys
   * @param {Work} work
   * @param {(paths: string[]) => Promise<string[]>} [choose]
   */
  removeAll(keys, work, choose) { return removeAll(this.api, keys, work, this.hooks.undo, choose); }
}

/**
 * The media library.
 * @extends {Shelf<Library, import("./thumbnails.js").LibraryPictures>}
 */
export class LibraryShelf extends Shelf {
  /**
   * @param {HTMLImageElement} image
   * @param {Described} described
   * @param {Shape} shape
   * @param {Failed} failed
   */
  show(image, { resource }, shape, failed) { this.pictures.show(image, resource, failed); }

  /** @returns {Promise<Looks | null>} */
  folder() { return Promise.resolve(null); } // the library has none

  /** @returns {Promise<string>} */
  isKept() { return Promise.resolve(""); } // all are

  /** @param {Described} described */
  async full({ resource }) { return await this.pictures.url(resource) ?? resource.url; }

  /** @param {Described} described */
  isVideo({ resource }) { return resource.content_type.startsWith("video/"); }

  isCertain() { return true; }

  learn() {} // a resource says what it is

  /**
   * The poster that was moved with a video, or is or was beside it where it came from.
   * @param {Described} described
   * @param {Shape} shape
   */
  async poster({ key, resource: { source_key: source, storage_key: stored } }, shape) {
    const poster = source && !this.pictures.posterless.has(key) ? await this.collection.poster(posterOf(source)) : null;
    if (poster?.content_type.startsWith("image/")) return await this.pictures.url(poster) ?? "";
    return posterAt(this, key, posterOf((source ?? stored).replace("compute/", "")), shape);
  }

  /** @param {Described} described */
  film({ resource }) { return this.pictures.small(resource); }

  /** @param {Described} described */
  exists({ resource }) { return this.api.get(`media-resources/${resource.id}`); }

  /**
   * @param {Described} described
   * @returns {Promise<Row[]>}
   */
  async facts({ resource }) {
    const { generation, ai_mark: mark } = await this.api.resource(resource.id);
    return [
      ...rowsOf(generation),
      ...alikeOf(generation, libraryFragment),
      ...markOf(mark),
      [DIMENSIONS, dimensions(resource.width, resource.height)],
      ...(clock(resource.duration) ? [/** @type {Row} */ ([DURATION, clock(resource.duration)])] : []),
      ["Size", exactSize(resource.file_size)],
      ["Type", resource.content_type],
      ["Colour profile", resource.color_profile ?? "none"],
      ["Name", nameInLibrary(resource)],
      ["Added", when(resource.created_at)],
      ["Caption", resource.caption ?? "none"],
      ["Alt text", resource.alt_text ?? "none"],
      ["Tags", resource.tags.length ? linkTags(resource.tags) : "none"],
      ["Protected", resource.protected ? "yes" : "no"],
      ["ID", resource.id, true],
      ["Key", resource.storage_key, true],
      ["SHA-256", resource.content_hash, true],
    ];
  }

  /** @param {Described} described */
  actions({ resource }) {
    return [
      button("Edit", "edit", () => this.hooks.edit(resource.id), { quiet: true }),
      button("Copy link", "link", () => copyResourceLink(this.api, resource), { quiet: true }),
      button("Download", "down", () => this.download([resource]), { quiet: true }),
      this.removal({ key: resource.id }),
    ];
  }

  /**
   * Resources of the library, by their keys.
   * @param {string[]} ids
   * @returns {Resource[]}
   */
  resources(ids) { return ids.map((id) => this.describe(this.collection.indexOf(id)).resource); }

  /** @param {Resource[]} resources */
  async download(resources) {
    try {
      for (const resource of resources) save(await this.pictures.url(resource) ?? resource.url, nameInLibrary(resource));
    } catch (/** @type {any} */ error) { complain(error.message); }
  }

  get mayRemove() { return true; } // who sees the library may change it

  get where() { return " from the library"; }

  warning() {
    const grace = Number(document.documentElement.dataset.deletionGrace);
    return grace >= 1
      ? `The file will be deleted in ${duration(grace)}. Until then, adding the same image again restores it.`
      : FOR_GOOD;
  }

  /**
   * @param {string[]} keys
   * @param {Work} work
   */
  async removeAll(keys, work) {
    const gone = await removeResources(this.api, keys, work);
    // One that was not moved here stays where it is, with its poster.
    const videos = this.collection.items.filter(({ id, content_type: type, storage_key: key }) =>
      gone.includes(id) && type.startsWith("video/") && key.startsWith("media/"));
    await Promise.all(videos.map(({ source_key: source }) => this.collection.removePoster(source ?? "").catch(() => {})));
    return gone;
  }
}
