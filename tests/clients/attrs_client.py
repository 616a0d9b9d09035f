"""The operations by the package that openapi-python-client makes of the document; run as a file."""

import base64
import importlib
import io
import os
import pkgutil
import re
import time
import zipfile
from types import ModuleType
from typing import Any, Final
from urllib.parse import parse_qs

FOLDER: Final = os.environ["FOLDER"]
IMAGE: Final = base64.b64decode(os.environ["PNG"])


def _operation(tag: str, name: str) -> ModuleType:
    package = importlib.import_module(f"stillroom_client.api.{tag}")
    (found,) = (
        module.name
        for module in pkgutil.iter_modules(package.__path__)
        if module.name.startswith(f"{name}_api_v1_")
    )
    return importlib.import_module(f"{package.__name__}.{found}")


class Client:
    """The generated functions by the names that the server has for them."""

    def __init__(self) -> None:
        generated = importlib.import_module("stillroom_client")
        self.models = importlib.import_module("stillroom_client.models")
        self.file = importlib.import_module("stillroom_client.types").File
        self._client = generated.AuthenticatedClient(
            os.environ["STILLROOM_URL"], os.environ["STILLROOM_TOKEN"], follow_redirects=True
        )

    def __call__(self, tag: str, name: str, *given: str, **named: Any) -> Any:
        """Call an operation; the answer has status, headers, content and what was parsed."""
        return _operation(tag, name).sync_detailed(*given, client=self._client, **named)

    def save(self, path: str, **headers: str) -> Any:
        file = self.file(payload=io.BytesIO(IMAGE), file_name="image.png", mime_type="image/png")
        body = self.models.BodySaveImageApiV1StorageImagesPathPost(file=file)
        return self("storage", "save_image", path, body=body, **headers)


def _images(call: Client) -> str:
    """The five operations; returns the hash of what was saved."""
    path = f"{FOLDER}/run/1.png"
    saved = call.save(path, if_none_match="*").parsed
    assert (saved.path, saved.size) == (path, len(IMAGE))
    again = call.save(path, if_none_match="*")
    assert (again.status_code, again.parsed.code) == (412, "precondition_failed")

    read = call("storage", "get_image", path)
    assert read.parsed.payload.read() == IMAGE
    assert read.headers["etag"] == saved.etag
    part = call("storage", "get_image", path, range_="bytes=1-3")
    assert (part.status_code, part.parsed.payload.read()) == (206, b"PNG")
    assert call("storage", "get_image", path, if_none_match=saved.etag).status_code == 304
    missing = call("storage", "get_image", f"{FOLDER}/none.png")
    assert (missing.status_code, missing.parsed.code) == (404, "not_found")

    found = call("storage", "check_image_exists", path)
    assert (found.status_code, found.headers["etag"]) == (200, saved.etag)
    missing = call("storage", "check_image_exists", f"{FOLDER}/none.png")
    assert (missing.status_code, missing.headers["stillroom-error"]) == (404, "not_found")

    call.save(f"{FOLDER}/run/2.png")
    call.save(f"{FOLDER}/run/3.png")
    names: list[str] = []
    query: dict[str, Any] = {"prefix": f"{FOLDER}/", "limit": 2}
    while query:
        page = call("storage", "list_images", **query)
        names += page.parsed
        link = re.match(r'<\?(.*)>; rel="next"', page.headers.get("link", ""))
        query = {name: one for name, (one,) in parse_qs(link[1]).items()} if link else {}
    assert names == [f"{FOLDER}/run/{number}.png" for number in (1, 2, 3)]

    assert call("storage", "delete_image", f"{FOLDER}/none.png").status_code == 404
    return str(saved.sha256)


def _run(call: Client, sha256: str) -> None:
    publish = call.models.RunToPublish
    early = call("storage", "publish_run", f"{FOLDER}/run", body=publish(expected=4))
    assert early.status_code == 409
    run = call("storage", "publish_run", f"{FOLDER}/run", body=publish(expected=3)).parsed
    assert (run.state, len(run.images)) == ("published", 3)
    shown = call("storage", "get_run", f"{FOLDER}/run").parsed
    assert shown.images[0].sha256 == sha256


def _search(call: Client) -> None:
    deadline = time.monotonic() + 60
    while True:
        found = call("storage", "search_images", prefix=f"{FOLDER}/", prompt="fox", limit=2).parsed
        if len(found.items) == 2 and isinstance(found.next_, str):
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)  # until it holds; there is a deadline
    assert found.items[0].generation.seed == 7


def _archive(call: Client) -> None:
    answer = call("storage", "get_archive", prefix=f"{FOLDER}/run/")
    with zipfile.ZipFile(answer.parsed.payload) as archive:
        assert len(archive.namelist()) == 3


def _library(call: Client, sha256: str) -> None:
    body = call.models.ImageToIngest(storage_key=f"compute/{FOLDER}/run/1.png")
    resource = call("media", "ingest", body=body).parsed
    listed = call("media", "list_media_resources", content_hash=sha256).parsed
    assert [one.id for one in listed] == [resource.id]


def main() -> None:
    call = Client()
    sha256 = _images(call)
    _run(call, sha256)
    _search(call)
    _archive(call)
    _library(call, sha256)
    deleted = call("storage", "delete_image", f"{FOLDER}/run/2.png").parsed
    assert deleted.path == f"{FOLDER}/run/2.png"


if __name__ == "__main__":
    main()
