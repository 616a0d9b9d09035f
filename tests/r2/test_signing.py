"""The examples that Amazon gives for signature version 4, digit by digit, and its own SDK.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html and
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from stillroom.store.address import Addressing, BucketAddress
from stillroom.store.s3.signing import EMPTY_SHA256, MAX_PRESIGNED_S, Signer, encode_query

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
    added = SIGNER.sign("GET", path, query=query, headers=headers, sha256=EMPTY_SHA256, now=NOW)

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
        sha256="44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
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


STS_TOKEN = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPf"
    "IeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7"
    "WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm"
    "8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)

REGIONS = ["auto", "us-east-1", "eu-central-1", "cn-north-1", "us-gov-west-1"]
KEYS = ["compute/a.png", "compute/a b+c=d&e~f/кошка (1).png", "compute/100%25//x?y#z.png"]


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("token", [None, STS_TOKEN], ids=["lasting", "temporary"])
@pytest.mark.parametrize("addressing", ["path", "virtual"])
def test_every_region_and_address_is_signed_as_amazons_sdk_signs_it(
    region: str, token: str | None, addressing: Addressing
) -> None:
    address = BucketAddress.of(f"https://s3.{region}.amazonaws.com", "images", addressing)
    signer = Signer(address.host, "AKIDEXAMPLE", "secret/+", region=region, session_token=token)
    theirs = Credentials("AKIDEXAMPLE", "secret/+", token)
    now = datetime.now(UTC)
    for key in KEYS:
        path, body = address.path_of(key), key.encode()
        query = {"partNumber": "2", "uploadId": "a b/+=~"}
        url = f"{address.origin}{path}?{encode_query(query)}"
        ours = signer.sign(
            "PUT",
            path,
            query=query,
            headers={"if-match": '"e"', "x-amz-meta-save-id": "1"},
            sha256=sha256(body).hexdigest(),
            now=now,
        )
        named = {name: ours[name] for name in ours if name != "authorization"}
        request = AWSRequest(
            method="PUT",
            url=url,
            headers={"if-match": '"e"', "x-amz-meta-save-id": "1", **named},
            data=body,
        )
        request.context["timestamp"] = ours["x-amz-date"]
        auth = S3SigV4Auth(theirs, "s3", region)
        signature = auth.signature(
            auth.string_to_sign(request, auth.canonical_request(request)), request
        )
        assert ours["authorization"].endswith(f"Signature={signature}")
        assert ours.get("x-amz-security-token") == token

        presigned = signer.presign(path, valid_for_s=300, now=now)
        covered, _, given = presigned.partition("&X-Amz-Signature=")
        request = AWSRequest(
            method="GET", url=f"{address.origin}{path}?{covered}", headers={"host": address.host}
        )
        request.context["timestamp"] = ours["x-amz-date"]
        query_auth = S3SigV4QueryAuth(theirs, "s3", region)
        wanted = query_auth.signature(
            query_auth.string_to_sign(request, query_auth.canonical_request(request)), request
        )
        assert given == wanted
        assert ("X-Amz-Security-Token=" in covered) is (token is not None)


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
