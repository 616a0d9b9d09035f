// What the clients' scripts share: where the server is, and how a step is checked.

declare const process: { env: Record<string, string> };

export const URL_OF_SERVER = process.env.STILLROOM_URL;
export const TOKEN = process.env.STILLROOM_TOKEN;
export const FOLDER = process.env.FOLDER;
/** An image whose text says `a fox`, seed 7. */
export const PNG: Uint8Array<ArrayBuffer> = Uint8Array.from(atob(process.env.PNG), (one) =>
  one.charCodeAt(0),
);

/** Fail, and say with what. */
export function check(condition: unknown, step: string): asserts condition {
  if (!condition) throw new Error(`failed: ${step}`);
}

/** Ask until it is so, for a minute. */
export async function until(step: string, isSo: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 60_000; Date.now() < deadline; ) {
    if (await isSo()) return;
    await new Promise((resume) => setTimeout(resume, 50));
  }
  check(false, step);
}

/** Whether these are the bytes of the image. */
export function same(bytes: ArrayBuffer | undefined): boolean {
  const got = new Uint8Array(bytes ?? new ArrayBuffer(0));
  return got.length === PNG.length && got.every((one, at) => one === PNG[at]);
}

/** The query of the next page, of the `Link` of this one. */
export function next(response: Response | undefined): URLSearchParams | null {
  const link = /<\?(.*)>; rel="next"/.exec(response?.headers.get("link") ?? "");
  return link && new URLSearchParams(link[1]);
}

/** Say that the end was reached: a script that waits for nothing more ends without an error. */
export function done(): void {
  console.log("all done");
}
