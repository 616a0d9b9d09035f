"""`ImageStore` methods that operate on a single image."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self, TypeVar, Unpack

import httpx

from stillroom.client.archives import ARCHIVE_NAME, Sidecars, archive, check_archive
from stillroom.client.connection import Connection, Token
from stillroom.client.encoding import Encoding
from stillroom.client.exchange import Flow, Wait
from stillroom.client.fetching import MAX_BYTES, fetched
from stillroom.client.lifetime import Lifetime, seconds_of
from stillroom.client.operations import Operations, condition
from stillroom.client.pictures import Picture, picture_query
from stillroom.client.retries import Retries
from stillroom.client.sender import Sender
from stillroom.client.sinks import Sink, check_target, check_within, replacing
from stillroom.client.sources import Facts, Source, is_same, named, opened, spool
from stillroom.client.values import (
    DownloadedImage,
    ImageInfo,
    ImageMetadata,
    OnProgress,
    SavedImage,
    SaveOptions,
)

if TYPE_CHECKING:
    from stillroom.client.protocols import Sends

T = TypeVar("T")


class OneImageCalls:
    """Base class of `ImageStore` with the methods that operate on a single image."""

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

        Raises:
            ConfigurationError: The URL is invalid.
        """
        connection = Connection.to(url, token)
        retries = Retries(
            deadline_s=deadline_s, timeout_s=timeout_s, connect_deadline_s=connect_deadline_s
        )
        self._operations = Operations(connection.root, retries)
        self._sender: Sends = Sender(connection, transport)

    def save(
        self,
        path: str,
        source: Source,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        unique: bool = False,
        generation: Facts | None = None,
        ai_generated: bool = False,
        expires_in: Lifetime | None = None,
        progress: OnProgress | None = None,
        **encoding: Unpack[Encoding],
    ) -> SavedImage:
        """Save bytes, a binary file, a `Path`, a Pillow image or an array under `path`.

        The bytes are hashed first, and the hash is sent so that the server can reject corrupted
        uploads. A Pillow image or array is encoded in the format that the suffix of `path` names.

        Args:
            path: Path in the store, such as `generations/1/cat.png`.
            source: Image to save. See `stillroom.client.sources.opened` for each type.
            if_match: Replace the image only if it has this etag.
            if_none_match: `*` to save only if no image exists under `path`.
            unique: If `path` is in use, add a number to the file name: `cat-1.png` instead of
                `cat.png`. The result contains the path that was used.
            generation: Generation parameters such as `{"prompt": "a fox", "seed": 7}`, which are
                embedded in the image without encoding it again: docs/generation.md.
            ai_generated: Embed metadata which states that AI made the image, unless the image
                contains such metadata. The image is not encoded again: docs/ai-mark.md.
            expires_in: Lifetime: a timedelta, seconds, or a string such as `7d`. If it is None, the
                image does not expire. Saving the image again restarts the lifetime.
            progress: Function that is called after each chunk, in the thread that sends.
            encoding: Options for images and arrays, such as `quality` and `pnginfo`; see
                `Encoding`.
        """
        name = named(path)
        precondition = condition(if_match, if_none_match)
        if unique and precondition:
            raise TypeError("unique=True cannot be combined with if_match or if_none_match")
        with opened(
            source, name, generation, ai_generated=ai_generated, encoding=encoding
        ) as upload:
            if unique:
                flow = self._operations.save_unique(name, upload, progress, expires_in)
            else:
                flow = self._operations.save(name, upload, precondition, progress, expires_in)
            return self._run(flow)

    def save_url(
        self,
        path: str,
        url: str,
        *,
        max_bytes: int = MAX_BYTES,
        allow_private: bool = False,
        **options: Unpack[SaveOptions],
    ) -> SavedImage:
        """Download an image from the URL of another server, such as a provider, and save it.

        This process downloads the image, not the Stillroom server, and sends no token. The image is
        buffered in memory up to 16 MiB, and in a temporary file beyond that. Non-public addresses
        are rejected at every redirect, so that untrusted URLs cannot access your network.

        Args:
            path: See `save`.
            url: URL with `https://` or `http://`. Error messages contain only its host.
            max_bytes: Maximum size. A larger image raises `TooLarge` as soon as its size is known.
            allow_private: Allow non-public addresses, and use proxies from the environment.
            options: See `save`.
        """
        named(path)
        retries = self._operations.retries
        with fetched(
            url,
            max_bytes=max_bytes,
            allow_private=allow_private,
            deadline_s=retries.deadline_s,
            timeout_s=retries.timeout_s,
        ) as file:
            return self.save(path, file, **options)

    def save_unless_same(
        self,
        path: str,
        source: Source,
        *,
        generation: Facts | None = None,
        ai_generated: bool = False,
        progress: OnProgress | None = None,
        **encoding: Unpack[Encoding],
    ) -> SavedImage:
        """Save an image, unless the image that is stored under `path` has identical bytes.

        The result then has `skipped` set to True. See `save` for the arguments.
        """
        name = named(path)
        with opened(
            source, name, generation, ai_generated=ai_generated, encoding=encoding
        ) as upload:
            return self._run(self._operations.save_unless_same(name, upload, progress))

    def open(self, path: str, *, progress: OnProgress | None = None) -> IO[bytes]:
        """Download an image and return it as a seekable file, which the caller must close.

        Up to 16 MiB are kept in memory; a larger image is written to an unnamed temporary file.
        """
        file = spool()
        try:
            self._download(path, file, progress)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    def read(
        self, path: str, *, progress: OnProgress | None = None, **picture: Unpack[Picture]
    ) -> bytes:
        """Return the bytes of an image or, for example with `width=256`, of a thumbnail.

        Args:
            path: Path of the image.
            progress: Function that is called after each chunk.
            picture: Thumbnail options `width`, `height`, `fit`, `format`, `quality`: docs/api.md.
        """
        with spool() as file:
            query = picture_query(picture)
            self._run(self._operations.download(named(path), Sink(file), progress, query))
            file.seek(0)
            return file.read()

    def download(
        self,
        path: str,
        target: Path | IO[bytes],
        *,
        within: Path | None = None,
        progress: OnProgress | None = None,
    ) -> None:
        """Download an image to a file, to a folder (under its own name) or to an open binary file.

        The file is written atomically, and missing parent folders are created. An interrupted
        download is resumed. The SHA-256 is verified if the server has recorded it.

        Args:
            path: Path of the image.
            target: Path of the file or folder, or an open binary file.
            within: Folder in which the file must be; None allows any file.
            progress: Function that is called after each chunk.

        Raises:
            PermissionError: The file is not in the folder `within`.
        """
        check_target(target)
        if not isinstance(target, Path):
            self._download(path, target, progress)
            return
        with replacing(target, named(path), within) as file:
            self._download(path, file, progress)

    def download_unless_same(
        self,
        path: str,
        file: Path,
        *,
        within: Path | None = None,
        progress: OnProgress | None = None,
    ) -> DownloadedImage:
        """Download an image, unless `file` already has identical bytes.

        The result then has `skipped` set to True. See `download` for the arguments.
        """
        check_target(file)
        check_within(file, within)
        if file.exists():
            found = self.stat(path)
            if is_same(file, size=found.size, sha256=found.sha256):
                return DownloadedImage(path, file, skipped=True)
        self.download(path, file, within=within, progress=progress)
        return DownloadedImage(path, file)

    def _download(self, path: str, file: IO[bytes], progress: OnProgress | None) -> None:
        self._run(self._operations.download(named(path), Sink(file), progress))

    def archive(
        self,
        images: str | Iterable[str],
        *,
        sidecars: Sidecars | None = None,
        progress: OnProgress | None = None,
    ) -> IO[bytes]:
        """Download a ZIP of many images. Return a seekable file, which the caller must close.

        Args:
            images: A path prefix such as `cats/`, or up to 1,000 paths.
            sidecars: `captions` adds a text file for each image that contains a prompt.
            progress: Function that is called after each chunk. The total is unknown.
        """
        file = spool()
        try:
            self.download_archive(images, file, sidecars=sidecars, progress=progress)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    def download_archive(
        self,
        images: str | Iterable[str],
        target: Path | IO[bytes],
        *,
        sidecars: Sidecars | None = None,
        progress: OnProgress | None = None,
    ) -> None:
        """Download a ZIP of many images to a file (atomically), a folder or an open binary file.

        See `archive` for the other arguments.
        """
        check_target(target)
        if isinstance(target, Path):
            with replacing(target, ARCHIVE_NAME) as file:
                self.download_archive(images, file, sidecars=sidecars, progress=progress)
            return
        retries = self._operations.retries
        self._run(archive(retries, images, sidecars, Sink(target), progress))
        check_archive(target)

    def exists(self, path: str) -> bool:
        """Return whether an image exists."""
        return self._run(self._operations.exists(named(path)))

    def stat(self, path: str) -> ImageInfo:
        """Return the size, modification time, content type, etag and SHA-256 of an image."""
        return self._run(self._operations.stat(named(path)))

    def metadata(self, path: str) -> ImageMetadata:
        """Return the properties of an image, as `stat` does, and its generation parameters."""
        return self._run(self._operations.metadata(named(path)))

    def delete(self, path: str, *, if_match: str | None = None, missing_ok: bool = False) -> None:
        """Delete an image.

        Args:
            path: Path of the image.
            if_match: Delete the image only if it has this etag.
            missing_ok: If True, a missing image is not an error.

        Raises:
            ImageNotFound: The image does not exist. Not raised if an earlier attempt of this call
                may have deleted the image.
        """
        precondition = condition(if_match)
        self._run(self._operations.delete(named(path), precondition, missing_ok=missing_ok))

    def copy(self, source: str, target: str) -> SavedImage:
        """Copy an image to another path on the server, without downloading it."""
        return self._run(self._operations.copy(named(source), named(target)))

    def move(self, source: str, target: str) -> SavedImage:
        """Copy an image to another path on the server, then delete the source.

        Raises:
            PreconditionFailed: The source was replaced during the move, so it was not deleted. The
                copy contains either the old or the new image.
        """
        return self._run(self._operations.move(named(source), named(target)))

    def signed_url(
        self, path: str, *, expires_in: Lifetime = "1h", **picture: Unpack[Picture]
    ) -> str:
        """Return a URL with which an image or its thumbnail can be read without a token.

        The URL is valid for at most seven days. See `save` for `expires_in`, `read` for `picture`.
        """
        return self.signed_urls([path], expires_in=expires_in, **picture)[0]

    def signed_urls(
        self, paths: Iterable[str], *, expires_in: Lifetime = "1h", **picture: Unpack[Picture]
    ) -> list[str]:
        """Return a signed URL for each of many images, in input order. See `signed_url`.

        The client sends one request for each 1,000 paths.

        Raises:
            Forbidden: The token does not permit access to one of the images.
        """
        names, valid_for_s = [named(path) for path in paths], seconds_of(expires_in)
        return self._run(self._operations.signed_urls(names, valid_for_s, picture))

    def __repr__(self) -> str:
        url = self._operations.root.removesuffix("/api/v1")
        return f"{type(self).__name__}({url!r})"

    # Sending -----------------------------------------------------------------------------

    def close(self) -> None:
        """Close all connections. The store can still be used: it connects again."""
        self._sender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, flow: Flow[T]) -> T:
        try:
            step = next(flow)
            while True:
                if isinstance(step, Wait):
                    time.sleep(step.seconds)
                    step = flow.send(None)
                else:
                    step = flow.send(self._sender.send(step))
        except StopIteration as end:
            result: T = end.value
            return result
