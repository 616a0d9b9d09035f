"""A page on another site that shows a stored file in every way a page can, and a beacon."""

import contextlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from urllib.parse import parse_qs, urlencode, urlsplit

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
    """Where it is, and what it has been asked for.

    Attributes:
        beacons: What ran has asked for these.
        files: Served at `/files/<name>` with the type that goes with them, as a naive server would.
    """

    url: str = ""
    beacons: set[str] = field(default_factory=set)
    files: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    def page(self, url: str) -> str:
        """The address of the page that shows `url`."""
        return f"{self.url}/page?{urlencode({'url': url})}"


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """A real one on a free port of this machine."""
    served = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            target = urlsplit(self.path)
            body, content_type = b"", "text/plain"
            if target.path == "/page":
                (url,) = parse_qs(target.query)["url"]
                body, content_type = _PAGE.format(url=escape(url)).encode(), "text/html"
            elif target.path.startswith("/files/"):
                body, content_type = served.files[target.path.removeprefix("/files/")]
            elif target.path.startswith("/beacon/"):
                served.beacons.add(target.path.removeprefix("/beacon/"))
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            with contextlib.suppress(OSError):  # the browser went on
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        listener.daemon_threads = True
        served.url = f"http://127.0.0.1:{listener.server_port}"
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield served
        finally:
            listener.shutdown()
            thread.join()
