"""A page on another site that shows a stored file in every way a page can, and a beacon."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from urllib.parse import parse_qs, urlencode, urlsplit

from listening import Handler, listening

_PAGE = """<!DOCTYPE html>
<title>embedding</title>
<script>
window.refused = [];
window.heard = [];
addEventListener("message", event => heard.push(event.data));
</script>
<img id="img" src="{url}">
<iframe src="{url}"></iframe>
<iframe sandbox="allow-scripts" src="{url}"></iframe>
<object data="{url}"></object>
<embed src="{url}">
<video src="{url}"></video>
<link rel="stylesheet" href="{url}" onerror="refused.push('stylesheet')">
<script src="{url}" onerror="refused.push('script')"></script>
<script type="module" src="{url}" onerror="refused.push('module')"></script>
<p>text</p>
"""


@dataclass
class Site:
    """Where it is, the beacons that it was asked for, and files.

    It serves them at `/files/<name>` with the type that goes with them, as a naive server would.
    """

    url: str = ""
    beacons: set[str] = field(default_factory=set)
    files: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    def page(self, url: str) -> str:
        return f"{self.url}/page?{urlencode({'url': url})}"


@contextlib.contextmanager
def site() -> Iterator[Site]:
    served = Site()

    class Answering(Handler):
        def get(self) -> None:
            target = urlsplit(self.path)
            body, content_type = b"", "text/plain"
            if target.path == "/page":
                (url,) = parse_qs(target.query)["url"]
                body, content_type = _PAGE.format(url=escape(url)).encode(), "text/html"
            elif target.path.startswith("/files/"):
                body, content_type = served.files[target.path.removeprefix("/files/")]
            elif target.path.startswith("/beacon/"):
                served.beacons.add(target.path.removeprefix("/beacon/"))
            fields = {"Content-Type": content_type, "Content-Length": str(len(body))}
            self.answer(200, body, {**fields, "Cache-Control": "no-store"})

    with listening(Answering) as served.url:
        yield served
