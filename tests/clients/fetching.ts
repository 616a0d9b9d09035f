// The operations by openapi-fetch, with the types that openapi-typescript makes of the document.

import createClient from "openapi-fetch";

import { FOLDER, PNG, TOKEN, URL_OF_SERVER, check, done, next, same, until } from "./steps";
import type { paths } from "./schema";

const client = createClient<paths>({
  baseUrl: URL_OF_SERVER,
  headers: { Authorization: `Bearer ${TOKEN}` },
});
const IMAGE = "/api/v1/storage/images/{path}";

/** Save bytes as a browser's form does; an ETag of `*` creates only. */
const save = (path: string, ifNoneMatch?: string) =>
  client.POST(IMAGE, {
    params: { path: { path }, header: { "If-None-Match": ifNoneMatch } },
    body: { file: "" }, // binary is a string to openapi-typescript; the serializer has the bytes
    bodySerializer: () => {
      const form = new FormData();
      form.append("file", new Blob([PNG], { type: "image/png" }), "image.png");
      return form;
    },
  });

async function main(): Promise<void> {
  const path = `${FOLDER}/run/1.png`;
  const saved = await save(path, "*");
  check(saved.data?.path === path && saved.data.size === PNG.length, "saved");
  const again = await save(path, "*");
  check(again.response.status === 412 && again.error !== undefined, "created once");
  check("code" in again.error && again.error.code === "precondition_failed", "told by its code");

  const at = { path: { path } };
  const read = await client.GET(IMAGE, { params: at, parseAs: "arrayBuffer" });
  check(same(read.data), "read");
  const etag = read.response.headers.get("etag") ?? "";
  check(etag === saved.data.etag, "its ETag");
  const part = await client.GET(IMAGE, {
    params: { ...at, header: { Range: "bytes=1-3" } },
    parseAs: "text",
  });
  check(part.response.status === 206 && part.data === "PNG", "a range");
  const current = await client.GET(IMAGE, {
    params: { ...at, header: { "If-None-Match": etag } },
    parseAs: "stream",
  });
  check(current.response.status === 304, "not modified");

  const found = await client.HEAD(IMAGE, { params: at });
  check(found.response.ok && found.response.headers.get("etag") === etag, "exists");
  const missing = await client.HEAD(IMAGE, { params: { path: { path: `${FOLDER}/none.png` } } });
  check(missing.response.headers.get("stillroom-error") === "not_found", "missing");

  await save(`${FOLDER}/run/2.png`);
  await save(`${FOLDER}/run/3.png`);
  const names: string[] = [];
  let after: string | undefined = "";
  while (after !== undefined) {
    const query: { prefix: string; limit: number; start_after: string } = {
      prefix: `${FOLDER}/`,
      limit: 2,
      start_after: after,
    };
    const page = await client.GET("/api/v1/storage/images", { params: { query } });
    names.push(...(page.data ?? []));
    after = next(page.response)?.get("start_after") ?? undefined;
  }
  check(names.length === 3 && names[2] === `${FOLDER}/run/3.png`, "all pages");

  const folder = { params: { path: { folder: `${FOLDER}/run` } } };
  const publishing = "/api/v1/storage/runs/{folder}/publish";
  const early = await client.POST(publishing, { ...folder, body: { expected: 4 } });
  check(early.response.status === 409, "a run that is not whole");
  const run = await client.POST(publishing, { ...folder, body: { expected: 3 } });
  check(run.data?.state === "published" && run.data.images.length === 3, "published");
  const shown = await client.GET("/api/v1/storage/runs/{folder}", folder);
  check(shown.data?.images[0]?.sha256 === saved.data.sha256, "the run's images");

  await until("found", async () => {
    const query = { prefix: `${FOLDER}/`, prompt: "fox", limit: 2 };
    const page = await client.GET("/api/v1/storage/search", { params: { query } });
    return page.data?.items[0]?.generation?.seed === 7 && page.data.next !== null;
  });

  const resource = await client.POST("/api/v1/media-resources/ingest", {
    body: { storage_key: `compute/${path}` },
  });
  check(resource.data !== undefined && "id" in resource.data, "ingested");
  const listed = await client.GET("/api/v1/media-resources", {
    params: { query: { content_hash: saved.data.sha256 } },
  });
  check(listed.data?.[0]?.id === resource.data.id, "listed");

  const gone = await client.DELETE(IMAGE, { params: { path: { path: `${FOLDER}/run/2.png` } } });
  check(gone.data?.path === `${FOLDER}/run/2.png`, "deleted");
  const nothing = await client.DELETE(IMAGE, { params: { path: { path: `${FOLDER}/none.png` } } });
  check(nothing.response.status === 404, "nothing to delete");
  done();
}

void main();
