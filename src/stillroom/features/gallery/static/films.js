// Videos: what stands for one in the grid, and the one that is played.

import { DIMENSIONS, DURATION, dimensions } from "./details.js";
import { make } from "./elements.js";
import { Turns } from "./turns.js";

const CALLED = /\.(mp4|m4v|mov|webm)$/i;
const FIRST_FRAME = "#t=0.001"; // Safari decodes no frame before it is asked for one
const LONGEST_MS = 8000;
const AT_ONCE = 3; // a page may have some dozens of players, and a grid has more tiles
const turns = new Turns(AT_ONCE);

/**
 * @typedef {{ frame: HTMLCanvasElement, seconds: number }} Still
 */

/** Which files of a folder are videos: by what was learned of them, and until then by their names. */
export class Films {
  constructor() {
    /** @type {Map<string, boolean>} */
    this.learned = new Map();
  }

  /** @param {string} path */
  has(path) { return this.learned.get(path) ?? CALLED.test(path); }

  /** @param {string} path */
  isCertain(path) { return this.learned.has(path); }
}

/**
 * `1:02:03`, or nothing where the file does not say it.
 * @param {number | null | undefined} seconds
 */
export function clock(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  const whole = Math.round(seconds);
  const rest = `${Math.floor(whole / 60) % 60}:${String(whole % 60).padStart(2, "0")}`;
  return whole < 3600 ? rest : `${Math.floor(whole / 3600)}:${rest.padStart(5, "0")}`;
}

/**
 * The first frame of a video and how long it is; null where a browser cannot play it. Its player is given up
 * at once.
 * @param {string} url
 * @param {number} edge
 * @param {() => boolean} wanted
 * @returns {Promise<Still | null>}
 */
export function firstFrame(url, edge, wanted) {
  return turns.take(async () => {
    if (!wanted()) return null;
    const video = make("video", { muted: true, playsInline: true, preload: "metadata" });
    const arrived = new Promise((resolve, reject) => {
      video.onloadeddata = resolve;
      video.onerror = reject;
      setTimeout(reject, LONGEST_MS);
    });
    video.src = `${url}${FIRST_FRAME}`;
    try {
      await arrived;
      const { videoWidth, videoHeight, duration } = video;
      const scale = Math.min(1, edge / Math.min(videoWidth, videoHeight));
      const frame = make("canvas", { width: Math.ceil(videoWidth * scale), height: Math.ceil(videoHeight * scale) });
      frame.getContext("2d")?.drawImage(video, 0, 0, frame.width, frame.height);
      return { frame, seconds: duration };
    } catch {
      return null;
    } finally {
      end(video);
    }
  });
}

/**
 * A player with the browser's own controls, and its video on the way. `isNone()` is called where the file is only
 * called like a video.
 * @param {Shelf} shelf
 * @param {Described} described
 * @param {Shape} shape
 * @param {{ isWanted: () => boolean, arrived: () => void, isNone: () => void, failed: (error?: any) => void }} hooks
 */
export function player(shelf, described, shape, { isWanted, arrived, isNone, failed }) {
  const video = make("video", {
    class: "film", controls: true, playsInline: true, preload: "metadata", "aria-label": described.name,
  });
  video.onloadedmetadata = () => {
    shelf.learn(described, true);
    arrived();
  };
  video.onerror = () => {
    if (!isWanted()) return;
    if (shelf.isCertain(described)) {
      failed();
      return;
    }
    shelf.learn(described, false);
    isNone();
  };
  shelf.poster(described, shape).then((url) => { if (url) video.poster = url; }, () => {});
  shelf.full(described).then(
    (url) => { if (isWanted()) video.src = url; },
    (error) => { if (isWanted()) failed(error); },
  );
  return video;
}

/**
 * A video's poster at a path; "" where it is known that there is none.
 * @param {Shelf} shelf
 * @param {string} key
 * @param {string} path
 * @param {Shape} shape
 */
export const posterAt = ({ api, pictures }, key, path, shape) =>
  (pictures.posterless.has(key) ? Promise.resolve("") : api.signedUrl(path, shape));

/**
 * @param {HTMLVideoElement} video
 * @returns {Row[]}
 */
export function measuresOf({ videoWidth, videoHeight, duration }) {
  /** @type {Row[]} */
  const rows = [[DIMENSIONS, dimensions(videoWidth, videoHeight)], [DURATION, clock(duration)]];
  return videoWidth ? rows.filter(([, value]) => value) : [];
}

/**
 * Stop it, and what it loads.
 * @param {HTMLVideoElement | null} video
 */
export function end(video) {
  if (!video) return;
  video.onerror = null;
  video.pause();
  video.removeAttribute("src");
  video.load();
}

/** @param {HTMLVideoElement} video */
export function toggle(video) {
  if (video.paused) video.play().catch(() => {}); // its own controls say what is wrong
  else video.pause();
}
