"""Signed URLs of ZIP files: what they lead to, what they do not, and how many can be open."""

import contextlib
import io
import re
import shutil
import socket
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest

from generation import carriers
from running import IMAGES, Server, exchange, parsed, running
from services.seaweedfs import bucket_variables
from waiting import until

SIGN = "/api/v1/storage/signed-urls"
ARCHIVE = "/api/v1/storage/archive"
RUNS = "/api/v1/storage/runs"
MOST = 6  # images in a link, as the server is set here
TOLD = carriers.png({"parameters": "a red fox\nSteps: 20, Sampler: Euler, Seed: 7, Size: 64x64"})

Sign = Callable[..., str]


@pytest.fixture(scope="module", params=["disk", "bucket"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """On a disk, and in a SeaweedFS."""
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            if request.param == "bucket":
                seaweed = request.getfixturevalue("seaweed")
                stack.callback(seaweed.empty)
                for name, value in bucket_variables(seaweed).items():
                    patch.setenv(name, value)
            folder = tmp_path_factory.mktemp("links")
            started = running(folder, max_archive_link_images=str(MOST))
            yielded = stack.enter_context(started)
        yield yielded


@pytest.fixture
def images(client: httpx.Client, folder: str) -> dict[str, bytes]:
    found = {f"{folder}/{name}": TOLD + name.encode() for name in ("a.png", "b +&é.png", "in/c")}
    for path, data in found.items():
        save(client, path, data)
    return found


def save(client: httpx.Client, path: str, data: bytes = TOLD) -> None:
    client.post(f"{IMAGES}/{quote(path)}", files={"file": data}).raise_for_status()


def publish(client: httpx.Client, folder: str) -> None:
    client.post(f"{RUNS}/{folder}/publish").raise_for_status()


def sign(client: httpx.Client, **body: Any) -> str:
    answer = client.post(SIGN, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"url", "expires_at"}
    return str(answer.json()["url"])


def opened(url: str) -> dict[str, bytes]:
    answer = httpx.get(url)
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as found:
        return {one.filename: found.read(one) for one in found.infolist()}


def ask(server: Server, target: str) -> int:
    request = f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    return parsed(exchange(server.port, request.encode())).status


def test_a_link_gets_without_a_token_what_it_names(
    server: Server, client: httpx.Client, folder: str, images: dict[str, bytes]
) -> None:
    save(client, f"{folder}x/other")
    publish(client, folder)
    some = dict(list(images.items())[:2])

    for body, expected, name in (
        ({"archive": {"prefix": f"{folder}/"}}, images, folder),
        ({"archive": {"prefix": f"{folder}/in/"}, "expires_in": 60}, {f"{folder}/in/c"}, "in"),
        ({"archive": {"paths": list(some)}}, some, "images"),
        ({"archive": {"paths": [*some, *some]}}, some, "images"),
        ({"run": folder}, images, folder),
    ):
        answer = client.post(SIGN, json=body)
        url = answer.json()["url"]
        assert url.startswith(f"{server.url}{ARCHIVE}?")
        assert answer.headers["cache-control"] == "no-store"
        expires = re.findall(r"expires=([0-9]+)", url)
        signed_until = datetime.fromisoformat(answer.json()["expires_at"]).timestamp()
        assert [str(int(signed_until))] == expires
        assert opened(url).keys() == set(expected)

        got = httpx.get(url)
        assert got.headers["content-disposition"] == f'attachment; filename="{name}.zip"'
        assert got.headers["content-type"] == "application/zip"
        assert got.headers["cache-control"] == "private, no-store"
        assert got.headers["referrer-policy"] == "no-referrer"
    assert opened(sign(client, archive={"prefix": f"{folder}/"})) == images


def test_a_link_may_ask_for_captions(
    client: httpx.Client, folder: str, images: dict[str, bytes]
) -> None:
    for asked in ({"prefix": f"{folder}/"}, {"paths": list(images)}):
        found = opened(sign(client, archive={**asked, "sidecars": "captions"}))

        assert found.keys() > images.keys()
        assert found[f"{folder}/a.txt"] == b"a red fox"


def test_a_link_gets_what_is_there_when_it_is_opened(
    client: httpx.Client, folder: str, images: dict[str, bytes]
) -> None:
    prefix = sign(client, archive={"prefix": f"{folder}/"})
    paths = sign(client, archive={"paths": [*images, f"{folder}/later"]})
    publish(client, folder)
    run = sign(client, run=folder)
    save(client, f"{folder}/later")
    client.delete(f"{IMAGES}/{folder}/a.png").raise_for_status()
    left = {*images, f"{folder}/later"} - {f"{folder}/a.png"}

    assert opened(prefix).keys() == opened(paths).keys() == left
    assert opened(run).keys() == left - {f"{folder}/later"}
    for path in left:
        client.delete(f"{IMAGES}/{quote(path)}").raise_for_status()
    for url in (prefix, paths, run, sign(client, archive={"prefix": f"{folder}/"})):
        answer = httpx.get(url)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_a_run_must_be_published(server: Server, client: httpx.Client, folder: str) -> None:
    def signed() -> tuple[int, str]:
        answer = client.post(SIGN, json={"run": folder})
        return answer.status_code, answer.json().get("code", "")

    assert signed() == (404, "run_not_found")
    save(client, f"{folder}/a")
    assert signed() == (409, "run_conflict")
    publish(client, folder)
    assert signed() == (200, "")
    url = sign(client, run=folder)
    client.delete(f"{RUNS}/{folder}").raise_for_status()
    answer = httpx.get(url)
    assert (answer.status_code, answer.json()["detail"]) == (409, "the run is not published")
    assert "Traceback" not in server.logged()


@pytest.mark.parametrize("server", ["disk"], indirect=True)
def test_a_run_whose_folder_was_renamed_does_not_lead_elsewhere(
    server: Server, client: httpx.Client, folder: str
) -> None:
    save(client, f"{folder}/a")
    publish(client, folder)
    compute = server.data / "compute"
    shutil.move(compute / folder, compute / f"{folder}-new")
    save(client, f"{folder}/a", b"another image")

    answer = client.post(SIGN, json={"run": f"{folder}-new"})

    assert (answer.status_code, answer.json()["code"]) == (409, "run_conflict")


@pytest.mark.parametrize(
    ("prefix", "body", "expected"),
    [
        ("in", {"archive": {"prefix": ""}}, {"in/c"}),
        ("in", {"archive": {"prefix": "i"}}, {"in/c"}),
        ("in", {"archive": {"prefix": "in/c"}}, {"in/c"}),
        ("in", {"archive": {"prefix": "a"}}, 403),
        ("in", {"archive": {"paths": ["in/c", "a.png"]}}, 403),
        ("in", {"archive": {"paths": ["in/c"]}}, {"in/c"}),
        ("in", {"run": "in"}, {"in/c"}),
        ("in", {"run": "other"}, 403),
        ("i", {"run": "in"}, 403),
        ("in/deeper", {"run": "in"}, 403),
    ],
)
@pytest.mark.usefixtures("images")
def test_a_link_reaches_no_further_than_the_token_that_signed_it(
    server: Server,
    client: httpx.Client,
    folder: str,
    prefix: str,
    body: dict[str, Any],
    expected: set[str] | int,
) -> None:
    def placed(asked: Any) -> Any:
        if isinstance(asked, dict):
            return {name: placed(value) for name, value in asked.items()}
        if isinstance(asked, list):
            return [placed(value) for value in asked]
        return f"{folder}/{asked}" if asked else ""

    publish(client, f"{folder}/in")
    with server.client("--scope", "storage:read", "--prefix", f"{folder}/{prefix}") as confined:
        answer = confined.post(SIGN, json=placed(body))

    if isinstance(expected, int):
        assert answer.status_code == expected
    else:
        assert opened(answer.json()["url"]).keys() == {f"{folder}/{path}" for path in expected}


def test_only_who_may_read_may_sign(server: Server, folder: str) -> None:
    with server.client("--scope", "storage:write", "--scope", "storage:delete") as writer:
        for body in ({"archive": {"prefix": folder}}, {"run": folder}):
            assert writer.post(SIGN, json=body).status_code == 403
    assert httpx.post(f"{server.url}{SIGN}", json={"run": "../x"}).status_code == 401


def test_a_changed_link_is_refused(
    server: Server, client: httpx.Client, folder: str, images: dict[str, bytes]
) -> None:
    publish(client, folder)
    paths = list(images)
    image = client.post(SIGN, json={"path": f"{folder}/a.png"}).json()["url"]
    urls = {
        "prefix": sign(client, archive={"prefix": f"{folder}/in/"}),
        "captions": sign(client, archive={"prefix": f"{folder}/in/", "sidecars": "captions"}),
        "paths": sign(client, archive={"paths": paths[:2]}),
        "run": sign(client, run=folder),
    }
    targets = {name: url.removeprefix(server.url) for name, url in urls.items()}
    assert {ask(server, target) for target in targets.values()} == {200}

    prefix, captions, some, run = targets.values()
    query = prefix.partition("?")[2]
    parameters, _, ours = query.partition("&")
    altered = [
        prefix.replace("/in/", "/"),
        prefix.replace("/in/", ""),
        prefix.replace("/in/", "/in"),
        prefix.replace("/in/", "%2Fin%2F"),
        prefix.replace("/in/", "/%69n/"),
        prefix.replace("prefix", "%70refix"),
        prefix.replace("prefix", "run"),
        prefix.replace("prefix", "path"),
        f"{prefix}&sidecars=captions",
        f"{prefix}&prefix=",
        f"{prefix}&path=x",
        f"{prefix}&run={folder}",
        f"{ARCHIVE}?prefix=&{query}",
        f"{ARCHIVE}?sidecars=captions&{query}",
        f"{ARCHIVE}?{parameters}&sidecars=captions&{ours}",
        f"{ARCHIVE}?&{query}",
        f"{ARCHIVE}?{ours}",
        f"{ARCHIVE}?{ours}&{parameters}",
        f"{ARCHIVE}?prefix={folder}/&{ours}",
        captions.replace("&sidecars=captions", ""),
        some.replace(f"path={quote(paths[0])}&", ""),
        some.replace(f"path={quote(paths[0])}", f"path={quote(paths[2])}"),
        some.replace("%20", "+"),
        some.replace("%C3", "%c3"),
        unquote(some).replace(" ", "%20").replace("é", "e"),
        run.replace(folder, f"{folder}/in"),
        run.replace("run=", "prefix="),
        re.sub("expires=([0-9]+)", r"expires=\g<1>0", run),
        re.sub("kid=[0-9a-f]", "kid=g", run),
        re.sub("&kid=[0-9a-f]+", "", run),
        f"{run}A",
        run[:-1],
        # A signed URL of an image opens no archive, and the reverse.
        f"{ARCHIVE}?{image.partition('?')[2]}",
        f"{ARCHIVE}?prefix=&{image.partition('?')[2]}",
        f"{IMAGES}/{folder}/a.png?{query}",
        f"{IMAGES}/archive?{query}",
        f"{IMAGES}?{query}",
        f"/api/v1/storage/entries?{query}",
        f"/api/v1/storage/metadata/{folder}/a.png?{query}",
    ]
    assert not {*altered} & {*targets.values()}
    assert [(target, ask(server, target)) for target in altered] == [
        (target, 401) for target in altered
    ]
    for method in ("POST", "DELETE"):
        assert httpx.request(method, urls["run"]).status_code in (401, 405)
    for spelling in (prefix.replace("archive", "arch%69ve"), prefix.replace("archive", "archive/")):
        assert ask(server, spelling) == 404
    answer = httpx.get(urls["run"] + "A")
    assert answer.json() == {
        "detail": "this link has expired or was changed: ask for a new one",
        "code": "unauthenticated",
    }
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_an_image_named_archive_does_not_open_one(server: Server, client: httpx.Client) -> None:
    save(client, "archive")
    url = client.post(SIGN, json={"path": "archive"}).json()["url"]
    as_archive = url.replace(f"{IMAGES}/archive", ARCHIVE)

    assert httpx.get(as_archive).status_code == 401
    assert ask(server, f"{ARCHIVE}?prefix=&{url.partition('?')[2]}") == 401


@pytest.mark.usefixtures("images")
def test_an_expired_link_is_refused(client: httpx.Client, folder: str) -> None:
    url = sign(client, archive={"prefix": f"{folder}/"}, expires_in=1)
    until(lambda: httpx.get(url).status_code != 200)
    assert httpx.get(url).status_code == 401


@pytest.mark.usefixtures("images")
def test_a_token_beside_a_link_decides_alone(
    server: Server, client: httpx.Client, folder: str
) -> None:
    url = sign(client, archive={"prefix": f"{folder}/"})

    assert httpx.get(url, headers={"Authorization": "Bearer x.y.z"}).status_code == 401
    assert client.get(url + "x").status_code == 200
    with server.client("--prefix", f"{folder}/in") as confined:
        answer = confined.get(url)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as found:
        assert found.namelist() == [f"{folder}/in/c"]


@pytest.mark.parametrize("kind", ["prefix", "paths", "run"])
def test_a_link_to_more_images_than_allowed_is_413_when_signed_and_when_opened(
    client: httpx.Client, folder: str, kind: str
) -> None:
    paths = [f"{folder}/{number}" for number in range(MOST)]
    bodies: dict[str, dict[str, Any]] = {
        "prefix": {"archive": {"prefix": f"{folder}/"}},
        "paths": {"archive": {"paths": paths}},
        "run": {"run": folder},
    }
    body = bodies[kind]
    for path in paths:
        save(client, path)
    if kind == "run":
        publish(client, folder)
    url = sign(client, **body)
    assert len(opened(url)) == MOST

    if kind == "run":  # a published run cannot grow
        for number in range(MOST + 1):
            save(client, f"{folder}x/{number}")
        publish(client, f"{folder}x")
        more = client.get(ARCHIVE, params={"run": f"{folder}x"})
        refused = [client.post(SIGN, json={"run": f"{folder}x"}), more]
    elif kind == "paths":  # their number is in the link
        refused = [client.post(SIGN, json={"archive": {"paths": [*paths, f"{folder}/more"]}})]
    else:
        save(client, f"{folder}/more")
        refused = [client.post(SIGN, json=body), httpx.get(url)]
    for answer in refused:
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    whole = client.get(ARCHIVE, params={"prefix": f"{folder}/"})
    assert whole.status_code == 200, "with a token, a prefix has no limit"


def test_paths_in_a_link_have_four_kibibytes_together(client: httpx.Client) -> None:
    def signed(*paths: str) -> int:
        answer = client.post(SIGN, json={"archive": {"paths": paths}})
        if answer.status_code == 422:
            assert answer.json()["detail"][0]["loc"] == ["body", "archive"]
        else:
            assert httpx.get(answer.json()["url"]).status_code == 404
        return answer.status_code

    long = [f"{number}/" + "x/" * 400 for number in range(5)]
    full = [f"{text}{'y' * (819 - len(text))}" for text in long]
    full.append("z")
    assert sum(map(len, full)) == 4096

    assert signed(*full) == 200
    assert signed(*full[:-1], "zz") == 422
    assert signed(*(("é" * 100 + "/") * 4 + str(number) for number in range(5))) == 422
    assert signed(*("é" * 100 + f"/{number}" for number in range(5))) == 200


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"archive": {}}, ["body", "archive"]),
        ({"archive": {"prefix": "a", "paths": ["a"]}}, ["body", "archive"]),
        ({"archive": {"prefix": "", "paths": ["a"]}}, ["body", "archive"]),
        ({"archive": {"paths": []}}, ["body", "archive"]),
        ({"archive": {"paths": ["../a"]}}, ["body", "archive"]),
        ({"archive": {"paths": ["a"] * 1001}}, ["body", "archive", "paths"]),
        ({"archive": {"prefix": "../a"}}, ["body", "archive"]),
        ({"archive": {"prefix": 1}}, ["body", "archive", "prefix"]),
        ({"archive": {"prefix": "a", "sidecars": "faces"}}, ["body", "archive", "sidecars"]),
        ({"archive": {"prefix": "a", "run": "a"}}, ["body", "archive", "run"]),
        ({"archive": "a"}, ["body", "archive"]),
        ({"run": "../a"}, ["body", "run"]),
        ({"run": ""}, ["body", "run"]),
        ({"run": "/".join(["a" * 251] * 4)}, ["body", "run"]),
        ({"run": "a", "archive": {"prefix": "a"}}, ["body", "run"]),
        ({"run": "a", "path": "a"}, ["body", "path"]),
        ({"run": "a", "expires_in": 604_801}, ["body", "expires_in"]),
        ({"archive": {"prefix": "a"}, "expires_in": 0}, ["body", "expires_in"]),
        ({"archive": {"prefix": "a"}, "transform": {}}, ["body", "transform"]),
    ],
)
def test_422_says_where(client: httpx.Client, body: Any, loc: list[str]) -> None:
    answer = client.post(SIGN, json=body)

    found = answer.json()["detail"]
    assert (answer.status_code, found[0]["loc"] if found else None) == (422, loc), answer.text


@pytest.mark.parametrize("query", ["prefix=a&path=a", "path=a&run=b", "run=../x", "path=a%00"])
def test_a_query_that_contradicts_itself_is_422(client: httpx.Client, query: str) -> None:
    assert client.get(f"{ARCHIVE}?{query}").status_code == 422


@pytest.mark.usefixtures("images")
def test_a_token_gets_paths_and_runs_too(server: Server, client: httpx.Client, folder: str) -> None:
    publish(client, f"{folder}/in")
    inner, outer = f"{folder}/in/c", f"{folder}/a.png"

    for query, expected in (
        ({"path": [outer, inner, "none"]}, [outer, inner]),
        ({"run": f"{folder}/in"}, [inner]),
    ):
        answer = client.get(ARCHIVE, params=query)
        with zipfile.ZipFile(io.BytesIO(answer.content)) as found:
            assert found.namelist() == expected
    with server.client("--prefix", f"{folder}/other") as confined:
        for query in ({"path": [inner]}, {"run": f"{folder}/in"}):
            assert confined.get(ARCHIVE, params=query).status_code == 403
    assert client.get(ARCHIVE, params={"path": "none"}).status_code == 404


def test_four_links_are_open_at_once_and_a_fifth_is_told_to_come_back(
    server: Server, client: httpx.Client, folder: str
) -> None:
    for number in range(3):
        save(client, f"{folder}/{number}", bytes(12 * 1024**2))
    url = sign(client, archive={"prefix": f"{folder}/"})
    target = url.removeprefix(server.url)
    forged = target[:-1] + ("A" if target[-1] != "A" else "B")

    for _ in range(5):
        assert ask(server, forged) == 401
        missing = httpx.get(sign(client, archive={"prefix": f"{folder}/none"}))
        assert missing.status_code == 404, "a refused request has left its place"
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            slow = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert slow.recv(12) == b"HTTP/1.1 200"
        busy = httpx.get(url)
        assert (busy.status_code, busy.json()["code"]) == (503, "backend_unavailable")
        assert int(busy.headers["retry-after"]) > 0
        assert ask(server, forged) == 401, "what is forged learns nothing, and takes no place"
        some = client.get(ARCHIVE, params={"path": f"{folder}/0"})
        assert some.status_code == 200, "a token needs no place"
    until(lambda: httpx.get(url).status_code == 200)
