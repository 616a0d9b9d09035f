"""What is wrong with a JSON body is said in messages of our own."""

from typing import Any

import pytest

from stillroom.errors import InvalidParameter
from stillroom.features.library.forms import ImagesToIngest, ImageToIngest, ResourceChange
from stillroom.store.api.copies import ImageToCopy
from stillroom.store.api.deletions import PathsToDelete
from stillroom.store.api.forms import JsonForm, validate
from stillroom.store.api.signed_urls import UrlsToSign, UrlToSign


@pytest.mark.parametrize(
    ("form", "given", "at", "sentence"),
    [
        (ImageToCopy, {"source": "a"}, "target", "this field is required"),
        (ImageToCopy, {"source": "a", "target": 1}, "target", "must be a string"),
        (ImageToCopy, {"source": "a", "target": "b", "x": 1}, "x", "unknown field"),
        (PathsToDelete, {"paths": "a"}, "paths", "must be an array"),
        (PathsToDelete, {"paths": []}, "paths", "too few items: at least 1 is required"),
        (
            PathsToDelete,
            {"paths": ["a"] * 1001},
            "paths",
            "too many items: at most 1000 are allowed",
        ),
        (PathsToDelete, {"paths": [None]}, "0", "must be a string"),
        (UrlToSign, {"path": "a", "expires_in": "1"}, "expires_in", "must be a whole number"),
        (UrlToSign, {"path": "a", "expires_in": True}, "expires_in", "must be a whole number"),
        (UrlToSign, {"path": "a", "expires_in": 1.5}, "expires_in", "must be a whole number"),
        (UrlToSign, {"path": "a", "expires_in": 0}, "expires_in", "must be 1 or more"),
        (UrlToSign, {"path": "a", "expires_in": 10**9}, "expires_in", "must be 604800 or less"),
        (UrlToSign, {"path": "a", "transform": 1}, "transform", "must be a JSON object"),
        (
            UrlToSign,
            {"path": "a", "transform": {"fit": "x"}},
            "fit",
            "must be 'contain' or 'cover'",
        ),
        (
            UrlsToSign,
            {"paths": ["a"], "transform": {"quality": 101}},
            "quality",
            "must be 100 or less",
        ),
        (
            ImageToIngest,
            {"storage_key": "a", "relocate": "yes"},
            "relocate",
            "must be true or false",
        ),
        (ImagesToIngest, {"items": [1]}, "0", "must be a JSON object"),
        (
            ResourceChange,
            {"caption": "x" * 10_001},
            "caption",
            "must have at most 10000 characters",
        ),
        (ResourceChange, {"caption": "\0"}, "caption", "must not contain U\\+0000"),
    ],
)
def test_a_wrong_field_is_named_with_what_it_must_be(
    form: type[JsonForm], given: dict[str, Any], at: str, sentence: str
) -> None:
    with pytest.raises(InvalidParameter, match=f"^{sentence}") as raised:
        validate(form, given)
    assert raised.value.at[-1] == at
