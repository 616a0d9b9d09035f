"""Statements of docs/format.md, compared with files, objects and tables."""

import hashlib
import json
import os
import re
import struct
from pathlib import Path

import pytest
import sqlalchemy as sa

from acceptance.pasting import ROOT
from pictures import picture
from running import running
from services.s3 import Operator
from services.seaweedfs import BUCKET, SeaweedFS, bucket_variables
from stillroom.client import ImageStore
from stillroom.features.database.migrations import HEAD

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs/format.md").read_text()
IMAGE = picture()
SHA256 = hashlib.sha256(IMAGE).hexdigest()


def names_in(section: str) -> set[str]:
    """The names in code in the first column of a section's tables."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\|([^|]+)\|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_the_data_directory_has_what_the_page_names(tmp_path: Path) -> None:
    with running(tmp_path) as server, ImageStore(server.url, server.token()) as store:
        store.save("a/cat.png", IMAGE)
        store.read("a/cat.png", width=64)
        with store.run("b") as run:
            run.save("cat.png", IMAGE)
        assert store.media.ingest("a/cat.png", relocate=False).storage_key == "compute/a/cat.png"

    file = server.data / "compute/a/cat.png"
    assert file.read_bytes() == IMAGE
    assert file.stat().st_mode & 0o777 == 0o640
    layout = struct.Struct("<BQ32s")
    value = os.getxattr(file, "user.stillroom")
    assert layout.unpack_from(value) == (1, file.stat().st_mtime_ns, bytes.fromhex(SHA256))
    assert value[layout.size :] == b"image/png"
    named = {name.partition("/")[0] for name in names_in("The data directory")}
    assert set(os.listdir(server.data / ".stillroom")) <= named

    lines = (server.data / "compute/b/.run.json").read_text().splitlines()
    head, images = json.loads(f"{lines[0]}]}}"), json.loads("\n".join(lines))["images"]
    example = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
    assert list(head) == list(example)
    assert (head["version"], head["folder"], head["count"]) == (1, "b", 1)
    assert [list(image) for image in images] == [list(example["images"][0])]
    assert (images[0]["path"], images[0]["sha256"]) == ("b/cat.png", SHA256)


def test_the_database_has_the_tables_that_the_page_names(tmp_path: Path) -> None:
    with running(tmp_path) as server, ImageStore(server.url, server.token()) as store:
        store.save("a/cat.png", IMAGE)
        store.media.ingest("a/cat.png")
    file = f"sqlite:///{server.data}/.stillroom/library.db"
    engine = sa.create_engine(file, poolclass=sa.NullPool)  # no connection stays open
    tables = {
        name
        for name in sa.inspect(engine).get_table_names()
        if not name.startswith("search_words_")  # tables of FTS5
    }
    assert tables == names_in("Tables") | {"alembic_version"}
    assert f"their revision, `{HEAD}` in this version" in PAGE


def test_an_object_has_the_metadata_that_the_page_names(
    seaweed: SeaweedFS, operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bucket_variables(seaweed).items():
        monkeypatch.setenv(name, value)
    with running(tmp_path) as server, ImageStore(server.url, server.token()) as store:
        store.save("a/cat.png", IMAGE)
        store.save("a/notes.txt", b"notes")
    found = operator.send("HEAD", f"/{BUCKET}/compute/a/cat.png").headers
    other = operator.send("HEAD", f"/{BUCKET}/compute/a/notes.txt").headers
    seaweed.empty()

    assert found["x-amz-meta-sha256"] == SHA256
    assert found["content-type"] == "image/png"
    assert "content-disposition" not in found
    assert other["content-disposition"] == "attachment"
    assert other["x-amz-meta-content-type"] == "application/octet-stream"
    written = {
        name.removeprefix("x-amz-meta-")
        for name in (*found, *other)
        if name.startswith("x-amz-meta-")
    }
    assert written | {"mtime"} == names_in("The bucket") - {"x-amz-meta-"}
