"""The signed text of a grant: what was signed is opened, and nothing else."""

import dataclasses
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.errors import GrantInvalid, Unauthenticated
from stillroom.features.grants.grant import Upload, UploadGrant
from stillroom.paths import ImagePath
from stillroom.store.auth.signed_urls import UrlSigner

SECRET, OTHER = "s" * 32, "o" * 32
GRANT = UploadGrant(
    id="0" * 32,
    path="cats/tom & jérôme.png",
    size=7,
    content_type="image/png",
    sha256="ab" * 32,
    create_only=True,
    expires_after="7d",
    expires_at=1_700_003_600,
    subject="Jérôme & co",
)

grants = st.builds(
    UploadGrant,
    id=st.text("0123456789abcdef", min_size=32, max_size=32),
    path=st.sampled_from(["a", "a/b c.png", "кошка/猫.png", "x" * 255, "a=b&c+d%20?#"]),
    size=st.integers(1, 2**40),
    content_type=st.none() | st.sampled_from(["image/png", "video/mp4"]),
    sha256=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
    create_only=st.booleans(),
    expires_after=st.none() | st.sampled_from(["7d", "90s"]),
    expires_at=st.integers(1, 2**34),
    is_hash_enforced=st.booleans(),
    subject=st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=255),
)


def opened(text: str, *secrets: str, kind: type[Upload] = UploadGrant) -> Upload:
    name, _, query = text.encode(errors="surrogatepass").partition(b"?")
    return kind.open(UrlSigner(secrets or [SECRET]), name, query)


@given(grants)
def test_what_was_signed_is_opened(grant: UploadGrant) -> None:
    signer = UrlSigner([SECRET])

    assert opened(grant.signed(signer)) == grant
    upload = opened(grant.signed(signer, Upload), kind=Upload)
    assert type(upload) is Upload
    assert dataclasses.asdict(upload).items() <= dataclasses.asdict(grant).items()


@given(st.data())
def test_any_changed_character_is_refused(data: st.DataObject) -> None:
    text = GRANT.signed(UrlSigner([SECRET]))
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(
        st.characters(max_codepoint=0x17F).filter(lambda char: char != text[at]) | st.just("\udcff")
    )

    with pytest.raises(GrantInvalid):
        opened(text[:at] + other + text[at + 1 :])


@given(
    st.text() | st.from_regex(r"[0-9a-f]{32}\?size=1&expires=9&kid=[0-9a-f]{16}&signature=A{43}")
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(GrantInvalid):
        opened(text)


def test_a_previous_secret_opens_and_another_one_does_not() -> None:
    text = GRANT.signed(UrlSigner([SECRET]))

    assert opened(text, OTHER, SECRET) == GRANT
    with pytest.raises(GrantInvalid):
        opened(text, OTHER)


def test_a_grant_is_no_url_of_an_upload_and_the_other_way_round() -> None:
    signer = UrlSigner([SECRET])

    with pytest.raises(GrantInvalid):
        opened(GRANT.signed(signer), kind=Upload)
    with pytest.raises(GrantInvalid):
        opened(GRANT.signed(signer, Upload))


def test_the_url_of_an_upload_has_no_terms_of_the_image() -> None:
    target = GRANT.signed(UrlSigner([SECRET]), Upload)

    terms = parse_qs(target.partition("?")[2])

    assert terms.keys() == {"size", "content_type", "sha256", "expires", "kid", "signature"}


def test_terms_of_a_newer_version_are_ignored() -> None:
    signer = UrlSigner([SECRET])
    text = signer.sign_for("COMPLETE", "0" * 32, 9, "path=a&size=1&color=red")

    assert opened(text) == UploadGrant(id="0" * 32, path="a", size=1, expires_at=9)


def test_a_url_for_reading_uploads_nothing_and_the_other_way_round() -> None:
    signer = UrlSigner([SECRET], now=lambda: 1_700_000_000)
    grant = dataclasses.replace(GRANT, expires_at=1_700_000_060)
    read = signer.sign(ImagePath(GRANT.id), valid_for_s=60, parameters="size=7").target
    written = grant.signed(signer, Upload)

    with pytest.raises(GrantInvalid):
        opened(read, kind=Upload)
    with pytest.raises(Unauthenticated):
        signer.check(*written.encode().split(b"?"))
