"""HTTP servers of tests, each on a free port of this machine."""

import contextlib
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import trustme


class Handler(http.server.BaseHTTPRequestHandler):
    """Handler of GET that logs nothing."""

    def do_GET(self) -> None:
        self.get()

    def get(self) -> None:
        raise NotImplementedError

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes, fields: dict[str, str]) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)


@contextlib.contextmanager
def listening(
    handler: Callable[..., http.server.BaseHTTPRequestHandler], certificate: Path | None = None
) -> Iterator[str]:
    """Run a server; with a certificate it speaks TLS. Its URL."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if certificate is not None:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificate)
            # A handshake that is not completed must not keep `serve_forever` from ending.
            server.socket = tls.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def certificate_file(folder: Path, name: str = "127.0.0.1") -> Path:
    """A certificate with its key, and with its authority, which nobody trusts but by this file."""
    authority, file = trustme.CA(), folder / "tls.pem"
    authority.issue_cert(name).private_key_and_cert_chain_pem.write_to_path(file)
    authority.cert_pem.write_to_path(file, append=True)
    return file
