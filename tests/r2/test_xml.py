"""Documents from a bucket, and what only looks like one."""

import pytest

from stillroom.store.objectstore import ListedUpload, UploadsPage
from stillroom.store.s3 import xml


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<a>",
        b"<!DOCTYPE a [<!ENTITY b 'x'>]><a>&b;</a>",
        b"<!DOCTYPE a><a/>",
        b"<a>" * 50 + b"</a>" * 50,
        b"\xff\xfe",
        b"<html><body>Bad gateway<br></html>",
    ],
)
def test_what_no_bucket_sends_is_refused(document: bytes) -> None:
    with pytest.raises(xml.BrokenXml):
        xml.parse(document)


@pytest.mark.parametrize("document", [b"", b"<html/>", b"nonsense", b"<Error/>"])
def test_an_error_without_a_code_has_an_empty_one(document: bytes) -> None:
    assert xml.error_field(document) == ""


def test_namespaces_make_no_difference() -> None:
    document = (
        b'<s:Error xmlns:s="http://s3.amazonaws.com/doc/2006-03-01/"><s:Code>X</s:Code></s:Error>'
    )

    assert xml.error_field(document) == "X"


def test_keys_are_decoded_only_where_the_bucket_says_that_they_are_encoded() -> None:
    listed = b"<Contents><Key>a+b%20c</Key></Contents><IsTruncated>false</IsTruncated>"
    plain = b"<ListBucketResult>" + listed + b"</ListBucketResult>"
    encoded = plain.replace(b"<Contents>", b"<EncodingType>url</EncodingType><Contents>")

    assert xml.parse_listing(plain, order=str).entries == ["a+b%20c"]
    assert xml.parse_listing(encoded, order=str).entries == ["a b c"]


def test_a_key_that_is_no_text_is_none() -> None:
    document = (
        b"<ListBucketResult><EncodingType>url</EncodingType>"
        b"<Contents><Key>%FF</Key></Contents></ListBucketResult>"
    )

    assert xml.parse_listing(document, order=str).entries == [None]


def test_a_cut_page_must_say_where_it_goes_on() -> None:
    with pytest.raises(xml.BrokenXml):
        xml.parse_listing(
            b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", order=str
        )


def test_a_page_of_uploads_says_where_it_goes_on() -> None:
    upload = b"<Upload><Key>a+b</Key><UploadId>1</UploadId><Initiated>2026</Initiated></Upload>"
    cut = upload + b"<IsTruncated>true</IsTruncated>"

    def page(inner: bytes) -> UploadsPage:
        return xml.parse_uploads(
            b"<ListMultipartUploadsResult>" + inner + b"</ListMultipartUploadsResult>"
        )

    assert page(upload).uploads == [ListedUpload("a+b", "1", "2026")]
    assert page(upload).next_markers is None
    assert page(cut).next_markers == ("a+b", "1"), "SeaweedFS leaves NextKeyMarker out"
    assert page(cut + b"<NextKeyMarker>k</NextKeyMarker>").next_markers == ("k", "1")
    with pytest.raises(xml.BrokenXml):
        page(b"<IsTruncated>true</IsTruncated>")
    with pytest.raises(xml.BrokenXml):
        xml.parse_uploads(b"<ListBucketResult/>")
