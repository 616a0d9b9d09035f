"""Settings of purges: what stops a start, what a server says, and what `stillroom doctor` finds."""

import os
import subprocess
from pathlib import Path

import pytest

from command_line import ran
from purge.cloudflare import TOKEN
from purge.conftest import Edge
from running import STILLROOM, running
from services.seaweedfs import bucket_variables
from stillroom.errors import ConfigurationError
from stillroom.features.purge.settings import PurgeConfig, PurgeSettings
from stillroom.paths import StorageKey
from stillroom.settings import AllSettings

BUCKET = {
    "r2_endpoint_url": "https://account.r2.cloudflarestorage.com",
    "r2_access_key_id": "id",
    "r2_secret_access_key": "secret",
    "r2_bucket_name": "images",
}
BOTH = {"cloudflare_zone_id": "zone", "cloudflare_api_token": "token"}


def purges(**values: str) -> PurgeConfig | None:
    return AllSettings.of_values(**values).section(PurgeSettings).purges


def test_without_the_variables_nothing_is_purged() -> None:
    assert purges() is None
    assert purges(**BUCKET, r2_public_url="https://images.example.com") is None


@pytest.mark.parametrize("name", BOTH)
def test_one_variable_alone_is_an_error(name: str) -> None:
    with pytest.raises(ConfigurationError, match="only one of CLOUDFLARE_ZONE_ID and CLOUDFLARE_A"):
        purges(**{name: BOTH[name]})


def test_each_host_of_the_bucket_is_purged() -> None:
    found = purges(
        **BUCKET, **BOTH, r2_public_url="https://a.example.com/images/",
        r2_purge_hosts="b.example.com, c.example.com", r2_purge="all",
    )  # fmt: skip

    assert found is not None
    assert found.api_url == "https://api.cloudflare.com/client/v4/zones/zone/purge_cache"
    assert found.covers_compute
    assert found.urls(StorageKey("media/1/file.png")) == [
        f"https://{host}.example.com/images/media/1/file.png" for host in "abc"
    ]
    assert "token" not in repr(found).replace("token=", "")
    others = purges(**BOTH, r2_purge_hosts="b.example.com")
    assert others is not None
    assert others.bases == ["https://b.example.com"]


def test_the_token_is_not_sent_in_plain_text_to_another_machine() -> None:
    with pytest.raises(ConfigurationError, match="CLOUDFLARE_API_URL must begin with https://"):
        purges(cloudflare_api_url="http://api.example.com")
    local = purges(**BOTH, cloudflare_api_url="http://127.0.0.1:9/v4/", r2_purge_hosts="a.example")
    assert local is not None
    assert local.api_url == "http://127.0.0.1:9/v4/zones/zone/purge_cache"


def test_purges_that_never_happen_are_a_warning() -> None:
    def warnings(**values: str) -> list[str]:
        return AllSettings.of_values(**values).section(PurgeSettings).purge_warnings

    (line,) = warnings(**BOTH)
    assert line.startswith("nothing is purged: set R2_PUBLIC_URL")
    assert warnings(**BOTH, r2_purge_hosts="a.example", sweep_interval_seconds="0") == [line]
    assert warnings() == []
    assert warnings(**BOTH, r2_purge_hosts="a.example") == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CLOUDFLARE_ZONE_ID", "CLOUDFLARE_API_TOKEN"])
def test_a_server_and_the_doctor_refuse_half_of_a_configuration(name: str, tmp_path: Path) -> None:
    served = subprocess.run(
        [STILLROOM, "serve", "--port", "0", "--data-dir", str(tmp_path / "data")],
        env={**os.environ, name: "value"}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert served.returncode != 0
    assert "only one of CLOUDFLARE_ZONE_ID and CLOUDFLARE_API_TOKEN is set" in served.stderr

    found = ran(tmp_path, ("doctor",), {name: "value"})
    assert (found.code, "WRONG purges" in found.out) == (1, True), found
    assert "only one of CLOUDFLARE_ZONE_ID and CLOUDFLARE_API_TOKEN is set" in found.out


@pytest.mark.slow
def test_the_doctor_purges_a_test_url(edge: Edge, tmp_path: Path) -> None:
    variables = {**bucket_variables(edge.seaweed), **edge.api.variables}
    variables |= {"STILLROOM_JWT_SECRET": "s" * 32, "STILLROOM_DATA_DIR": str(tmp_path / "data")}

    well = ran(tmp_path, ("doctor",), variables)
    assert f"ok    purges      {edge.api.edge}: a test URL was purged" in well.out
    assert well.code == 0, well.out
    assert len(edge.api.purged) == 1

    wrong = ran(tmp_path, ("doctor",), {**variables, "CLOUDFLARE_API_TOKEN": "another"})
    assert wrong.code == 1
    assert "WRONG purges      the response has the status 403" in wrong.out
    assert "the permission Cache Purge" in wrong.out
    foreign = ran(tmp_path, ("doctor",), {**variables, "R2_PURGE_HOSTS": "other.example"})
    assert "WRONG purges      the response has the status 400" in foreign.out
    assert TOKEN not in wrong.out + foreign.out


@pytest.mark.slow
def test_a_server_says_that_it_purges_nothing(tmp_path: Path) -> None:
    under = "env CLOUDFLARE_ZONE_ID=zone CLOUDFLARE_API_TOKEN=secret-token"
    with running(tmp_path, under=under) as server:
        assert "nothing is purged: set R2_PUBLIC_URL" in server.logged()
        assert "secret-token" not in server.logged()
