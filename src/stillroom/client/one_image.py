"""The calls of `ImageStore` on one image, and what sends them."""

import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeVar, Unpack

import httpx

from stillroom.client.archives import ARCHIVE_NAME, Sidecars, archive, check_archive
from stillroom.client.connection import Connection, Token
from stillroom.client.encoding import Encoding
from stillroom.client.exchange import Flow, Sends, Wait
from stillroom.client.fetching import MAX_BYTES, fetched
from stillroom.client.lifetime import Lifetime, seconds_of
from stillroom.client.operations import (
    Condition,
    Operations,
)
from stillroom.client.pictures import Picture, picture_query
from stillroom.client.retries import Retries
from stillroom.client.sender import Sender
from stillroom.client.sinks import Sink, check_target, check_within, replacing, spool
from stillroom.client.sources import Facts, Source, is_same, named, opened
from stillroom.client.values import (
    DownloadedImage,
    ImageInfo,
    ImageMetadata,
    OnProgress,
    SavedImage,
    SaveOptions,
)

T = TypeVar("T")


class OneImageCalls:
    """The calls of `ImageStore` on one image, and what sends them."""

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
        """Nothing is sent yet.

        Args:
            url: The server's root, such as `http://127.0.0.1:8000`; else `STILLROOM_URL`.
            token: A token, or a function that gives the current one; else `STILLROOM_TOKEN`.
            deadline_s: No attempt begins later than this after the first, or after the last
                byte of a download.
            timeout_s: No single read or write of the socket takes longer.
            connect_deadline_s: The deadline where waiting is unlikely to help: an unknown host, a
                TLS error, or no connection to a server that has not answered before.
            transport: Instead of the network; for tests and odd proxies.

        Raises:
            ConfigurationError: the URL is none.
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

        They are hashed first and the hash is announced, so that what arrives damaged is refused.
        An image or array is encoded as the suffix of `path` says, as PNG without one.

        Args:
            path: Such as `generations/1/cat.png`.
            source: See `stillroom.client.sources.opened` for what is done to each kind.
            if_match: Replace only the image that has this etag.
            if_none_match: `*` to save only where nothing is.
            unique: Save under a name that is new: where `cat.png` is taken, as `cat-1.png`, and so
                on. The result says which.
            generation: How it was made, such as `{"prompt": "a fox", "seed": 7}`, put into the
                image itself without encoding it again: docs/generation.md.
            ai_generated: Put the mark into the image that says that AI made it, without encoding
                it again, unless it has one: docs/ai-mark.md.
            expires_in: How long it stays: a timedelta, seconds, or a text such as `7d`; None: for
                good. Saved again, it starts anew.
            progress: Called after each piece, in the thread that sends.
            encoding: Of an image or array: `quality`, `pnginfo` and others, see `Encoding`.
        """
        name = named(path)
        condition = Condition(if_match, if_none_match)
        if unique and condition.fields:
            raise TypeError("unique= makes a name that is new, so it takes no condition")
        with opened(
            source, name, generation, ai_generated=ai_generated, encoding=encoding
        ) as upload:
            if unique:
                flow = self._operations.save_unique(name, upload, progress, expires_in)
            else:
                flow = self._operations.save(name, upload, condition, progress, expires_in)
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
        """Save what another server has at `url`, such as a provider's; nothing is kept on the way.

        This process fetches it, not the Stillroom server: in memory up to 16 MiB and in a temporary
        file beyond, and without a token. Addresses that are not public are refused at every
        redirect, so that a URL that a stranger gives leads to nothing in your network.

        Args:
            path: See `save`.
            url: `https://` or `http://`; never shown in an error but for its host.
            max_bytes: More is `TooLarge`, as soon as it is known.
            allow_private: Fetch from any address, and by the proxies of the environment.
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
        """Save, but send nothing if the same bytes are there; the result says so (`skipped`)."""
        name = named(path)
        with opened(
            source, name, generation, ai_generated=ai_generated, encoding=encoding
        ) as upload:
            return self._run(self._operations.save_unless_same(name, upload, progress))

    def open(self, path: str, *, progress: OnProgress | None = None) -> IO[bytes]:
        """The whole image as a file to read and seek in; close it.

        It is in memory up to 16 MiB, and in an unnamed temporary file beyond.
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
        """The whole image as bytes; or a thumbnail of it, such as `width=256`.

        Args:
            path: Of the image.
            progress: Called after each piece.
            picture: `width`, `height`, `fit`, `format`, `quality`: docs/api.md.
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
        """Write the image to a file, a folder (under its own name) or an open binary file.

        A file is there whole or not at all, and folders above it are made. Where a connection
        breaks off, the download goes on from there. A hash that the server knows is checked.

        Raises:
            PermissionError: the way to the file leads out of the folder `within`.
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
        """Download, but fetch nothing if `file` has the same bytes; the result says so.

        See `download` for the arguments.
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
        """A ZIP of many images, as a file to read and seek in; close it. See `open`.

        Args:
            images: What paths begin with, such as `cats/`; or up to 1,000 paths.
            sidecars: `captions`: beside `cat.png` with a prompt `cat.txt` with that prompt.
            progress: Called after each piece; the total is not known.
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
        """As `archive`, into a file that is there whole or not at all, or an open binary file."""
        check_target(target)
        if isinstance(target, Path):
            with replacing(target, ARCHIVE_NAME) as file:
                self.download_archive(images, file, sidecars=sidecars, progress=progress)
            return
        retries = self._operations.retries
        self._run(archive(retries, images, sidecars, Sink(target), progress))
        check_archive(target)

    def exists(self, path: str) -> bool:
        """Whether there is such an image."""
        return self._run(self._operations.exists(named(path)))

    def stat(self, path: str) -> ImageInfo:
        """Size, time, type, etag and hash, without the bytes."""
        return self._run(self._operations.stat(named(path)))

    def metadata(self, path: str) -> ImageMetadata:
        """As `stat`, with the prompt, seed and model that the image itself tells."""
        return self._run(self._operations.metadata(named(path)))

    def delete(self, path: str, *, if_match: str | None = None, missing_ok: bool = False) -> None:
        """Remove the image.

        Raises:
            ImageNotFound: there is none, unless `missing_ok`, or unless an earlier attempt of
                this call may have removed it.
        """
        name = named(path)
        condition = Condition(if_match)
        self._run(self._operations.delete(name, condition, missing_ok=missing_ok))

    def copy(self, source: str, target: str) -> SavedImage:
        """Save the image at `source` under `target` as well; its bytes stay on the server."""
        names = named(source), named(target)
        return self._run(self._operations.copy(*names))

    def move(self, source: str, target: str) -> SavedImage:
        """Copy, then remove the source.

        Raises:
            PreconditionFailed: the source was replaced meanwhile, so it is kept; the copy is of
                the old image or of the new one.
        """
        names = named(source), named(target)
        return self._run(self._operations.move(*names))

    def signed_url(
        self,
        path: str,
        *,
        expires_in: Lifetime = "1h",
        **picture: Unpack[Picture],
    ) -> str:
        """A URL that reads this image, or a thumbnail of it, without a token.

        It is valid for seven days at most; `expires_in` and `picture`: as for `save` and `read`.
        """
        return self.signed_urls([path], expires_in=expires_in, **picture)[0]

    def signed_urls(
        self,
        paths: Iterable[str],
        *,
        expires_in: Lifetime = "1h",
        **picture: Unpack[Picture],
    ) -> list[str]:
        """As `signed_url`, of many images in one request, in their order.

        Raises:
            Forbidden: the token does not cover one of them.
        """
        names, valid_for_s = [named(path) for path in paths], seconds_of(expires_in)
        return self._run(self._operations.signed_urls(names, valid_for_s, picture))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._operations.root.removesuffix('/api/v1')!r})"

    # Sending -----------------------------------------------------------------------------

    def close(self) -> None:
        """Close all connections; the store may be used again."""
        self._sender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
