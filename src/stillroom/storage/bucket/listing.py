"""Listings, page by page as the bucket gives them, in the bucket's own order."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from stillroom.errors import BackendUnavailable, InvalidPath
from stillroom.paths import ImagePath, KeyPrefix, image_entry
from stillroom.storage.s3 import xml
from stillroom.storage.s3.client import DEADLINE_S, BucketClient, Call
from stillroom.storage.values import ListQuery, Page

_MAX_KEYS: Final = 1000
"""On one page of the bucket's, which may hold fewer although more follow.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html"""

_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Listed:
    """A page, and how many keys it leaves out since no image can have them."""

    page: Page
    skipped: int


async def list_page(client: BucketClient, query: ListQuery) -> Listed:
    """One page for the caller, from as many of the bucket's as it takes.

    Raises:
        BackendUnavailable: as its name says.
    """
    entries: list[str] = []
    skipped = 0
    token: str | None = None
    passed = (
        1 if query.delimited and query.after.endswith("/") else 0
    )  # the bucket shows it once more
    wanted = min(query.limit + passed, _MAX_KEYS)
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while True:
        page = await _fetch(client, query, wanted, token, deadline)
        found = len(entries)
        for entry in page.entries:
            if entry is None or not is_image_entry(entry):
                skipped += 1
            elif not (query.delimited and entry == query.after):
                entries.append(entry)
        if page.next_token is not None and page.next_token == token:
            raise BackendUnavailable("the bucket's listing does not move on")
        token = page.next_token
        # Where keys are left out, small pages would cost a request each.
        wanted = _MAX_KEYS if len(entries) == found else min(query.limit - len(entries), _MAX_KEYS)
        if len(entries) > query.limit:  # SeaweedFS has sent 1,200 keys where 1,000 were asked for
            return Listed(Page(entries[: query.limit], more=True), skipped)
        if token is None or len(entries) == query.limit:
            return Listed(Page(entries, more=token is not None), skipped)


async def walk(client: BucketClient, prefix: KeyPrefix, after: str) -> AsyncIterator[str | None]:
    """All keys behind `after`, in the bucket's order; what is no image, too.

    Raises:
        BackendUnavailable: as its name says.
    """
    query = ListQuery(prefix, after=after)
    token: str | None = None
    while True:
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        page = await _fetch(client, query, _MAX_KEYS, token, deadline)
        for entry in page.entries:
            yield entry
        if page.next_token is None:
            return
        if page.next_token == token:
            raise BackendUnavailable("the bucket's listing does not move on")
        token = page.next_token


async def _fetch(
    client: BucketClient, query: ListQuery, wanted: int, token: str | None, deadline: float
) -> xml.ListedPage:
    parameters = {
        "list-type": "2",
        "encoding-type": "url",  # XML has no way to write some characters
        "max-keys": str(wanted),
        "prefix": query.prefix.text,
        **({"delimiter": "/"} if query.delimited else {}),
        **({"continuation-token": token} if token else _start_after(query)),
    }
    call = Call("ListObjectsV2", "GET", query=parameters, timeout_s=_TIMEOUT_S)
    answer = await client.send(call, deadline=deadline)
    by_tree = answer.headers.get("server", "").startswith("SeaweedFS")
    try:
        return xml.listed_page(answer.body, order=_tree_order if by_tree else _key_order)
    except xml.BrokenXml as error:
        raise BackendUnavailable("the bucket sent a listing that cannot be read") from error


def _key_order(entry: str | None) -> str:
    """S3's: whole keys by their bytes, folders with their slash."""
    return entry or ""


def _tree_order(entry: str | None) -> str:
    """SeaweedFS's: names in a folder, so `a/` before `a-b`.

    A page must end with what is last in the bucket's order, or the next one repeats it.
    """
    return (entry or "").removesuffix("/")


def _start_after(query: ListQuery) -> Mapping[str, str]:
    prefix, after = query.prefix.text, query.after
    if prefix.startswith(after) and (prefix != after or after.endswith("/")):
        return {}  # all keys with this prefix are behind it
    return {"start-after": after}


def is_image_entry(entry: str) -> bool:
    """Whether a listed key, or a folder, can be an image's, or hold one."""
    try:
        ImagePath.parse(image_entry(entry).removesuffix("/"))
    except InvalidPath:
        return False
    return True
