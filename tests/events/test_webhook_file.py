"""`webhooks.toml` is read whole, or refused with the line that is wrong."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from events.receiving import OTHER_SECRET, SECRET
from stillroom.assembly import FEATURES, assemble, features_off, open_features
from stillroom.errors import ConfigurationError
from stillroom.features.events.signing import parse_secret
from stillroom.features.events.types import IMAGE_SAVED, RUN_PUBLISHED
from stillroom.features.events.webhook_file import (
    Endpoint,
    WatchedWebhooks,
    WebhookFile,
    configuration_files,
    read_webhooks,
)
from stillroom.settings import AllSettings
from stillroom.store.capabilities import ChangeRelay
from stillroom.store.choose import open_storage
from stillroom.store.feature import Store

WHOLE = """\
[[endpoint]]
name = "backend"
url = "https://backend.example/hooks/images"
secret_file = "backend.secret"
types = ["image.saved", "run.published"]
prefix = "generations/"
signed_urls = "24h"

[[endpoint]]
name = "here"
url = "http://127.0.0.1:8080/"
secret_file = "backend.secret"
"""
SHORT = 'name = "a"\nurl = "https://a.example"\nsecret_file = "backend.secret"\n'


def write_secret(folder: Path, text: str = SECRET, mode: int = 0o600) -> Path:
    file = folder / "backend.secret"
    file.write_text(text)
    file.chmod(mode)
    return file


def read(folder: Path, text: str | bytes = WHOLE) -> WebhookFile:
    file = folder / "webhooks.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_webhooks(file, is_named=False)


def change(file: Path, text: str) -> None:
    """Replace a file, so that its inode and its time differ."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600)
    new.replace(file)


def test_a_file_says_what_each_endpoint_gets(tmp_path: Path) -> None:
    write_secret(tmp_path)

    content = read(tmp_path)

    secrets = (parse_secret(SECRET),)
    assert content.endpoints == {
        "backend": Endpoint(
            "backend",
            "https://backend.example/hooks/images",
            secrets,
            (IMAGE_SAVED, RUN_PUBLISHED),
            "generations/",
            24 * 3600,
            tmp_path / "backend.secret",
        ),
        "here": Endpoint(
            "here", "http://127.0.0.1:8080/", secrets, secret_file=tmp_path / "backend.secret"
        ),
    }
    assert content.secret_files == [tmp_path / "backend.secret"]
    assert content.warnings == []


def test_the_file_in_the_docs_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/webhooks.md").read_text()
    (shown,) = re.findall(r"^```toml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (command,) = re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)

    assert command.count(".venv/bin/python") == 1
    command = command.replace(".venv/bin/python", shlex.quote(sys.executable))
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)

    assert read(tmp_path, shown).endpoints["backend"].signed_urls == 24 * 3600
    assert (tmp_path / "backend.secret").stat().st_mode & 0o777 == 0o600


def test_without_a_file_there_are_no_webhooks(tmp_path: Path) -> None:
    assert read_webhooks(tmp_path / "webhooks.toml", is_named=False) == WebhookFile()
    with pytest.raises(ConfigurationError, match="it cannot be read: No such file"):
        read_webhooks(tmp_path / "webhooks.toml", is_named=True)


@pytest.mark.parametrize(
    ("table", "line", "message"),
    [
        ('name = "a"', 1, "has no url: add it"),
        (SHORT + 'name_ = "b"', 5, "unknown key 'name_'"),
        (SHORT.replace('"a"', '"a/b"'), 2, "must be a name such as 'backend'"),
        (SHORT.replace("https", "http"), 3, "must begin with https://"),
        (SHORT.replace("https", "ftp"), 3, "must be a URL such as"),
        (SHORT.replace("//a", "//user:secret@a"), 3, "must not contain a user or a password"),
        (SHORT.replace("a.example", "a.example:99999"), 3, "must be a URL such as"),
        (SHORT.replace("a.example", "a.example/#part"), 3, "must be a URL such as"),
        (SHORT.replace("backend.secret", SECRET), 4, "must be the name of a file, which contains"),
        (SHORT + "types = []", 5, "must be a list of event types"),
        (SHORT + 'types = ["image.read"]', 5, "unknown type 'image.read': types are image.saved"),
        (SHORT + 'prefix = "../"', 5, "no image's path begins with the prefix"),
        (SHORT + 'signed_urls = "8d"', 5, "seven days at most"),
        (SHORT + "insecure = 1", 5, "must be true or false"),
        (SHORT + f"[[endpoint]]\n{SHORT}", 6, "has the same name as another: 'a'"),
    ],
)
def test_an_error_names_the_line(tmp_path: Path, table: str, line: int, message: str) -> None:
    write_secret(tmp_path)

    with pytest.raises(ConfigurationError, match=re.escape(message)) as caught:
        read(tmp_path, f"[[endpoint]]\n{table}")

    assert f"webhooks.toml', line {line}: " in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("http://localhost:8000/", ""),
        ("http://127.9.9.9/", ""),
        ("http://[::1]:80/", ""),
        ("http://10.0.0.7/", "insecure = true"),
    ],
)
def test_plain_http_is_for_this_machine_or_if_it_is_allowed(
    tmp_path: Path, url: str, more: str
) -> None:
    write_secret(tmp_path)

    content = read(tmp_path, f"[[endpoint]]\n{SHORT.replace('https://a.example', url)}{more}")

    assert content.endpoints["a"].url == url


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        (None, "it cannot be read: No such file"),
        ("", "it must contain 1 to 10 secrets"),
        ("secret", "it does not begin with whsec_"),
        (f"{SECRET}\nwhsec_AAAA", "it has 3 bytes: 24 to 64 are required"),
        ("whsec_!!!!", "it is not Base64"),
        ("whsec_ä", "it is not Base64"),
    ],
)
def test_a_secret_that_cannot_sign_is_refused_without_printing_it(
    tmp_path: Path, secret: str | None, message: str
) -> None:
    if secret is not None:
        write_secret(tmp_path, secret)

    with pytest.raises(ConfigurationError, match=re.escape(message)) as caught:
        read(tmp_path)

    assert "backend.secret" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_secret_is_not_printed_with_its_endpoint(tmp_path: Path) -> None:
    write_secret(tmp_path)

    printed = repr(read(tmp_path).endpoints["here"])

    assert "secrets" not in printed
    assert repr(parse_secret(SECRET)) not in printed


def test_a_secret_that_others_can_read_is_a_warning(tmp_path: Path) -> None:
    file = write_secret(tmp_path, mode=0o644)

    assert read(tmp_path).warnings == [
        f"other users can read the webhook secret: run `chmod 600 '{file}'`"
    ]


def test_verify_knows_both_files_even_if_one_is_invalid(tmp_path: Path) -> None:
    write_secret(tmp_path)
    read(tmp_path)
    file = tmp_path / "webhooks.toml"

    assert configuration_files(file) == [file, tmp_path / "backend.secret"]
    file.write_text("[[endpoint]")
    assert configuration_files(file) == [file]


@pytest.mark.parametrize("folder", ["", "etc"])
@pytest.mark.parametrize("stops", [True, False])
def test_a_server_without_events_refuses_the_file_unless_they_were_not_chosen(
    tmp_path: Path, folder: str, *, stops: bool
) -> None:
    file = tmp_path / folder / "webhooks.toml"
    file.parent.mkdir(exist_ok=True)
    file.touch()
    reason = "sqlalchemy is not installed" if stops else features_off(["archive"])["events"]
    off = {line.name: reason for line in FEATURES}
    named = {"webhooks_file": file} if folder else {}
    settings = AllSettings.of_values(data_dir=tmp_path, **named)
    storage = open_storage(settings.storage, settings.save_rules)
    store = Store(settings, storage, ChangeRelay(), off=off)

    with pytest.raises(ConfigurationError) if stops else contextlib.nullcontext() as caught:
        open_features(store)

    if caught is not None:
        assert "webhooks.toml' cannot be used: the feature 'events' is off: sql" in str(
            caught.value
        )


@pytest.mark.parametrize(("every_s", "is_warned"), [(0, True), (30, False)])
async def test_a_server_without_background_jobs_warns_that_it_sends_nothing(
    tmp_path: Path, every_s: float, *, is_warned: bool
) -> None:
    write_secret(tmp_path)
    read(tmp_path)
    settings = AllSettings.of_values(data_dir=tmp_path, sweep_interval_seconds=every_s)
    parts = assemble(settings, features=["events"])

    warnings = [*parts.store.features["events"].warnings()]
    await parts.close()

    assert any("this server sends no webhooks" in warning for warning in warnings) == is_warned


def test_a_changed_file_or_secret_is_read_again(tmp_path: Path) -> None:
    secret = write_secret(tmp_path)
    read(tmp_path)
    file = tmp_path / "webhooks.toml"
    watched = WatchedWebhooks(file, is_named=False)
    digest = watched.content.digest
    assert not watched.reload()

    change(secret, f"{OTHER_SECRET}\n{SECRET}\n")
    assert watched.reload()
    assert len(watched.content.endpoints["backend"].secrets) == 2
    assert watched.content.digest == digest

    change(file, f"[[endpoint]]\n{SHORT}")
    assert watched.reload()
    assert list(watched.content.endpoints) == ["a"]
    assert watched.content.digest != digest

    os.unlink(file)
    assert watched.reload()
    assert watched.content.endpoints == {}


def test_an_invalid_change_keeps_the_endpoints_until_it_is_corrected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_secret(tmp_path)
    read(tmp_path)
    file = tmp_path / "webhooks.toml"
    watched = WatchedWebhooks(file, is_named=False)

    change(file, "[[endpoint]]\n")
    assert not watched.reload()
    assert not watched.reload()
    assert list(watched.content.endpoints) == ["backend", "here"]
    assert caplog.text.count("the webhooks stay as they were") == 1

    change(file, f"[[endpoint]]\n{SHORT}")
    assert watched.reload()
    assert list(watched.content.endpoints) == ["a"]
