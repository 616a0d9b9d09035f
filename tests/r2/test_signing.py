"""The examples that Amazon gives for signature version 4, digit by digit.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html and
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

from datetime import UTC, datetime, timedelta

import pytest

from stillroom.storage.s3.signing import EMPTY_SHA256, MAX_PRESIGNED_S, Signer

NOW = datetime(2013, 5, 24, tzinfo=UTC)
SIGNER = Signer(
    "examplebucket.s3.amazonaws.com",
    "AKIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    region="us-east-1",
)


@pytest.mark.parametrize(
    ("path", "query", "headers", "signature"),
    [
        (
            "/test.txt",
            {},
            {"range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "/",
            {"lifecycle": ""},
            {},
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "/",
            {"prefix": "J", "max-keys": "2"},
            {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_a_get_is_signed_as_in_the_example(
    path: str, query: dict[str, str], headers: dict[str, str], signature: str
) -> None:
    added = SIGNER.sign(
        "GET", path, query=query, headers=headers, payload_sha256=EMPTY_SHA256, now=NOW
    )

    assert added["authorization"].endswith(f"Signature={signature}")


def test_a_put_is_signed_as_in_the_example() -> None:
    added = SIGNER.sign(
        "PUT",
        "/test%24file.text",
        query={},
        headers={
            "date": "Fri, 24 May 2013 00:00:00 GMT",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
        },
        payload_sha256="44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        now=NOW,
    )

    assert added["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class,"
        "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )


def test_a_url_is_presigned_as_in_the_example() -> None:
    query = SIGNER.presign("/test.txt", valid_for_s=86400, now=NOW)

    assert query.endswith(
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


@pytest.mark.parametrize(
    "later",
    [timedelta(milliseconds=999), timedelta(seconds=1), timedelta(days=1), -timedelta(days=1)],
)
def test_what_was_signed_before_does_not_show_in_a_signature(later: timedelta) -> None:
    fresh, used = (Signer("bucket.example.com", "key id", "secret") for _ in range(2))
    used.presign("/a.png", valid_for_s=60, now=NOW)

    assert used.presign("/b.png", valid_for_s=1, now=NOW + later) == fresh.presign(
        "/b.png", valid_for_s=1, now=NOW + later
    )


@pytest.mark.parametrize("valid_for_s", [0, -1, MAX_PRESIGNED_S + 1])
def test_a_url_cannot_be_valid_for_longer_than_the_bucket_takes(valid_for_s: int) -> None:
    with pytest.raises(ValueError, match="valid for"):
        SIGNER.presign("/test.txt", valid_for_s=valid_for_s, now=NOW)


def test_the_secret_is_not_shown() -> None:
    assert "bPxRfi" not in repr(SIGNER)
