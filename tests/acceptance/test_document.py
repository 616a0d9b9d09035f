"""The OpenAPI document, and a fuzzer that believes every word of it."""

import base64
import hashlib
import re
import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import pytest

from acceptance.conftest import Servers, Way
from pictures import picture
from running import IMAGES, Server

SEED = {
    ("/api/v1/storage/images", "get"): ("List Images", "List stored images."),
    ("/api/v1/storage/images/{path}", "get"): (
        "Get Image",
        "Get image by path. Redirects to CDN when using R2 storage.",
    ),
    ("/api/v1/storage/images/{path}", "post"): ("Save Image", "Save image to storage."),
    ("/api/v1/storage/images/{path}", "delete"): ("Delete Image", "Delete image from storage."),
    ("/api/v1/storage/images/{path}", "head"): ("Check Image Exists", "Check if image exists."),
}
LIBRARY = "/api/v1/media-resources"
OURS = [
    ("/api/v1/storage/archive", "get"),
    ("/api/v1/storage/archive", "post"),
    ("/api/v1/storage/copy", "post"),
    ("/api/v1/storage/delete", "post"),
    ("/api/v1/storage/entries", "get"),
    ("/api/v1/storage/events", "get"),
    ("/api/v1/storage/metadata/{path}", "get"),
    ("/api/v1/storage/search", "get"),
    ("/api/v1/storage/search/facets", "get"),
    ("/api/v1/storage/upload-grants", "post"),
    ("/api/v1/storage/upload-grants/complete", "post"),
    ("/api/v1/storage/upload-grants/{path}", "put"),
    ("/api/v1/storage/runs", "get"),
    ("/api/v1/storage/runs/{folder}", "get"),
    ("/api/v1/storage/runs/{folder}", "delete"),
    ("/api/v1/storage/runs/{folder}/publish", "post"),
    ("/api/v1/storage/signed-urls", "post"),
    ("/api/v1/storage/trash", "get"),
    ("/api/v1/storage/trash/restore", "post"),
    ("/api/v1/storage/trash/{trash_id}", "delete"),
    ("/api/v1/storage/trash/{trash_id}/restore", "post"),
    (LIBRARY, "get"),
    (f"{LIBRARY}/ingest", "post"),
    (f"{LIBRARY}/heal", "get"),
    (f"{LIBRARY}/heal", "post"),
    (f"{LIBRARY}/{{resource_id}}", "get"),
    (f"{LIBRARY}/{{resource_id}}", "patch"),
    (f"{LIBRARY}/{{resource_id}}", "delete"),
    (f"{LIBRARY}/{{resource_id}}/file", "get"),
    (f"{LIBRARY}/{{resource_id}}/tags", "get"),
    (f"{LIBRARY}/{{resource_id}}/tags", "post"),
    (f"{LIBRARY}/{{resource_id}}/tags", "put"),
    (f"{LIBRARY}/{{resource_id}}/tags", "delete"),
    ("/api/v1/media-dead-letters", "get"),
    ("/api/v1/media-dead-letters/{letter_id}", "delete"),
    ("/api/v1/media-dead-letters/{letter_id}/retry", "post"),
]
# It cannot guess ids or paths, and warns of operations that only ever say 404. A known id may
# not go.
_FUZZER = """
warnings = false

[checks.negative_data_rejection]
# 412 as well: a precondition that is known to fail is answered before the body is read.
expected-statuses = [400, 401, 403, 404, 405, 409, 412, 413, 414, 415, 422]

[[operations]]
include-method = ["GET", "PATCH"]
include-path-regex = "resource_id"
parameters = {{ "path.resource_id" = "{known}" }}
"""
BODY = "Body_save_image_api_v1_storage_images__path__post"


def test_the_document_keeps_all_that_the_seed_promises(server: Server) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()

    operations = {
        (path, method): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert operations.keys() == {*SEED, *OURS}
    for where, (summary, description) in SEED.items():
        operation = operations[where]
        assert (operation["summary"], operation["description"]) == (summary, description)
        assert operation["tags"] == ["Storage"]
        assert operation["security"] == [{"HTTPBearer": []}]
        if where[1] != "head":
            invalid = operation["responses"]["422"]["content"]["application/json"]["schema"]
            assert invalid == {"$ref": "#/components/schemas/HTTPValidationError"}
        if "{path}" in where[0]:
            assert [
                (
                    parameter["name"],
                    parameter["in"],
                    parameter["required"],
                    parameter["schema"]["type"],
                )
                for parameter in operation["parameters"]
                if parameter["required"]
            ] == [("path", "path", True, "string")]
            # Any of these makes a GET one for a derived image, so no generated client may
            # send a default.
            ours = [item for item in operation["parameters"] if not item["required"]]
            names = [item["name"] for item in ours if item["in"] == "query"]
            reads = where[1] in ("get", "head")
            deletes = ["purge"] if where[1] == "delete" else []
            assert names == (["width", "height", "fit", "format", "quality"] if reads else deletes)
            assert not any("default" in parameter["schema"] for parameter in ours)

    listing = operations["/api/v1/storage/images", "get"]
    parameters = {parameter["name"]: parameter for parameter in listing["parameters"]}
    for name, kind, default in (("prefix", "string", ""), ("limit", "integer", 100)):
        assert not parameters[name]["required"]
        assert parameters[name]["in"] == "query"
        assert parameters[name]["schema"]["type"] == kind
        assert parameters[name]["schema"]["default"] == default
    assert listing["responses"]["200"]["content"]["application/json"]["schema"] == {
        "type": "array",
        "items": {"type": "string"},
        "title": "Response List Images Api V1 Storage Images Get",
    }

    entries = operations["/api/v1/storage/entries", "get"]
    assert (entries["summary"], entries["tags"]) == ("List Entries", ["Storage"])
    assert entries["parameters"] == listing["parameters"]
    items = entries["responses"]["200"]["content"]["application/json"]["schema"]["items"]
    assert items == {"$ref": "#/components/schemas/ListedEntry"}

    saving = operations["/api/v1/storage/images/{path}", "post"]["requestBody"]
    assert saving["required"]
    assert saving["content"]["multipart/form-data"]["schema"] == {
        "$ref": f"#/components/schemas/{BODY}"
    }
    schemas = document["components"]["schemas"]
    body = schemas[BODY]
    assert (body["type"], body["required"], body["title"]) == ("object", ["file"], BODY)
    file = body["properties"]["file"]
    assert (file["type"], file["format"], file["title"]) == ("string", "binary", "File")
    detail = schemas["HTTPValidationError"]["properties"]["detail"]
    assert detail["items"] == {"$ref": "#/components/schemas/ValidationError"}
    assert (detail["type"], detail["title"]) == ("array", "Detail")
    fault = schemas["ValidationError"]
    assert set(fault["required"]) == {"loc", "msg", "type"}
    assert fault["properties"]["loc"]["type"] == "array"
    assert fault["properties"]["msg"]["type"] == fault["properties"]["type"]["type"] == "string"
    (bearer,) = document["components"]["securitySchemes"].items()
    assert bearer[0] == "HTTPBearer"
    assert (bearer[1]["type"], bearer[1]["scheme"]) == ("http", "bearer")
    assert "`stillroom token`" in bearer[1]["description"], "it says where a token comes from"


def test_the_document_says_all_that_a_generated_client_needs(server: Server) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    paths = document["paths"]
    image = paths["/api/v1/storage/images/{path}"]

    assert [one for one in image["head"]["responses"].values() if "content" in one] == []
    for status in ("200", "206"):
        types = image["get"]["responses"][status]["content"].keys()
        assert types >= {"image/png", "image/jpeg", "image/webp", "application/octet-stream"}
        assert "*/*" not in types
        facts = {"Content-Length", "ETag", "Last-Modified", "Repr-Digest"}
        assert image["get"]["responses"][status]["headers"].keys() >= facts
    assert image["head"]["responses"]["200"]["headers"].keys() == facts
    reads = {"If-Match", "If-None-Match"}
    for method, expected in {
        "get": {*reads, "Range"},
        "head": reads,
        "post": {*reads, "Repr-Digest", "Expires-In", "Sign-Url"},
        "delete": {"If-Match"},
    }.items():
        parameters = image[method]["parameters"]
        assert {one["name"] for one in parameters if one["in"] == "header"} == expected
    for path in (
        "storage/images",
        "storage/entries",
        "storage/runs",
        "media-resources",
        "media-dead-letters",
    ):
        listing = paths[f"/api/v1/{path}"]["get"]
        assert "Link" in listing["responses"]["200"]["headers"]
    for methods in paths.values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                assert ("Stillroom-Error" in answer.get("headers", {})) == (status >= "400")


def test_every_text_in_the_document_has_a_real_example(server: Server) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    ours = {
        f"{name}.{field}": schema
        for name, form in document["components"]["schemas"].items()
        if "Validation" not in name and name != BODY
        for field, schema in form["properties"].items()
    }
    bare = [
        name
        for name, schema in ours.items()
        for kind in (schema, schema.get("items", {}), *schema.get("anyOf", ()))
        if kind.get("type") == "string"
        and not kind.keys() & {"enum", "const", "format"}
        and not schema.keys() & {"examples", "example"}
    ]
    assert bare == []


@pytest.mark.whole
def test_a_fuzzer_that_follows_the_document_finds_nothing(
    servers: Servers, started_as: Way, folder: str, tmp_path: Path
) -> None:
    # A search with all parameters of the greatest length is longer than 8 KiB.
    server = servers.started(started_as, trash="7d", max_target_bytes="16384")
    with server.client() as client:
        client.post(f"{IMAGES}/{folder}/a.png", files={"file": picture(uuid.uuid4().int)})
        key = {"storage_key": f"compute/{folder}/a.png"}
        known = client.post(f"{LIBRARY}/ingest", json=key).json()["id"]
    (tmp_path / "schemathesis.toml").write_text(_FUZZER.format(known=known))
    found = subprocess.run(
        [
            str(Path(sys.executable).parent / "schemathesis"),
            "run",
            f"{server.url}/openapi.json",
            "--header",
            f"Authorization: Bearer {server.token()}",
            "--checks=all",
            # Which paths are refused is a rule that a JSON schema cannot say.
            "--exclude-checks=positive_data_acceptance",
            "--max-examples=30",
            "--no-color",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=500,
    )
    assert found.returncode == 0, found.stdout
    assert "No issues found" in found.stdout, found.stdout


def test_every_path_of_the_document_names_its_methods_and_is_spelled_literally(
    server: Server, client: httpx.Client
) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()

    for template, methods in document["paths"].items():
        path = re.sub(r"{\w+}", str(uuid.uuid4()), template)
        refused = client.request("TRACE", path)
        allowed = {method.upper() for method in methods}
        assert (refused.status_code, set(refused.headers["allow"].split(", "))) == (405, allowed)
        for method in allowed:
            misspelt = client.request(
                method, path.replace("storage", "st%6Frage").replace("media", "m%65dia", 1)
            )
            assert misspelt.status_code == 404, (method, template)
            assert misspelt.headers["stillroom-error"] == "route_not_found", (method, template)


DATA = "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.both_paths
def test_nothing_but_an_image_is_framed_or_taken_for_another_type(
    server: Server, client: httpx.Client
) -> None:
    image = f"{IMAGES}/headers/a.png"
    answers = [
        client.post(image, files={"file": picture()}),
        client.post(image, files={"wrong": b""}),
        client.get(IMAGES),
        client.get(f"{IMAGES.removesuffix('images')}entries"),
        client.get(f"{IMAGES}/headers/none.png"),
        httpx.get(f"{server.url}{image}"),
        client.put(image),
        client.get("/nothing"),
        client.get("/healthz"),
        client.get("/readyz"),
        client.get("/metrics"),
        client.get("/openapi.json"),
        client.get("/static-offline-docs/swagger-ui.css"),
        client.delete(image),
    ]

    for answer in answers:
        told = (answer.status_code, answer.request.url.path)
        assert answer.headers["content-security-policy"] == DATA, told
        assert answer.headers["x-content-type-options"] == "nosniff", told


def test_the_page_of_the_document_runs_its_own_scripts_alone(server: Server) -> None:
    page = httpx.get(f"{server.url}/docs")

    policy = dict(
        part.partition(" ")[::2] for part in page.headers["content-security-policy"].split("; ")
    )
    (inline,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
    assert policy["script-src"] == f"'self' 'sha256-{digest}'"
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert page.headers["x-content-type-options"] == "nosniff"
    for linked in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert httpx.get(f"{server.url}{linked}").status_code == 200, linked
