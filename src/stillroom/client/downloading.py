"""`ImageStore` methods that download images."""

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO, Final, Unpack
from urllib.parse import urlencode, urljoin, urlsplit

from stillroom.client import answers, requests, sinks
from stillroom.client.errors import UnexpectedAnswer
from stillroom.client.exchange import Answer, Call, Failure
from stillroom.client.one_image import OneImageCalls
from stillroom.client.retries import Attempts
from stillroom.client.sinks import Sink
from stillroom.client.sources import filled_spool, is_same, named, spool
from stillroom.client.values import DownloadedImage, OnProgress, Picture, Sidecars
from stillroom.errors import DigestMismatch

_MAX_HOPS: Final = 3


class DownloadCalls(OneImageCalls):
    """Base class of `ImageStore` with the methods that download images."""

    def open(self, path: str, *, progress: OnProgress | None = None) -> IO[bytes]:
        """Download an image and return it as a seekable file, which the caller must close.

        Up to 16 MiB are kept in memory; a larger image is written to an unnamed temporary file.
        """
        with filled_spool() as file:
            self._download(path, file, progress)
        return file

    def read(
        self, path: str, *, progress: OnProgress | None = None, **picture: Unpack[Picture]
    ) -> bytes:
        """Return the bytes of an image or, with options of `Picture`, of a thumbnail.

        `progress` is called after each chunk.
        """
        requests.check_names(picture, Picture)
        with spool() as file:
            self._download(path, file, progress, f"?{urlencode(picture)}" if picture else "")
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
        download is resumed. The SHA-256 is verified if the server has recorded it. `progress` is
        called after each chunk. Raise `PermissionError` if the file is not in the folder `within`.
        """
        sinks.check_target(target)
        if not isinstance(target, Path):
            self._download(path, target, progress)
            return
        with sinks.replacing(target, named(path), within) as file:
            self._download(path, file, progress)

    def download_unless_same(
        self,
        path: str,
        file: Path,
        *,
        within: Path | None = None,
        progress: OnProgress | None = None,
    ) -> DownloadedImage:
        """Download an image as `download` does, unless `file` already has identical bytes."""
        sinks.check_target(file)
        sinks.check_within(file, within)
        if file.exists() and is_same(file, self.stat(path)):
            return DownloadedImage(path, file, skipped=True)
        self.download(path, file, within=within, progress=progress)
        return DownloadedImage(path, file)

    def archive(
        self,
        images: str | Iterable[str],
        *,
        sidecars: Sidecars | None = None,
        progress: OnProgress | None = None,
    ) -> IO[bytes]:
        """Download a ZIP of many images. Return a seekable file, which the caller must close.

        `images` is a folder such as `cats/`, a prefix such as `cats*`, or up to 1,000 paths. With
        the value `captions` of `sidecars`, the ZIP also contains a text file with the prompt of
        each image. `progress` is called after each chunk, with an unknown total.
        """
        with filled_spool() as file:
            self.download_archive(images, file, sidecars=sidecars, progress=progress)
        return file

    def download_archive(
        self,
        images: str | Iterable[str],
        target: Path | IO[bytes],
        *,
        sidecars: Sidecars | None = None,
        progress: OnProgress | None = None,
    ) -> None:
        """Download a ZIP as `archive` does, to a file (atomically), a folder or an open file."""
        sinks.check_target(target)
        if isinstance(target, Path):
            with sinks.replacing(target, sinks.ARCHIVE_NAME) as file:
                self.download_archive(images, file, sidecars=sidecars, progress=progress)
            return
        call = requests.archive_call(images, sidecars)
        call = replace(call, sink=Sink(target), progress=progress)
        answer = self._sender.send(call, Attempts(self._sender.retries, call.subject))
        if answer.status != 200:
            raise answers.refused(answer, call.subject)
        sinks.check_archive(target)

    def _download(
        self, path: str, file: IO[bytes], progress: OnProgress | None, query: str = ""
    ) -> None:
        """Download an image, or a thumbnail with the options in `query`. Resume if interrupted."""
        target, sink = requests.image_target(named(path)) + query, Sink(file)
        attempts, head = Attempts(self._sender.retries), None
        while True:
            fields = {"accept-encoding": "identity"}
            if sink.written and head is not None and "etag" in head.headers:
                fields |= {"range": f"bytes={sink.written}-", "if-range": head.headers["etag"]}
            else:
                sink.restart()
            before = sink.written
            call = Call("GET", target, fields, sink=sink, subject=path, progress=progress)
            outcome, digest = self._get(path, call, attempts)
            if sink.written > before:
                attempts.progressed()
            if isinstance(outcome, Failure):
                head = outcome.head or head
            elif outcome.status in (200, 206):
                if (answers.announced_sha256(outcome) or digest) not in (None, sink.sha256):
                    raise DigestMismatch(
                        f"{path}: the received bytes do not match the image's SHA-256: download "
                        "it again"
                    )
                return
            elif outcome.status == 416:
                head = None  # the image was replaced by a shorter one
                continue
            wait = attempts.wait_after(outcome)
            if wait is not None:
                time.sleep(wait)
            elif isinstance(outcome, Answer):
                raise answers.refused(outcome, path)

    def _get(
        self, path: str, call: Call, attempts: Attempts
    ) -> tuple[Answer | Failure, bytes | None]:
        """Send a GET request, following redirects. Also return the SHA-256 that a redirect has."""
        digest: bytes | None = None
        for _ in range(_MAX_HOPS):
            outcome = self._sender.send_once(call, attempts)
            if isinstance(outcome, Failure):
                return outcome, digest
            if outcome.status not in (301, 302, 303, 307, 308):
                if call.elsewhere and 400 <= outcome.status < 500 and outcome.status != 416:
                    host = urlsplit(call.target).hostname
                    raise UnexpectedAnswer(
                        f"{path}: the server redirected to {host}, which responded with the "
                        f"status {outcome.status}"
                    )
                return outcome, digest
            digest = answers.announced_sha256(outcome) or digest
            here = call.target if call.elsewhere else self._sender.root + call.target
            there = urljoin(here, outcome.headers.get("location", ""))
            allowed = ("https",) if urlsplit(here).scheme == "https" else ("http", "https")
            if urlsplit(there).scheme not in allowed:
                raise UnexpectedAnswer(f"{path}: the server redirected to a URL that is not https")
            call = replace(call, target=there)
        raise UnexpectedAnswer(f"{path}: the server redirected more than {_MAX_HOPS} times")
