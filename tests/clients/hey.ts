// The operations by the client that hey-api makes of the document.

import * as stillroom from "./hey/sdk.gen";
import { client } from "./hey/client.gen";
import { FOLDER, PNG, TOKEN, URL_OF_SERVER, check, done, next, same, until } from "./steps";

client.setConfig({ baseUrl: URL_OF_SERVER, auth: () => TOKEN });

/** Save bytes as a browser's form does; an ETag of `*` creates only. */
const save = (path: string, ifNoneMatch?: string) =>
  stillroom.saveImageApiV1StorageImagesPathPost({
    path: { path },
    headers: { "If-None-Match": ifNoneMatch },
    body: { file: new File([PNG], "image.png", { type: "image/png" }) },
  });

async function main(): Promise<void> {
  const path = `${FOLDER}/run/1.png`;
  const saved = await save(path, "*");
  check(saved.data?.path === path && saved.data.size === PNG.length, "saved");
  const again = await save(path, "*");
  check(again.response?.status === 412 && again.error !== undefined, "created once");
  check("code" in again.error && again.error.code === "precondition_failed", "told by its code");

  const at = { path: { path } };
  const read = await stillroom.getImageApiV1StorageImagesPathGet(at);
  check(read.data instanceof Blob && same(await read.data.arrayBuffer()), "read");
  const etag = read.response?.headers.get("etag") ?? "";
  check(etag === saved.data.etag, "its ETag");
  const part = await stillroom.getImageApiV1StorageImagesPathGet({
    ...at,
    headers: { Range: "bytes=1-3" },
  });
  check(part.response?.status === 206, "a range");
  check(part.data instanceof Blob && (await part.data.text()) === "PNG", "its bytes");
  const current = await stillroom.getImageApiV1StorageImagesPathGet({
    ...at,
    headers: { "If-None-Match": etag },
  });
  check(current.response?.status === 304, "not modified");

  const found = await stillroom.checkImageExistsApiV1StorageImagesPathHead(at);
  check(found.response?.ok && found.response.headers.get("etag") === etag, "exists");
  const missing = await stillroom.checkImageExistsApiV1StorageImagesPathHead({
    path: { path: `${FOLDER}/none.png` },
  });
  check(missing.response?.headers.get("stillroom-error") === "not_found", "missing");

  await save(`${FOLDER}/run/2.png`);
  await save(`${FOLDER}/run/3.png`);
  const names: string[] = [];
  let after: string | null = "";
  while (after !== null) {
    const query: { prefix: string; limit: number; start_after: string } = {
      prefix: `${FOLDER}/`,
      limit: 2,
      start_after: after,
    };
    const page = await stillroom.listImagesApiV1StorageImagesGet({ query });
    names.push(...(page.data ?? []));
    after = next(page.response)?.get("start_after") ?? null;
  }
  check(names.length === 3 && names[2] === `${FOLDER}/run/3.png`, "all pages");

  const folder = { path: { folder: `${FOLDER}/run` } };
  const early = await stillroom.publishRunApiV1StorageRunsFolderPublishPost({
    ...folder,
    body: { expected: 4 },
  });
  check(early.response?.status === 409, "a run that is not whole");
  const run = await stillroom.publishRunApiV1StorageRunsFolderPublishPost({
    ...folder,
    body: { expected: 3 },
  });
  check(run.data?.state === "published" && run.data.images.length === 3, "published");
  const shown = await stillroom.getRunApiV1StorageRunsFolderGet(folder);
  check(shown.data?.images[0]?.sha256 === saved.data.sha256, "the run's images");

  await until("found", async () => {
    const query = { prefix: `${FOLDER}/`, prompt: "fox", limit: 2 };
    const page = await stillroom.searchImagesApiV1StorageSearchGet({ query });
    return page.data?.items[0]?.generation?.seed === 7 && page.data.next !== null;
  });

  const resource = await stillroom.ingestApiV1MediaResourcesIngestPost({
    body: { storage_key: `compute/${path}` },
  });
  check(resource.data !== undefined && "id" in resource.data, "ingested");
  const listed = await stillroom.listMediaResourcesApiV1MediaResourcesGet({
    query: { content_hash: saved.data.sha256 },
  });
  check(listed.data?.[0]?.id === resource.data.id, "listed");

  const gone = await stillroom.deleteImageApiV1StorageImagesPathDelete({
    path: { path: `${FOLDER}/run/2.png` },
  });
  check(gone.data?.path === `${FOLDER}/run/2.png`, "deleted");
  const nothing = await stillroom.deleteImageApiV1StorageImagesPathDelete({
    path: { path: `${FOLDER}/none.png` },
  });
  check(nothing.response?.status === 404, "nothing to delete");
  done();
}

void main();
