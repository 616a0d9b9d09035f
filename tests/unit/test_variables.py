"""Variables that nothing reads: a misspelled one must not pass for a setting that is not set."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stillroom.app import check_settings
from stillroom.errors import ConfigurationError
from stillroom.features.pictures.settings import PicturesSettings
from stillroom.settings import AllSettings
from stillroom.speed.settings import SpeedSettings
from stillroom.store.settings import Settings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_DATA_DIR", str(tmp_path / "data"))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("STILLROOM_JWT_AUDIENC", "STILLROOM_JWT_AUDIENCE"),
        ("stillroom_jwt_isuer", "STILLROOM_JWT_ISSUER"),
        ("STILLROOM_JWT_AUD", "STILLROOM_JWT_AUDIENCE"),
        ("STILLROOM_JWTSECRET", "STILLROOM_JWT_SECRET"),
        ("STILROOM_JWT_AUDIENCE", "STILLROOM_JWT_AUDIENCE"),
        ("STILLROOM_REQUIRE_IMAGES", "STILLROOM_REQUIRE_IMAGE"),
        ("STILLROOM_DATADIR", "STILLROOM_DATA_DIR"),
        ("STILLROOM_PROT", "STILLROOM_PORT"),
        ("R2_ENDPOINT", "R2_ENDPOINT_URL"),
        ("R2_PUBLC_URL", "R2_PUBLIC_URL"),
        ("R2_ACCESS_KEY", "R2_ACCESS_KEY_ID"),
    ],
)
def test_a_misspelled_setting_stops_the_start_and_the_right_one_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.delenv(meant, raising=False)
    monkeypatch.setenv(name, "x")

    with pytest.raises(ConfigurationError, match=f"^{name.upper()} is set.* {meant}\\?$"):
        AllSettings.read()


def test_whatever_begins_as_the_settings_of_tokens_do_stops_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STILLROOM_JWT_SECRET", "s" * 32)
    for name in ("STILLROOM_JWT_LEEWAY", "STILLROOM_JWT_SECRETS"):
        with monkeypatch.context() as one:
            one.setenv(name, "10")
            with pytest.raises(ConfigurationError, match=name):
                AllSettings.read()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("STILLROOM_SECRET", "STILLROOM_JWT_SECRET is the nearest setting"),
        ("STILLROOM_DATADIR", "STILLROOM_DATA_DIR is the nearest setting"),  # that is set
        ("STILLROOM_SERVICE_HOST", "unset it"),  # Kubernetes sets it for a service of this name
    ],
)
def test_a_doubtful_name_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setenv(name, "x")

    _, warnings = check_settings(AllSettings.read())

    assert f"{name} is set, but it is not a setting: {said}" in warnings


def test_names_that_are_known_or_of_others_are_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("STILLROOM_URL", "STILLROOM_TOKEN", "R2_ACCOUNT_ID", "R2_REGION", "HOME_PORT"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("STILLROOM_JWT_AUDIENC", "")  # empty is not set, as everywhere

    assert AllSettings.read().warnings() == []


@pytest.mark.parametrize(
    ("set_as", "fast_path"),
    [
        ({"STILLROOM_SHORT_ROAD": "false"}, False),
        ({"STILLROOM_SHORT_ROAD": "false", "STILLROOM_FAST_PATH": "true"}, True),
        ({}, True),
    ],
)
def test_a_variable_is_still_read_by_its_former_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_as: dict[str, str], *, fast_path: bool
) -> None:
    file = tmp_path / "settings"
    file.write_text("".join(f"{name}={value}\n" for name, value in set_as.items()) + "R2_X=1\n")
    for name, value in set_as.items():
        monkeypatch.setenv(name, value)

    assert AllSettings.read().section(SpeedSettings).fast_path is fast_path
    assert AllSettings.read_file(file).section(SpeedSettings).fast_path is fast_path


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("STILLROOM_PORT", "abc", "must be an integer"),
        ("STILLROOM_PORT", "99999", "must be at most 65535"),
        ("STILLROOM_WORKERS", "0", "must be at least 1"),
        ("STILLROOM_HEAD_TIMEOUT_SECONDS", "0", "must be more than 0"),
        ("STILLROOM_HEAD_TIMEOUT_SECONDS", "soon", "must be a number"),
        ("STILLROOM_GALLERY", "maybe", "must be true or false"),
        ("STILLROOM_DURABILITY", "half", "must be 'full' or 'none'"),
        ("STILLROOM_CORS_ORIGINS", "here", "must be * or origins such as https://app.example.com"),
        ("R2_REGION", "a b", "has invalid characters or an invalid length"),
    ],
)
def test_a_value_that_a_setting_does_not_take_is_explained(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError) as refused:
        AllSettings.read()
    assert str(refused.value) == f"{name} {said}"


def test_a_settings_file_may_prefix_the_variables_of_the_bucket(tmp_path: Path) -> None:
    file = tmp_path / "settings"
    file.write_text("STILLROOM_R2_BUCKET_NAME=images\n")

    assert AllSettings.read_file(file).r2_bucket_name == "images"


def test_the_constructor_takes_names_of_fields_and_of_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLROOM_DATA_DIR", "elsewhere")

    assert AllSettings(data_dir=tmp_path).data_dir == tmp_path
    by_variable: dict[str, Any] = {"STILLROOM_DATA_DIR": tmp_path}
    assert AllSettings(**by_variable).data_dir == tmp_path


def test_a_former_name_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_SHORT_ROAD", "false")

    (warning,) = AllSettings.read().warnings()

    assert warning.startswith("STILLROOM_SHORT_ROAD was renamed to STILLROOM_FAST_PATH")


def test_a_misspelled_credential_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stillroom_jwt_secrt").write_text("s" * 32)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    with pytest.raises(ConfigurationError, match="STILLROOM_JWT_SECRT"):
        AllSettings.read()


def test_a_misspelled_line_of_a_settings_file_is_found_and_the_environment_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLROOM_JWT_AUDIENC", "ours")
    file = tmp_path / "settings"
    file.write_text("STILLROOM_DATA_DIR=there\nR2_BUCKET=images\n")
    assert AllSettings.read_file(file).data_dir == Path("there")
    assert AllSettings.of_values(data_dir=tmp_path).warnings() == []

    file.write_text("STILLROOM_DATA_DIR=there\nR2_ENDPOINT_UR=https://r2\n")
    with pytest.raises(ConfigurationError, match="did you mean R2_ENDPOINT_URL"):
        AllSettings.read_file(file)


def test_a_feature_finds_its_settings_only_where_they_were_read(tmp_path: Path) -> None:
    settings = AllSettings.of_values(data_dir=tmp_path, derived_processes=3)

    assert settings.section(PicturesSettings).derived.processes == 3
    assert PicturesSettings.of_values(data_dir=tmp_path).derived_processes == 2
    with pytest.raises(TypeError, match="Settings has no PicturesSettings"):
        Settings.of_values(data_dir=tmp_path).section(PicturesSettings)


def test_all_invalid_settings_of_the_core_and_of_features_are_in_one_message() -> None:
    with pytest.raises(ConfigurationError) as refused:
        AllSettings.of_values(port="x", derived_processes=0, compute_ttl="1")

    assert sorted(str(refused.value).split("; ")) == [
        "STILLROOM_COMPUTE_TTL must be `off`, or a duration such as 90s, 15m, 12h or 30d",
        "STILLROOM_DERIVED_PROCESSES must be at least 1",
        "STILLROOM_PORT must be an integer",
    ]


def test_the_core_reads_its_settings_without_a_feature() -> None:
    code = """
import sys
sys.modules["stillroom.features"] = sys.modules["stillroom.speed"] = None
from stillroom.store.settings import Settings
print(Settings.of_values(data_dir="images").storage.data_dir)
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout == "images\n"


def test_settings_reach_a_spawned_worker_as_they_are(tmp_path: Path) -> None:
    settings = AllSettings.of_values(data_dir=tmp_path, gallery=False).model_copy(
        update={"port": 9}
    )

    assert pickle.loads(pickle.dumps(settings)) == settings
