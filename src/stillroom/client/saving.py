"""`ImageStore` methods that save an image."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Unpack

from stillroom.client import answers, requests
from stillroom.client.encoding import Encoding
from stillroom.client.exchange import Answer
from stillroom.client.fetching import MAX_BYTES, fetched
from stillroom.client.one_image import OneImageCalls
from stillroom.client.retries import Attempts
from stillroom.client.sources import Facts, ImagePayload, Source, named, opened
from stillroom.client.values import GrantTerms, Lifetime, OnProgress, SaveOptions
from stillroom.errors import PreconditionFailed
from stillroom.paths import ImagePath
from stillroom.wire.images import SavedImage
from stillroom.wire.uploads import UploadGrant


class SaveCalls(OneImageCalls):
    """Base class of `ImageStore` with the methods that save an image."""

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
        sign: Lifetime | None = None,
        direct: bool = False,
        progress: OnProgress | None = None,
        **encoding: Unpack[Encoding],
    ) -> SavedImage:
        """Save bytes, a binary file, a `Path`, a Pillow image or an array under `path`.

        The bytes are hashed first, and the hash is sent so that the server can reject corrupted
        uploads. A Pillow image or array is encoded in the format that the suffix of `path` names.

        Args:
            path: Path in the store, such as `generations/1/cat.png`.
            source: Image to save. Files are read from their current position.
            if_match: Replace the image only if it has this etag.
            if_none_match: `*` to save only if no image exists under `path`.
            unique: If `path` is in use, add a number to the file name: `cat-1.png` instead of
                `cat.png`. The result contains the path that was used.
            generation: Generation parameters such as `{"prompt": "a fox", "seed": 7}`, which are
                embedded in the image without encoding it again; see docs/generation.md.
            ai_generated: Embed metadata which states that AI made the image, unless the image
                already contains it. The image is not encoded again; see docs/ai-mark.md.
            expires_in: Lifetime: a timedelta, seconds, or a string such as `7d`. If it is None, the
                image does not expire. Saving the image again restarts the lifetime.
            sign: Lifetime, at most seven days, of the `signed_url` in the result. None: no URL.
            direct: Upload with a grant. If the server uses a bucket, the file is sent directly to
                the bucket. The size limit is `STILLROOM_MAX_GRANT_BYTES`. Not possible with
                `if_match`, `unique` or `sign`.
            progress: Function that is called after each chunk, in the thread that sends the image.
            encoding: Options for encoding Pillow images and arrays; see `Encoding`.
        """
        name = named(path)
        fields = requests.condition(if_match, if_none_match)
        if unique and fields:
            raise TypeError("unique=True cannot be combined with if_match or if_none_match")
        if direct and (unique or if_match is not None or sign is not None):
            raise TypeError("direct=True cannot be combined with if_match, unique or sign")
        if expires_in is not None:
            fields["expires-in"] = str(requests.seconds_of(expires_in))
        if sign is not None:
            fields["sign-url"] = str(requests.seconds_of(sign, "sign"))
        with opened(source, name, generation, encoding, ai_generated=ai_generated) as upload:
            if direct:
                terms: GrantTerms = {"if_none_match": if_none_match, "expires_after": expires_in}
                terms["sha256"] = upload.sha256.hex()
                grant = self.upload_grant(path, size=upload.size, **terms)
                call = requests.direct_call(path, grant, upload, progress, self._sender.root)
                answers.uploaded(self._sender.send(call), path)
                return self.complete(grant)
            if unique:
                return self._save_unique(name, upload, fields, progress)
            return answers.parsed(self._save(name, upload, fields, progress), path, SavedImage)

    def upload_grant(self, path: str, *, size: int, **terms: Unpack[GrantTerms]) -> UploadGrant:
        """Return a grant for uploading one file of exactly `size` bytes; see docs/uploads.md."""
        return answers.upload_grant(self._sender.send(requests.grant_call(path, size, terms)), path)

    def complete(self, grant: UploadGrant | str) -> SavedImage:
        """Save the uploaded file of a grant as an image. The call can be repeated for 24 hours.

        The timeout and the deadline are five times as long as those of other calls (300 and 600
        seconds by default), since a bucket copies the file before the server responds.

        Raises:
            UploadMissing: The file has not been uploaded.
            GrantSpent: The grant was completed before, and its image was replaced or deleted.
        """
        text = grant if isinstance(grant, str) else grant.grant
        call = requests.json_call("POST", f"{requests.GRANTS}/complete", {"grant": text})
        usual = self._sender.retries
        slow = replace(usual, timeout_s=5 * usual.timeout_s, deadline_s=5 * usual.deadline_s)
        return answers.parsed(self._sender.send(call, Attempts(slow)), "the upload", SavedImage)

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

        The calling process downloads the image, not the Stillroom server. No token is sent.
        Non-public addresses are rejected, so that untrusted URLs cannot access your network. With
        `allow_private`, they are allowed, and proxies from the environment are used. Raise
        `TooLarge` if the image has more than `max_bytes`. Error messages contain only the URL's
        host. See `save` for `options`.
        """
        named(path)
        retries = self._sender.retries
        with fetched(url, retries, max_bytes=max_bytes, allow_private=allow_private) as file:
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
        """Save an image as `save` does, unless identical bytes are already stored under `path`."""
        name = named(path)
        with opened(source, name, generation, encoding, ai_generated=ai_generated) as upload:
            head = self._head(name)
            stored = None if answers.is_missing(head) else answers.info_of_head(head, path)
            if stored is None or stored.sha256 != upload.sha256.hex():
                return answers.parsed(self._save(name, upload, {}, progress), path, SavedImage)
        url, kind = self._sender.root + requests.image_target(name), stored.content_type
        return SavedImage(path, url, stored.size, kind, stored.sha256, stored.etag, skipped=True)

    def _save(
        self,
        path: ImagePath,
        upload: ImagePayload,
        fields: Mapping[str, str],
        progress: OnProgress | None,
    ) -> Answer:
        attempts = Attempts(self._sender.retries)
        answer = self._sender.send(requests.save_call(path, upload, fields, progress), attempts)
        if answer.status == 412 and attempts.doubtful:
            # The stored image may be the result of this call's first attempt.
            head = self._head(path)
            if answers.announced_sha256(head) == upload.sha256:
                ours = {**fields, "if-match": head.headers["etag"]}
                ours.pop("if-none-match", None)
                answer = self._sender.send(requests.save_call(path, upload, ours, progress))
        return answer

    def _save_unique(
        self,
        path: ImagePath,
        upload: ImagePayload,
        fields: Mapping[str, str],
        progress: OnProgress | None,
    ) -> SavedImage:
        name, number = path, 0
        while True:
            answer = self._save(name, upload, {**fields, "if-none-match": "*"}, progress)
            try:
                return answers.parsed(answer, name.text, SavedImage)
            except PreconditionFailed:
                number = self._free_number(path, number + 1)
                name = requests.numbered(path, number)

    def _free_number(self, path: ImagePath, first: int) -> int:
        """Find an unused number for a path such as `cat-1.png` by a binary search."""
        taken, free, step = first - 1, first, 1
        while self.exists(requests.numbered(path, free).text):
            taken, free, step = free, free + step, step * 2
        while free - taken > 1:
            middle = (taken + free) // 2
            if self.exists(requests.numbered(path, middle).text):
                taken = middle
            else:
                free = middle
        return free
