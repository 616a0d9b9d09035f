"""Operations on images: generators that yield requests and parse the responses, without I/O."""

import base64
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar
from urllib.parse import quote, urlencode, urljoin, urlsplit

from stillroom.client import answers
from stillroom.client.errors import UnexpectedAnswer
from stillroom.client.exchange import Answer, Call, Failure, Flow, Form
from stillroom.client.lifetime import Lifetime, seconds_of
from stillroom.client.many import batches
from stillroom.client.pictures import Picture, numbered
from stillroom.client.retries import Attempts, Retries, persistently
from stillroom.client.sinks import Sink
from stillroom.client.sources import ImagePayload
from stillroom.client.values import (
    Folder,
    ImageInfo,
    ImageMetadata,
    OnProgress,
    Outcome,
    Progress,
    SavedImage,
)
from stillroom.errors import (
    DigestMismatch,
    ImageNotFound,
    InvalidParameter,
    InvalidPath,
    PreconditionFailed,
)
from stillroom.paths import ImagePath, ImagePrefix

T = TypeVar("T")

IMAGES: Final = "/storage/images"
_MAX_HOPS: Final = 3

NAMES_A_PAGE: Final = 1000
ENTRIES_A_PAGE: Final = 250
"""Page size of listings with properties, which cost one request per image if the server uses a
bucket."""

SIGNED_AT_ONCE: Final = 1000
"""Number of paths in one request for signed URLs, the maximum that the server accepts."""

DELETED_AT_ONCE: Final = 100
"""Number of images deleted by one request. The server accepts 1,000, but that could take long."""


Condition = Mapping[str, str]
"""Headers that make a request conditional, such as `If-Match` (RFC 9110, section 13.1)."""


def condition(if_match: str | None = None, if_none_match: str | None = None) -> Condition:
    """Return the headers of a conditional request. The arguments are quoted etags or `*`."""
    fields = {"if-match": if_match, "if-none-match": if_none_match}
    return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Operations:
    """Operations on the images of one server.

    Attributes:
        root: Base URL of the API, for the URLs of skipped images.
        retries: Settings for retries.
    """

    root: str
    retries: Retries

    def save(
        self,
        path: ImagePath,
        upload: ImagePayload,
        condition: Condition,
        progress: OnProgress | None,
        expires_in: Lifetime | None = None,
    ) -> Flow[SavedImage]:
        """Save an image. A retry has no additional effect if an earlier attempt succeeded."""
        attempts = Attempts(self.retries)
        call = _save_call(path, upload, condition, progress, expires_in)
        answer = yield from persistently(call, attempts)
        if answer.status == 412 and attempts.doubtful:
            # The stored image may be the result of our own first attempt.
            head = yield from persistently(_head(path), Attempts(self.retries))
            if answers.announced_sha256(head) == upload.sha256:
                ours = {"if-match": head.headers["etag"]}
                again = _save_call(path, upload, ours, progress, expires_in)
                answer = yield from persistently(again, Attempts(self.retries))
        return answers.saved(answer, path.text)

    def save_unique(
        self,
        path: ImagePath,
        upload: ImagePayload,
        progress: OnProgress | None,
        expires_in: Lifetime | None,
    ) -> Flow[SavedImage]:
        """Save an image under `path` or, if that is in use, under a numbered name (`cat-1.png`)."""
        name, number = path, 0
        while True:
            try:
                new = {"if-none-match": "*"}
                return (yield from self.save(name, upload, new, progress, expires_in))
            except PreconditionFailed:
                number = yield from self._free_number(path, number + 1)
                name = numbered(path, number)

    def _free_number(self, path: ImagePath, first: int) -> Flow[int]:
        """Search upwards from `first` for a number whose numbered name (`cat-1.png`) is free."""
        taken, free, step = first - 1, first, 1
        while (yield from self.exists(numbered(path, free))):
            taken, free, step = free, free + step, step * 2
        while free - taken > 1:
            middle = (taken + free) // 2
            if (yield from self.exists(numbered(path, middle))):
                taken = middle
            else:
                free = middle
        return free

    def save_unless_same(
        self, path: ImagePath, upload: ImagePayload, progress: OnProgress | None
    ) -> Flow[SavedImage]:
        """Save an image, unless the image that is stored under `path` has identical bytes."""
        head = yield from persistently(_head(path), Attempts(self.retries))
        found = None if answers.is_missing(head) else answers.info_of_head(head, path.text)
        if found is None or found.sha256 != upload.sha256.hex():
            return (yield from self.save(path, upload, {}, progress))
        return SavedImage(
            path=path.text,
            url=self.root + _target(path),
            size=found.size,
            content_type=found.content_type,
            sha256=found.sha256,
            etag=found.etag,
            skipped=True,
        )

    def stat(self, path: ImagePath) -> Flow[ImageInfo]:
        """Return the size, modification time, content type, etag and SHA-256 of an image."""
        answer = yield from persistently(_head(path), Attempts(self.retries))
        return answers.info_of_head(answer, path.text)

    def metadata(self, path: ImagePath) -> Flow[ImageMetadata]:
        """Return the properties of an image, its generation parameters and its expiration."""
        call = Call("GET", f"/storage/metadata/{path.quoted()}")
        answer = yield from persistently(call, Attempts(self.retries))
        return answers.metadata(answer, path.text)

    def exists(self, path: ImagePath) -> Flow[bool]:
        """Return whether an image exists."""
        try:
            yield from self.stat(path)
        except ImageNotFound:
            return False
        return True

    def download(
        self, path: ImagePath, sink: Sink, progress: OnProgress | None, query: str = ""
    ) -> Flow[None]:
        """Download an image to `sink`. An interrupted download is resumed.

        Args:
            path: Path of the image.
            sink: Destination of the bytes.
            progress: Function that is called after each chunk.
            query: Query string with thumbnail options; empty for the original image.

        Raises:
            DigestMismatch: The received bytes do not match the SHA-256 that the server has sent.
        """
        attempts, head = Attempts(self.retries), None
        while True:
            fields = {"accept-encoding": "identity"}
            if sink.written and head is not None and "etag" in head.headers:
                fields |= {"range": f"bytes={sink.written}-", "if-range": head.headers["etag"]}
            else:
                sink.restart()
            before = sink.written
            target, report = _target(path) + query, image_progress(progress, path.text)
            call = Call("GET", target, fields, sink=sink, progress=report)
            outcome, digest = yield from self._get(path, call, attempts)
            if sink.written > before:
                attempts.progressed()
            if isinstance(outcome, Answer) and outcome.status in (200, 206):
                announced = answers.announced_sha256(outcome) or digest
                if announced not in (None, sink.sha256):
                    raise DigestMismatch(
                        f"{path.text}: the received bytes do not match the image's SHA-256: "
                        "download it again"
                    )
                return
            if isinstance(outcome, Answer) and outcome.status == 416:
                head = None  # the image was replaced by a shorter one
                continue
            if isinstance(outcome, Failure) and outcome.head is not None:
                head = outcome.head
            wait = attempts.wait_after(outcome)
            if wait is not None:
                yield wait
            elif isinstance(outcome, Answer):
                raise answers.refused(outcome, path.text)

    def _get(
        self, path: ImagePath, call: Call, attempts: Attempts
    ) -> Flow[tuple[Answer | Failure, bytes | None]]:
        """Send a GET request, following redirects.

        Also return the SHA-256 from a redirect, if any.
        """
        digest: bytes | None = None
        for _ in range(_MAX_HOPS):
            outcome = yield attempts.prepared(call)
            assert outcome is not None  # noqa: S101  (senders respond to calls)
            if isinstance(outcome, Failure):
                return outcome, digest
            if outcome.status not in (301, 302, 303, 307, 308):
                if call.elsewhere and 400 <= outcome.status < 500 and outcome.status != 416:
                    host = urlsplit(call.target).hostname
                    raise UnexpectedAnswer(
                        f"{path.text}: the server redirected to {host}, which responded with the "
                        f"status {outcome.status}"
                    )
                return outcome, digest
            digest = answers.announced_sha256(outcome) or digest
            call = replace(call, target=self._redirect_target(call, outcome, path))
        raise UnexpectedAnswer(f"{path.text}: the server redirected more than {_MAX_HOPS} times")

    def _redirect_target(self, call: Call, answer: Answer, path: ImagePath) -> str:
        here = call.target if call.elsewhere else self.root + call.target
        there = urljoin(here, answer.headers.get("location", ""))
        allowed = ("https",) if urlsplit(here).scheme == "https" else ("http", "https")
        if urlsplit(there).scheme not in allowed:
            raise UnexpectedAnswer(f"{path.text}: the server redirected to a URL that is not https")
        return there

    def delete(self, path: ImagePath, condition: Condition, *, missing_ok: bool) -> Flow[None]:
        """Delete an image. With `missing_ok`, a missing image is not an error."""
        attempts = Attempts(self.retries)
        answer = yield from persistently(Call("DELETE", _target(path), condition), attempts)
        if answers.is_missing(answer) and (missing_ok or attempts.doubtful):
            return
        answers.document(answer, path.text)

    def delete_batch(self, paths: Sequence[str]) -> Flow[list[Outcome[bool]]]:
        """Delete up to 1,000 images. The result in each outcome is True if the image existed."""
        attempts = Attempts(self.retries)
        call = json_call("POST", "/storage/delete", {"paths": list(paths)})
        answer = yield from persistently(call, attempts)
        said = answers.document(answer, "deleting")
        outcomes: list[Outcome[bool]] = []
        for path, result in zip(paths, said["results"], strict=True):
            if "code" not in result:
                outcomes.append(Outcome(path, result=True))
            elif result["code"] == ImageNotFound.code:
                outcomes.append(Outcome(path, result=False))
            else:
                error = answers.error_of(result["code"], result["detail"], path)
                error = error or UnexpectedAnswer(f"{path}: {result['detail']}")
                outcomes.append(Outcome(path, error=error))
        return outcomes

    def copy(self, source: ImagePath, target: ImagePath) -> Flow[SavedImage]:
        """Copy an image to another path on the server."""
        call = json_call("POST", "/storage/copy", {"source": source.text, "target": target.text})
        answer = yield from persistently(call, Attempts(self.retries))
        return answers.saved(answer, source.text)

    def move(self, source: ImagePath, target: ImagePath) -> Flow[SavedImage]:
        """Copy an image to another path, then delete the source unless it has been replaced."""
        if source == target:
            raise InvalidParameter(f"{source.text}: source and target are the same", at=("target",))
        found = yield from self.stat(source)
        image = yield from self.copy(source, target)
        yield from self.delete(source, {"if-match": found.etag}, missing_ok=False)
        return image

    def page_of_names(self, prefix: str, query: str) -> Flow[tuple[list[str], str | None]]:
        """Return a page of paths that begin with `prefix`, and the next page's query or None."""
        call = Call("GET", f"{IMAGES}{query}")
        answer = yield from persistently(call, Attempts(self.retries))
        entries, more = answers.listed(answer, "listing")
        try:
            return [answers.listed_path(entry, prefix) for entry in entries], more
        except (AttributeError, InvalidPath) as error:
            raise UnexpectedAnswer(f"the server returned an invalid path: {error}") from error

    def page_of_entries(
        self, prefix: str, query: str
    ) -> Flow[tuple[list[ImageInfo | Folder], str | None]]:
        """Return a page of images and folders whose paths begin with `prefix`, with properties.

        Returns:
            The images and folders, and the query of the next page or None.
        """
        call = Call("GET", f"/storage/entries{query}")
        answer = yield from persistently(call, Attempts(self.retries))
        entries, more = answers.listed(answer, "listing")
        try:
            return [answers.info_of_entry(entry, prefix) for entry in entries], more
        except (AttributeError, KeyError, TypeError, ValueError, InvalidPath) as error:
            raise UnexpectedAnswer(f"the server returned an invalid entry: {error}") from error

    def signed_urls(
        self, paths: Sequence[ImagePath], valid_for_s: int, picture: Picture
    ) -> Flow[list[str]]:
        """Return a signed URL for each path, in the same order."""
        urls: list[str] = []
        asked = {"expires_in": valid_for_s, "transform": picture}
        for batch in batches(paths, SIGNED_AT_ONCE):
            names = [path.text for path in batch]
            call = json_call("POST", "/storage/signed-urls", {**asked, "paths": names})
            answer = yield from persistently(call, Attempts(self.retries))
            subject = names[0] if len(names) == 1 else f"{names[0]} and others"
            results = answers.field(answer, "results", subject)
            for name, result in zip(names, results, strict=True):
                if "url" not in result:
                    known = answers.error_of(result["code"], result["detail"], name)
                    raise known or UnexpectedAnswer(f"{name}: {result['detail']}")
                urls.append(str(result["url"]))
        return urls


def list_query(prefix: str, *, start_after: str, page_size: int, fold: bool) -> str:
    """Return the query string for the first page of a listing.

    Args:
        prefix: Prefix of the paths.
        start_after: Path after which the listing starts; empty for the beginning.
        page_size: Maximum number of entries on a page.
        fold: List only one level, in which deeper paths are replaced by their folder.

    Raises:
        InvalidPath: No path can begin with `prefix`.
    """
    given = {"prefix": ImagePrefix.parse(prefix).text, "limit": str(page_size)}
    if start_after:
        given["start_after"] = start_after
    if fold:
        given["delimiter"] = "/"
    return "?" + urlencode(given, quote_via=quote, safe="")


def _target(path: ImagePath) -> str:
    return f"{IMAGES}/{path.quoted()}"


def _head(path: ImagePath) -> Call:
    return Call("HEAD", _target(path))


def json_call(method: str, target: str, content: Mapping[str, object]) -> Call:
    """Return a request with a JSON body."""
    fields = {"content-type": "application/json"}
    return Call(method, target, fields, json.dumps(content).encode())


def _save_call(
    path: ImagePath,
    upload: ImagePayload,
    condition: Condition,
    progress: OnProgress | None,
    expires_in: Lifetime | None,
) -> Call:
    boundary = secrets.token_hex(16)
    form = Form(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="image"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode(),
        upload,
        f"\r\n--{boundary}--\r\n".encode(),
    )
    fields = {
        "content-type": f"multipart/form-data; boundary={boundary}",
        "content-length": str(len(form.head) + upload.size + len(form.tail)),
        "repr-digest": f"sha-256=:{base64.b64encode(upload.sha256).decode()}:",
        **condition,
    }
    if expires_in is not None:
        fields["expires-in"] = str(seconds_of(expires_in))
    return Call("POST", _target(path), fields, form, progress=image_progress(progress, path.text))


def image_progress(
    progress: OnProgress | None, subject: str
) -> Callable[[int, int | None], None] | None:
    """Convert a caller's progress callback to one for `Call.progress`; None remains None."""
    if progress is None:
        return None
    return lambda done, total: progress(Progress(subject, done, total))
