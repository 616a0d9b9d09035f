// Small pictures. An <img> sends no token, so it gets a signed URL: a browser then loads, decodes and
// drops pictures as it thinks best, and follows a redirect to the CDN without asking the CDN's leave.

import { imageUrl } from "./api.js";
import { videoOf } from "./elements.js";
import { Films } from "./films.js";
import { FolderLooks } from "./folders.js";
import { Kept } from "./kept.js";
import { Turns } from "./turns.js";

const LARGEST = 1024;
const SIZES = [64, 128, 256, 512, LARGEST];
const LARGEST_ORIGINAL = 4_000_000; // bytes; shown whole where there is no thumbnail of it
const UNSUPPORTED = 415;
const AT_ONCE = 4;
const MOST_KNOWN = 300;
const JSON_TYPE = "application/json";
const SIGNED_MS = 240_000; // a bucket's signed URLs last five minutes

/**
 * @typedef {(error: any, facts?: Facts | null) => void} Failed why there is no picture
 * @typedef {() => void} Cut hears that the file ends too early
 */

/**
 * What is asked for to fill a square that is so many pixels wide: cut to it as the grid shows it (`cover`),
 * since the short side of a whole picture would be stretched; or whole (`contain`).
 * @param {number} pixels
 * @returns {Shape}
 */
export function shapeFor(pixels, fit = "cover") {
  const edge = SIZES.find((one) => one >= pixels) ?? LARGEST;
  return SHAPES[fit][edge];
}

const SHAPES = Object.fromEntries(["cover", "contain"].map((fit) => [fit, Object.fromEntries(
  SIZES.map((edge) => [edge, Object.freeze({ width: edge, height: edge, fit, format: "webp" })]),
)]));

/** Those of stored images. */
export class Thumbnails {
  /** @param {Api} api */
  constructor(api) {
    this.api = api;
    /** @type {Map<string, boolean>} */
    this.whole = new Map(); // shown by their originals, and whether they are damaged
    /** @type {Set<string>} */
    this.cut = new Set(); // end too early
    /** @type {Map<string, Facts | null>} */
    this.none = new Map(); // the versions that have no picture
    /** @type {Set<string>} */
    this.checked = new Set(); // those that were still none since this place was opened
    /** @type {Set<string>} */
    this.posterless = new Set();
    this.films = new Films();
    this.folders = new FolderLooks(api);
    this.kept = new Kept(api);
    this.turns = new Turns(AT_ONCE);
  }

  /**
   * Load the picture of `path` into `image`; `failed` hears why there is none.
   * @param {HTMLImageElement} image
   * @param {string} path
   * @param {Shape | null} shape
   * @param {Failed} failed
   * @param {Cut} cut
   */
  async show(image, path, shape, failed, cut = () => {}) {
    image.onerror = () => this.fallBack(image, path, shape, failed, cut);
    if (this.cut.has(path)) cut();
    if (this.none.has(path) && await this.isStillNone(image, path, failed)) return;
    if (this.posterless.has(path) && !this.whole.has(path)) { this.fallBack(image, path, shape, failed, cut); return; }
    try {
      const url = await this.api.signedUrl(path, this.whole.has(path) ? null : shape);
      if (image.dataset.key === path) image.src = url;
    } catch (error) {
      failed(error);
    }
  }

  /**
   * There is no smaller one: show a small original, of whatever kind a browser can show.
   * @param {HTMLImageElement} image
   * @param {string} path
   * @param {Shape | null} shape
   * @param {Failed} failed
   * @param {Cut} cut
   */
  fallBack(image, path, shape, failed, cut) {
    const isDamaged = this.whole.get(path);
    this.turns.take(async () => {
      if (image.dataset.key !== path) return; // scrolled past meanwhile
      const facts = await this.api.facts(path);
      const isPicture = facts?.content_type.startsWith("image/") ?? false;
      const refused = shape && isPicture && isDamaged === undefined ? await this.refusal(path, shape) : null;
      if (refused?.isCutOff) {
        this.cut.add(path);
        cut();
      }
      if (facts && isPicture && facts.size <= LARGEST_ORIGINAL && isDamaged === undefined) {
        this.whole.set(path, refused?.status === UNSUPPORTED);
        await this.show(image, path, null, failed);
        return;
      }
      if (facts && (!isPicture || isDamaged || refused?.status === UNSUPPORTED)) {
        this.none.set(path, facts);
        this.checked.add(path);
      }
      failed(null, facts);
    }).catch(failed);
  }

  /**
   * Whether there is still no picture of this path; one that was saved since is tried.
   * @param {HTMLImageElement} image
   * @param {string} path
   * @param {Failed} failed
   */
  async isStillNone(image, path, failed) {
    const known = this.none.get(path);
    if (!this.checked.has(path)) await this.turns.take(async () => {
      if (image.dataset.key !== path) return; // scrolled past meanwhile
      if ((await this.api.facts(path))?.etag === known?.etag) this.checked.add(path);
      else this.forget(path);
    }).catch(() => {});
    if (image.dataset.key !== path) return true;
    if (this.none.has(path)) failed(null, known);
    return this.none.has(path);
  }

  /**
   * Why the server makes none. An <img> hears of no reason.
   * @param {string} path
   * @param {Shape} shape
   * @returns {Promise<Refused | null>}
   */
  async refusal(path, shape) {
    try {
      const query = new URLSearchParams({ ...shape, width: `${shape.width}`, height: `${shape.height}` });
      const answer = await this.api.ask(new URL(`${imageUrl(path)}?${query}`));
      await answer.body?.cancel();
      return null;
    } catch (/** @type {any} */ error) {
      return error;
    }
  }

  /** @param {string} path */
  forget(path) {
    for (const one of [this.whole, this.cut, this.none, this.checked]) one.delete(path);
    for (const one of [path, videoOf(path)]) { // it may have another poster
      this.posterless.delete(one);
      this.api.forget(one);
    }
    this.films.learned.delete(path);
    this.folders.forget(path);
    this.kept.forget(path);
  }
}

/** Those of the library: fetched with the token and kept as blobs, or at a bucket's signed URLs, for a while. */
export class LibraryPictures {
  /** @param {Api} api */
  constructor(api) {
    this.api = api;
    this.turns = new Turns(AT_ONCE);
    /** @type {Map<string, { url: string, until: number }>} */
    this.known = new Map();
    /** @type {Set<string>} */
    this.posterless = new Set();
  }

  /**
   * @param {HTMLImageElement} image
   * @param {Resource} resource
   * @param {Failed} failed
   */
  async show(image, resource, failed) {
    image.onerror = () => failed(null);
    try {
      const url = await this.url(resource, () => image.dataset.key === resource.id);
      if (url && image.dataset.key === resource.id) image.src = url;
    } catch (/** @type {any} */ error) {
      if (error.name !== "AbortError") failed(error);
    }
  }

  /**
   * Where its bytes are: at the CDN, at a bucket's signed URL, or fetched; null where they are not wanted any more.
   * @param {Resource} resource
   * @returns {Promise<string | null>}
   */
  async url({ id, url: named }, wanted = () => true) {
    if (!named.endsWith(`/media-resources/${id}/file`)) return named;
    return this.recent(id) ?? this.turns.take(async () => {
      if (!wanted()) return null;
      const again = this.recent(id);
      if (again) return again;
      const answer = await this.api.ask(new URL(`media-resources/${id}/file`, this.api.root), { accept: JSON_TYPE });
      const isElsewhere = answer.headers.get("Content-Type")?.startsWith(JSON_TYPE);
      const url = isElsewhere ? (await answer.json()).url : URL.createObjectURL(await answer.blob());
      this.known.set(id, { url, until: isElsewhere ? Date.now() + SIGNED_MS : Infinity });
      for (const [oldest, one] of this.known) {
        if (this.known.size <= MOST_KNOWN) break;
        URL.revokeObjectURL(one.url);
        this.known.delete(oldest);
      }
      return url;
    });
  }

  /** @param {string} id */
  recent(id) {
    const known = this.known.get(id);
    this.known.delete(id);
    if (!known || known.until < Date.now()) return null;
    this.known.set(id, known); // last again
    return known.url;
  }

  /**
   * The same of a video that a tile takes a frame of; none of a large one that would be fetched for it whole.
   * @param {Resource} resource
   */
  async small(resource) {
    const isFetched = resource.url.endsWith(`/media-resources/${resource.id}/file`);
    return isFetched && resource.file_size > LARGEST_ORIGINAL ? null : this.url(resource);
  }

  close() {
    for (const { url } of this.known.values()) URL.revokeObjectURL(url);
    this.known.clear();
  }
}
