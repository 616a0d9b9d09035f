// Sending a large file to the bucket itself, with the server's permission for this upload alone.

import { Refused } from "./api.js";

const VALID_S = 6 * 3600; // for a slow line
const ATTEMPTS = 5;
const MAY_PASS = [0, 502, 503, 504];

/** @typedef {{ method: string, url: string, headers: Record<string, string>, grant: string, isUsed?: boolean }} Issued */

/**
 * Send the file, unless it is in the bucket, and have it saved. Throws `Refused`, with 412 where an image is there.
 * @param {Api} api
 * @param {import("./uploads.js").Upload} upload
 * @param {AbortSignal} signal
 * @param {(event: ProgressEvent) => void} onprogress
 */
export async function sendToBucket(api, upload, signal, onprogress) {
  /** @type {(step: string, body: object) => Promise<any>} */
  const post = async (step, body) =>
    (await api.ask(new URL(`storage/upload-grants${step}`, api.root), { method: "POST", body, signal })).json();
  const { file, path, replace } = upload;
  if (!upload.issued) {
    // Looked for before all of it is sent. A token that may not look finds out afterwards.
    const isTaken = !replace && await api.facts(path).catch((error) => { if (error.status !== 403) throw error; });
    if (isTaken) throw new Refused(412, "");
    const condition = replace ? {} : { if_none_match: "*" };
    upload.issued = await post("", { path, size: file.size, expires_in: VALID_S, ...condition });
  }
  const issued = /** @type {Issued} */ (upload.issued);
  try {
    if (!issued.isUsed) await put(issued, file, signal, onprogress);
    issued.isUsed = true;
    onprogress(new ProgressEvent("progress")); // all is sent
    for (let attempt = 1; ; attempt += 1) {
      try {
        await post("/complete", { grant: issued.grant });
        return;
      } catch (/** @type {any} */ error) {
        if (!MAY_PASS.includes(error.status) || attempt === ATTEMPTS) throw error;
        await new Promise((resolve) => {
          signal.onabort = resolve;
          setTimeout(resolve, 1000 * Math.max(2 ** attempt, error.retryAfter));
        });
      }
    }
  } catch (/** @type {any} */ error) {
    if (!MAY_PASS.includes(error.status)) upload.issued = undefined; // another attempt begins anew
    throw error;
  }
}

/**
 * @param {Issued} issued
 * @param {File} file
 * @param {AbortSignal} signal
 * @param {(event: ProgressEvent) => void} onprogress
 * @returns {Promise<void>}
 */
function put({ method, url, headers }, file, signal, onprogress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, url);
    for (const [name, value] of Object.entries(headers)) {
      if (name !== "Content-Length") request.setRequestHeader(name, value); // a browser sets that one itself
    }
    request.upload.onprogress = onprogress;
    request.onload = () => {
      const { status } = request;
      if (status === 200 || status === 412) resolve(); // 412: an earlier attempt has sent it
      else reject(new Refused(status, `The bucket refused the file with status ${status}. Try again, or check the bucket with "stillroom doctor".`, { code: "bucket" }));
    };
    request.onerror = () => reject(new Refused(0, "The bucket did not take the file. The connection was lost, or the "
      + `bucket's CORS rule does not allow ${location.origin}: "stillroom doctor" prints one.`));
    request.onabort = () => reject(signal.reason);
    signal.onabort = () => request.abort();
    signal.throwIfAborted();
    request.send(file);
  });
}
