"""Which backend the environment chooses, and what it says when that is not clear."""

import json
import subprocess
import sys

import pytest

from stillroom.errors import ConfigurationError
from stillroom.features.database.settings import DatabaseSettings
from stillroom.settings import AllSettings
from stillroom.store.choose import DiskConfig, R2Config

WHOLE = {
    "R2_ENDPOINT_URL": "https://account.r2.cloudflarestorage.com/",
    "R2_ACCESS_KEY_ID": "id",
    "R2_SECRET_ACCESS_KEY": "secret",
    "R2_BUCKET_NAME": "images",
}


MORE = ("PUBLIC_URL", "CACHE_CONTROL", "CHECK_EXISTS", "REGION", "SESSION_TOKEN", "ADDRESSING")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*WHOLE, *(f"R2_{name}" for name in MORE)):
        monkeypatch.delenv(name, raising=False)


def given(monkeypatch: pytest.MonkeyPatch, **variables: str) -> AllSettings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return AllSettings.read()


def test_without_r2_variables_it_is_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(given(monkeypatch).storage, DiskConfig)


def test_empty_variables_count_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(given(monkeypatch, **dict.fromkeys(WHOLE, "")).storage, DiskConfig)


def test_with_all_of_them_it_is_the_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = given(monkeypatch, **WHOLE, R2_PUBLIC_URL="https://cdn.example.com/")

    assert settings.storage == R2Config(
        endpoint_url="https://account.r2.cloudflarestorage.com",
        access_key_id="id",
        secret_access_key="secret",
        bucket="images",
        public_url="https://cdn.example.com",
        cache_control="public, max-age=300",
        check_exists=True,
    )
    assert settings.images_url == "https://cdn.example.com/compute"


AMAZON = {
    "R2_ENDPOINT_URL": "https://s3.eu-central-1.amazonaws.com",
    "R2_REGION": "eu-central-1",
    "R2_SESSION_TOKEN": "do-not-show==\n",
    "R2_ADDRESSING": "virtual",
}


def test_any_s3_is_named_by_region_token_and_addressing(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = given(monkeypatch, **{**WHOLE, **AMAZON})

    config = settings.storage
    assert isinstance(config, R2Config)
    assert (config.region, config.session_token) == ("eu-central-1", "do-not-show==")
    assert config.address.origin == "https://images.s3.eu-central-1.amazonaws.com"
    assert settings.storage.image_origins == [config.address.origin], (
        "the page may show what is presigned"
    )
    assert "do-not-show" not in f"{settings!r} {config!r}"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"R2_ENDPOINT_URL": "http://127.0.0.1:8333"}, "needs a host name in R2_ENDPOINT_URL"),
        ({"R2_ENDPOINT_URL": "http://[::1]:8333"}, "needs a host name in R2_ENDPOINT_URL"),
        ({"R2_BUCKET_NAME": "My_Images"}, "needs a bucket name that is valid in a host"),
    ],
)
def test_a_bucket_that_no_host_can_name_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], said: str
) -> None:
    settings = given(monkeypatch, **{**WHOLE, **AMAZON, **changed})

    with pytest.raises(ConfigurationError, match=said):
        _ = settings.storage


def test_without_a_cdn_public_urls_are_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = given(monkeypatch, **WHOLE)

    assert settings.images_url == "http://127.0.0.1:8000/api/v1/storage/images"


@pytest.mark.parametrize("missing", WHOLE)
def test_a_half_set_configuration_names_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    settings = given(monkeypatch, **{**WHOLE, missing: ""})

    with pytest.raises(ConfigurationError, match=f"^{missing} must be set"):
        _ = settings.storage


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("R2_ENDPOINT_URL", "account.r2.cloudflarestorage.com"),
        ("R2_PUBLIC_URL", "cdn"),
        ("R2_CACHE_CONTROL", "public\r\nset-cookie: a=b"),
        ("R2_ENDPOINT_URL", "http://user:hunter2@127.0.0.1"),
        ("R2_ENDPOINT_URL", "http://127.0.0.1:99999"),
        ("R2_PUBLIC_URL", "https://例え.example"),
        ("R2_PUBLIC_URL", "https://cdn.example\n.com"),
        ("R2_ACCESS_KEY_ID", "k k"),
        ("R2_SECRET_ACCESS_KEY", "s\ns"),
        ("R2_CHECK_EXISTS", "perhaps"),
        ("R2_REGION", "eu central"),
        ("R2_REGION", "eu/central"),
        ("R2_SESSION_TOKEN", "t\nt"),
        ("R2_ADDRESSING", "host"),
    ],
)
def test_an_unusable_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} (must|has) "):
        given(monkeypatch, **{**WHOLE, name: value})


def test_an_endpoint_with_the_bucket_in_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = given(monkeypatch, **{**WHOLE, "R2_ENDPOINT_URL": "https://a.example.com/images"})

    with pytest.raises(ConfigurationError, match="R2_ENDPOINT_URL"):
        _ = settings.storage


def test_a_secret_or_rows_of_this_machine_alone_are_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def warnings(**variables: str) -> list[str]:
        settings = given(monkeypatch, **WHOLE, **variables)
        return [*settings.warnings(), *settings.section(DatabaseSettings).row_warnings]

    secret, rows = warnings()
    assert "STILLROOM_JWT_SECRET" in secret
    assert "STILLROOM_DATABASE_URL" in rows
    shared = {"STILLROOM_JWT_SECRET": "x" * 32, "STILLROOM_DATABASE_URL": "postgresql://db/rows"}
    assert warnings(**shared) == []


@pytest.mark.parametrize("url", ["mysql://db/rows", "rows.db", "postgresql:x", "sqlite:///x"])
def test_rows_are_kept_in_postgresql_or_not_configured(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    with pytest.raises(ConfigurationError, match="STILLROOM_DATABASE_URL") as refused:
        given(monkeypatch, STILLROOM_DATABASE_URL=url)
    assert url not in str(refused.value)


def test_the_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = given(monkeypatch, **{**WHOLE, "R2_SECRET_ACCESS_KEY": "do-not-show"})

    assert "do-not-show" not in f"{settings!r} {settings.storage!r}"


def test_a_disk_does_not_load_the_bucket() -> None:
    code = (
        "import sys, json, stillroom.server.serve; ours = ('aiohappyeyeballs', "
        "'stillroom.store.bucket', 'stillroom.store.s3');"
        "print(json.dumps([name for name in sys.modules if name.startswith(ours)]))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )

    assert json.loads(loaded.stdout) == []
