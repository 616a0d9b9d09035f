"""`ImageStore` methods that operate on a single image without transferring its bytes."""

import contextlib
from collections.abc import Iterable
from typing import Final, Self, Unpack

import httpx

from stillroom.client import answers, requests
from stillroom.client.connection import Connection, Token
from stillroom.client.exchange import Answer, Call
from stillroom.client.retries import Attempts, Retries
from stillroom.client.retrying_sender import RetryingSender
from stillroom.client.sender import Sender
from stillroom.client.sources import named
from stillroom.client.values import Lifetime, Picture
from stillroom.errors import ImageNotFound, InvalidParameter
from stillroom.paths import ImagePath
from stillroom.wire.images import ImageInfo, ImageMetadata, SavedImage

_SIGNED_URLS: Final = "/storage/signed-urls"


class OneImageCalls:
    """Base class of `ImageStore` with the methods that do not transfer bytes of images."""

    def __init__(
        self,
        url: str | None = None,
        token: Token | None = None,
        *,
        deadline_s: float = 120,
        timeout_s: float = 60,
        connect_deadline_s: float = 10,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Configure the client. Does not connect to the server yet.

        Args:
            url: Root URL of the server, such as `http://127.0.0.1:8000`. Default: `STILLROOM_URL`.
            token: A token, or a function that returns the current one. Default: `STILLROOM_TOKEN`.
            deadline_s: Time in seconds during which failed requests are retried, counted from the
                first attempt or from the last byte of a download.
            timeout_s: Limit in seconds for each single read or write of the socket.
            connect_deadline_s: Replaces `deadline_s` if a retry is unlikely to help: unknown host,
                TLS error, or failed connection to a server that has not responded before.
            transport: httpx transport to use instead of the network, for tests and unusual proxies.
        """
        connection = Connection.to(url, token)
        server = connection.root.removesuffix("/api/v1")
        retries = Retries(deadline_s, timeout_s, connect_deadline_s, server=server)
        self._sender = RetryingSender(connection.root, retries, Sender(connection, transport))

    def exists(self, path: str) -> bool:
        """Return whether an image exists."""
        with contextlib.suppress(ImageNotFound):
            self.stat(path)
            return True
        return False

    def stat(self, path: str) -> ImageInfo:
        """Return the size, modification time, content type, etag and SHA-256 of an image."""
        return answers.info_of_head(self._head(named(path)), path)

    def _head(self, path: ImagePath) -> Answer:
        return self._sender.request("HEAD", requests.image_target(path))

    def metadata(self, path: str) -> ImageMetadata:
        """Return the properties of an image, as `stat` does, and its generation parameters."""
        answer = self._sender.request("GET", f"/storage/metadata/{named(path).quoted()}")
        return answers.metadata(answer, path)

    def delete(
        self,
        path: str,
        *,
        if_match: str | None = None,
        missing_ok: bool = False,
        purge: bool = False,
    ) -> None:
        """Delete an image. With `if_match`, delete it only if it has this etag.

        If the server has a trash, `undelete` can restore the image, unless `purge` is True. Raise
        `ImageNotFound` if the image is missing, unless `missing_ok` is True or an earlier attempt
        of this call may have deleted it.
        """
        attempts = Attempts(self._sender.retries)
        target = requests.image_target(named(path)) + ("?purge=true" if purge else "")
        answer = self._sender.send(Call("DELETE", target, requests.condition(if_match)), attempts)
        if not (answers.is_missing(answer) and (missing_ok or attempts.doubtful)):
            answers.document(answer, path)

    def copy(self, source: str, target: str) -> SavedImage:
        """Copy an image to another path on the server, without downloading it."""
        paths = {"source": named(source).text, "target": named(target).text}
        answer = self._sender.request("POST", "/storage/copy", paths)
        return answers.parsed(answer, source, SavedImage)

    def move(self, source: str, target: str) -> SavedImage:
        """Copy an image to another path on the server, then delete the source.

        Raise `PreconditionFailed` if the source was replaced during the move. Then the source is
        not deleted, and the copy contains either the old or the new image.
        """
        if named(source) == named(target):
            raise InvalidParameter(f"{source}: source and target are the same", at=("target",))
        stored = self.stat(source)
        image = self.copy(source, target)
        self.delete(source, if_match=stored.etag, purge=True)
        return image

    def signed_url(
        self,
        path: str | None = None,
        *,
        archive: str | Iterable[str] | None = None,
        run: str | None = None,
        expires_in: Lifetime = "1h",
        **picture: Unpack[Picture],
    ) -> str:
        """Return a signed URL, which reads an image, a thumbnail or a ZIP file without a token.

        Args:
            path: Path of the image. Otherwise, pass `archive` or `run`.
            archive: Folder or paths of the images in a ZIP file; see `archive`. The paths may have
                4 KiB together. The ZIP file contains the images that exist when the URL is opened.
            run: Folder of a published run. The ZIP file contains the images in its manifest.
            expires_in: Lifetime of the URL, at most seven days; see `save`.
            picture: Thumbnail options; see `Picture`.
        """
        if [path, archive, run].count(None) != 2 or (picture and path is None):
            raise TypeError("pass either a path, or archive=, or run=")
        if path is not None:
            return self.signed_urls([path], expires_in=expires_in, **picture)[0]
        images = None if archive is None else requests.archive_content(archive)
        content = {"archive": images, "run": run, "expires_in": requests.seconds_of(expires_in)}
        answer = self._sender.request("POST", _SIGNED_URLS, content)
        return str(answers.field(answer, "url", run or "the archive"))

    def signed_urls(
        self, paths: Iterable[str], *, expires_in: Lifetime = "1h", **picture: Unpack[Picture]
    ) -> list[str]:
        """Return a signed URL for each of many images, in input order. See `signed_url`."""
        urls: list[str] = []
        names = [named(path).text for path in paths]
        options = {"expires_in": requests.seconds_of(expires_in), "transform": picture}
        for batch in requests.batches(names, requests.SIGNED_AT_ONCE):
            answer = self._sender.request("POST", _SIGNED_URLS, {**options, "paths": batch})
            subject = batch[0] if len(batch) == 1 else f"{batch[0]} and others"
            results = answers.field(answer, "results", subject)
            for name, result in zip(batch, results, strict=True):
                if "url" not in result:
                    raise answers.error_of_result(result, name)
                urls.append(str(result["url"]))
        return urls

    def __repr__(self) -> str:
        url = self._sender.root.removesuffix("/api/v1")
        return f"{type(self).__name__}({url!r})"

    def close(self) -> None:
        """Close all connections. The store can still be used: it connects again."""
        self._sender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
