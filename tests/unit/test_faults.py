"""What is wrong with a JSON body is said in our own words."""

from typing import Any

import pytest
from pydantic import BaseModel

from stillroom.api.copies import ImageToCopy
from stillroom.api.deletions import PathsToDelete
from stillroom.api.media import ImagesToIngest, ImageToIngest, ResourceChange
from stillroom.api.operation import in_form
from stillroom.api.signed_urls import UrlsToSign, UrlToSign
from stillroom.errors import InvalidParameter


@pytest.mark.parametrize(
    ("form", "given", "at", "sentence"),
    [
        (ImageToCopy, {"source": "a"}, "target", "missing"),
        (ImageToCopy, {"source": "a", "target": 1}, "target", "not a text"),
        (ImageToCopy, {"source": "a", "target": "b", "x": 1}, "x", "no such field"),
        (PathsToDelete, {"paths": "a"}, "paths", "not a list"),
        (PathsToDelete, {"paths": []}, "paths", "at least 1"),
        (PathsToDelete, {"paths": ["a"] * 1001}, "paths", "at most 1000"),
        (PathsToDelete, {"paths": [None]}, "0", "not a text"),
        (UrlToSign, {"path": "a", "expires_in": "1"}, "expires_in", "not a whole number"),
        (UrlToSign, {"path": "a", "expires_in": True}, "expires_in", "not a whole number"),
        (UrlToSign, {"path": "a", "expires_in": 1.5}, "expires_in", "not a whole number"),
        (UrlToSign, {"path": "a", "expires_in": 0}, "expires_in", "1 or more"),
        (UrlToSign, {"path": "a", "expires_in": 10**9}, "expires_in", "604800 or less"),
        (UrlToSign, {"path": "a", "transform": 1}, "transform", "not a JSON object"),
        (UrlToSign, {"path": "a", "transform": {"fit": "x"}}, "fit", "one of 'contain' or 'cover'"),
        (UrlsToSign, {"paths": ["a"], "transform": {"quality": 101}}, "quality", "100 or less"),
        (ImageToIngest, {"storage_key": "a", "relocate": "yes"}, "relocate", "neither true nor"),
        (ImagesToIngest, {"items": [1]}, "0", "not a JSON object"),
        (ResourceChange, {"caption": "x" * 10_001}, "caption", "10000 characters at most"),
        (ResourceChange, {"caption": "\0"}, "caption", "must not hold U\\+0000"),
    ],
)
def test_a_fault_is_said_in_our_own_words(
    form: type[BaseModel], given: dict[str, Any], at: str, sentence: str
) -> None:
    with pytest.raises(InvalidParameter, match=f"^{sentence}") as raised:
        in_form(form, given)
    assert raised.value.at[-1] == at
