"""Signatures of webhooks, as the public library for receivers verifies them."""

import base64
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from events.receiving import OTHER_SECRET, SECRET
from stillroom.features.events.delivery import encoded
from stillroom.features.events.signing import parse_secret, signed_headers

BODY = encoded({"id": "evt_1", "data": {"path": "généré/1.png"}, "actor": None, "found": False})


def sign(*secrets: str, at: float = 0) -> dict[str, str]:
    keys = [parse_secret(secret) for secret in secrets]
    return dict(signed_headers(keys, "evt_1", BODY, at=int(at or time.time())))


def test_the_public_library_accepts_a_signature() -> None:
    assert Webhook(SECRET).verify(BODY, sign(SECRET))["data"] == {"path": "généré/1.png"}


def test_while_a_secret_is_rotated_receivers_may_have_either() -> None:
    headers = sign(SECRET, OTHER_SECRET)

    for secret in (SECRET, OTHER_SECRET):
        assert Webhook(secret).verify(BODY, headers)["id"] == "evt_1"
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(OTHER_SECRET).verify(BODY, sign(SECRET))


def test_a_changed_body_id_or_time_is_refused() -> None:
    headers = sign(SECRET)
    later = str(int(headers["webhook-timestamp"]) + 1)

    for body, changed in (
        (BODY.replace(b"1.png", b"2.png"), {}),
        (BODY, {"webhook-id": "evt_2"}),
        (BODY, {"webhook-timestamp": later}),
    ):
        with pytest.raises(WebhookVerificationError, match="No matching signature"):
            Webhook(SECRET).verify(body, headers | changed)


def test_an_attempt_that_is_replayed_later_is_refused() -> None:
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(SECRET).verify(BODY, sign(SECRET, at=time.time() - 3600))


def test_a_signature_is_the_one_that_the_specification_defines() -> None:
    """The example of https://github.com/standard-webhooks/standard-webhooks, in its tests."""
    secret = parse_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers(
        [secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', at=1614265330
    )

    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("length", [24, 25, 26, 64])
def test_a_secret_may_lack_its_padding(length: int) -> None:
    key = bytes(range(length))
    encoded_key = base64.b64encode(key).decode()

    assert parse_secret(f"whsec_{encoded_key}") == key
    assert parse_secret(f"whsec_{encoded_key.rstrip('=')}") == key


@pytest.mark.parametrize("length", [0, 1, 23, 65])
def test_a_secret_has_the_length_that_the_specification_demands(length: int) -> None:
    with pytest.raises(ValueError, match=rf"has {length} bytes: 24 to 64 are required"):
        parse_secret(f"whsec_{base64.b64encode(bytes(length)).decode()}")
