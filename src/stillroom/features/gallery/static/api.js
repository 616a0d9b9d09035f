// Talking to the server. Addresses are relative to the page: a proxy may put a path in front.

import { metadataOf } from "./generation.js";

const API = new URL(document.documentElement.dataset.api ?? "", document.baseURI.split("#")[0]);
const SIGNED_FOR_S = 3600;
const RENEWED_BEFORE_S = 300;
const MOST_SIGNED = 5000;
const SIGNED_AT_ONCE = 250;

export const UNREACHABLE = "The server cannot be reached";

/**
 * @typedef {{ width: number, height: number, fit: string, format: string }} Shape
 * @typedef {{ path: string, size: number, content_type: string, modified: string, etag: string, sha256: string | null }} Facts
 * @typedef {{ method?: string, body?: unknown, signal?: AbortSignal, match?: string, accept?: string }} Options `match` is an ETag
 * @typedef {{ resolve: (url: string) => void, reject: (error: unknown) => void }} Waiter
 * @typedef {{ path: string, shape: Shape | null, settle: Waiter[] }} Waiting
 * @typedef {{ scope?: unknown, prefix?: unknown, exp?: any }} Claims
 */

/** An answer that is none: `status` is 0 where there was no answer at all. */
export class Refused extends Error {
  /**
   * @param {number} status
   * @param {string} detail
   * @param {{ code?: string, retryAfter?: number, isCutOff?: boolean }} options
   */
  constructor(status, detail, { code = "", retryAfter = 0, isCutOff = false } = {}) {
    super(detail);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
    this.isCutOff = isCutOff;
  }
}

/**
 * A refusal in the server's own words.
 * @param {number} status
 * @param {string} body
 */
export function refusalOf(status, body, retryAfter = 0) {
  try {
    const { detail, code, cut_off: isCutOff } = JSON.parse(body);
    const told = Array.isArray(detail) ? detail.map((/** @type {{ msg: string }} */ fault) => fault.msg).join("; ") : String(detail);
    return new Refused(status, told, { code, retryAfter, isCutOff });
  } catch {
    return new Refused(status, `The server answered with status ${status}. Try again, or check the logs of the server and its proxy.`, { retryAfter });
  }
}

/**
 * A path as it stands in a URL, in the server's own spelling.
 * @type {(path: string) => string}
 */
export const quoted = (path) =>
  path.split("/").map((segment) => encodeURIComponent(segment)
    .replace(/[!'()*]/g, (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`)).join("/");

/**
 * Where an image is saved and read.
 * @type {(path: string) => string}
 */
export const imageUrl = (path) => `${API}storage/images/${quoted(path)}`;

export class Api {
  /**
   * `onUnauthorized(api, refused)` hears of each 401.
   * @param {string} token
   * @param {(api: Api, refused: Refused) => void} onUnauthorized
   */
  constructor(token, onUnauthorized) {
    this.token = token;
    this.onUnauthorized = onUnauthorized;
    this.root = API;
    /** @type {Map<string, { url: string, until: number }>} */
    this.signed = new Map();
    /** @type {Map<string, Waiting>} */
    this.waiting = new Map();
  }

  /**
   * @param {URL} url
   * @param {Options} options
   */
  async ask(url, { method = "GET", body, signal, match, accept = "*/*" } = {}) {
    /** @type {Record<string, string>} */
    const headers = { Accept: accept, ...(this.token && { Authorization: `Bearer ${this.token}` }), ...(match && { "If-Match": match }) };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let answer;
    try {
      answer = await fetch(url, {
        method, headers, signal, body: body === undefined ? body : JSON.stringify(body),
        credentials: "omit", cache: "no-store", redirect: "manual",
      });
    } catch (/** @type {any} */ error) {
      if (error.name === "AbortError") throw error;
      throw new Refused(0, `${UNREACHABLE}. Check your connection and try again.`);
    }
    if (answer.ok) return answer;
    const retryAfter = Number(answer.headers.get("Retry-After")) || 0;
    const refused = refusalOf(answer.status, await answer.text(), retryAfter);
    if (refused.status === 401) this.onUnauthorized(this, refused);
    throw refused;
  }

  /**
   * @param {string} path
   * @param {Record<string, string | number>} parameters
   */
  async get(path, parameters = {}) {
    return (await this.ask(addressOf(path, parameters))).json();
  }

  /**
   * @param {string} path
   * @param {unknown} body
   */
  async post(path, body) {
    return (await this.ask(new URL(path, API), { method: "POST", body })).json();
  }

  /** @param {string} path */
  delete(path) { return this.ask(new URL(path, API), { method: "DELETE" }); }

  /**
   * A page of a listing, and the address of the next one.
   * @param {URL} url
   * @param {AbortSignal} [signal]
   */
  async page(url, signal) {
    const answer = await this.ask(url, { signal });
    const next = /<([^>]*)>;\s*rel="?next/.exec(answer.headers.get("Link") ?? "");
    return { entries: await answer.json(), next: next && new URL(next[1], url) };
  }

  /** @param {Record<string, string | number>} parameters */
  listing(parameters) { return addressOf("storage/images", parameters); }

  /** @param {Record<string, string | number>} parameters */
  search(parameters) { return addressOf("storage/search", parameters); }

  /**
   * A page of a search.
   * @param {URL} url
   * @param {AbortSignal} [signal]
   * @returns {Promise<{ items: Facts[], next: string | null }>}
   */
  async found(url, signal) { return (await this.ask(url, { signal })).json(); }

  /** @param {Record<string, string | number>} parameters */
  library(parameters) { return addressOf("media-resources", parameters); }

  /**
   * What is known of one image; null if it is gone.
   * @param {string} path
   * @returns {Promise<Facts | null>}
   */
  async facts(path) {
    // Of all that begins with its path, the path itself comes first.
    const [first] = await this.get("storage/entries", { prefix: path, limit: 1 });
    return first?.path === path ? first : null;
  }

  /**
   * The same, and how the image was made; null where there is none.
   * @param {string} path
   * @returns {Promise<Metadata | null>}
   */
  async metadata(path) {
    try {
      return metadataOf(await (await this.ask(new URL(`storage/metadata/${quoted(path)}`, API))).text());
    } catch (/** @type {any} */ error) {
      if (error.status === 404) return null;
      throw error;
    }
  }

  /**
   * How a resource was made, as it says itself.
   * @param {string} id
   * @returns {Promise<Metadata>}
   */
  async resource(id) { return metadataOf(await (await this.ask(new URL(`media-resources/${id}`, API))).text()); }

  /**
   * A URL that an <img> can load, for an hour; `shape` asks for a thumbnail.
   * @param {string} path
   * @param {Shape | null} shape
   * @returns {Promise<string>}
   */
  signedUrl(path, shape = null) {
    const key = shape ? `${shape.fit} ${shape.width}\n${path}` : path;
    const known = this.signed.get(key);
    if (known && known.until > Date.now()) return Promise.resolve(known.url);
    return new Promise((resolve, reject) => {
      /** @type {Waiting} */
      const waiters = this.waiting.get(key) ?? { path, shape, settle: [] };
      waiters.settle.push({ resolve, reject });
      this.waiting.set(key, waiters);
      // Whatever is asked for in one go is signed in one go.
      if (this.waiting.size === 1) queueMicrotask(() => this.signWaiting());
    });
  }

  async signWaiting() {
    const all = [...this.waiting];
    this.waiting = new Map();
    const groups = Map.groupBy(all, ([, { shape }]) => shape);
    for (const [shape, group] of groups) {
      for (let at = 0; at < group.length; at += SIGNED_AT_ONCE) {
        this.sign(shape, group.slice(at, at + SIGNED_AT_ONCE));
      }
    }
  }

  /**
   * @param {Shape | null} shape
   * @param {[string, Waiting][]} group
   */
  async sign(shape, group) {
    const until = Date.now() + (SIGNED_FOR_S - RENEWED_BEFORE_S) * 1000;
    try {
      const paths = group.map(([, { path }]) => path);
      const body = { paths, expires_in: SIGNED_FOR_S, ...(shape && { transform: shape }) };
      const { results } = await this.post("storage/signed-urls", body);
      group.forEach(([key, { path, settle }], at) => {
        const { url, detail } = results[at];
        if (!url) return settle.forEach(({ reject }) => reject(new Refused(403, detail)));
        const here = imageUrl(path) + new URL(url).search;  // at the address that this page came from
        this.signed.set(key, { url: here, until });
        return settle.forEach(({ resolve }) => resolve(here));
      });
    } catch (error) {
      for (const [, { settle }] of group) settle.forEach(({ reject }) => reject(error));
    }
    for (const oldest of this.signed.keys()) {
      if (this.signed.size <= MOST_SIGNED) break;
      this.signed.delete(oldest);
    }
  }

  /**
   * The image has changed, or is gone: what was signed for it may show the old one.
   * @param {string} path
   */
  forget(path) {
    for (const key of this.signed.keys()) {
      if (key === path || key.endsWith(`\n${path}`)) this.signed.delete(key);
    }
  }
}

/**
 * @param {string} path
 * @param {Record<string, string | number>} parameters
 */
function addressOf(path, parameters) {
  const url = new URL(path, API);
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, String(value));
  return url;
}

/**
 * What a token says of itself; the server decides what it is worth.
 * @param {string} token
 * @returns {Claims}
 */
export function claimsOf(token) {
  try {
    const text = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    const claims = JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (c) => c.charCodeAt(0))));
    return claims && typeof claims === "object" ? claims : {};
  } catch {
    return {};
  }
}
