"""The recipe for results of Replicate and fal, with stubs that sign as these providers do."""

import base64
import contextlib
import hashlib
import hmac
import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from acceptance.pasting import blocks, started, wait_for_answer
from issuing import Issuer
from listening import Handler, certificate_file, listening
from pictures import picture
from running import free_port, running
from stillroom.client import ImageStore
from stillroom.wire.images import ImageMetadata
from videos import recorded

pytestmark = pytest.mark.whole  # a server and an app of their own

USER: Final = "user-7"
REPLICATE_SECRET: Final = f"whsec_{base64.b64encode(bytes(range(24))).decode()}"
MAX_BYTES: Final = 1_000_000
Headers = dict[str, str]


@dataclass
class Provider:
    """Files and keys, served over TLS, and the webhooks of both providers about them."""

    issuer: Issuer = field(default_factory=lambda: Issuer("EdDSA", Ed25519PrivateKey.generate()))
    files: dict[str, bytes] = field(default_factory=dict)
    downloads: list[str] = field(default_factory=list)
    url: str = ""

    def handler(self) -> type[Handler]:
        provider = self

        class Serving(Handler):
            def get(self) -> None:
                if self.path == "/keys":
                    other = Issuer("EdDSA", Ed25519PrivateKey.generate(), "old")
                    keys = {"keys": [other.jwk, provider.issuer.jwk]}
                    self.answer(200, json.dumps(keys).encode(), {})
                    return
                provider.downloads.append(self.path)
                data = provider.files[self.path]
                self.answer(200, data, {"content-length": str(len(data))})

        return Serving

    def add(self, data: bytes, suffix: str = ".png") -> str:
        """Serve a file, and return its URL."""
        path = f"/{uuid.uuid4()}/out{suffix}"
        self.files[path] = data
        return self.url + path


def replicate_event(name: str, urls: list[str], **more: Any) -> dict[str, Any]:
    """https://replicate.com/docs/topics/webhooks/receive-webhook."""
    facts = {"prompt": "a red fox", "seed": 7, "num_outputs": len(urls)}
    return {
        "id": name, "model": "black-forest-labs/flux-schnell", "version": "5c7d5dc6",
        "status": "succeeded", "input": facts, "output": urls, "error": None, "logs": "",
    } | more  # fmt: skip


def fal_event(name: str, urls: list[str], **more: Any) -> dict[str, Any]:
    """https://docs.fal.ai/model-apis/model-endpoints/webhooks."""
    images = [{"url": url, "content_type": "image/png", "width": 8, "height": 8} for url in urls]
    payload = {"images": images, "seed": 7, "prompt": "a red fox", "has_nsfw_concepts": [False]}
    return {
        "request_id": name, "gateway_request_id": name, "status": "OK", "payload": payload,
    } | more  # fmt: skip


def replicate_headers(body: bytes, issuer: Issuer, *, at: float, user: str = "") -> Headers:
    """https://replicate.com/docs/topics/webhooks/verify-webhook."""
    del issuer, user
    message = f"msg_1.{int(at)}.".encode() + body
    key = base64.b64decode(REPLICATE_SECRET.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.digest(key, message, "sha256")).decode()
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": f"{int(at)}",
        "webhook-signature": f"v1,{'A' * 43}= v1,{signature}",
    }


def fal_headers(body: bytes, issuer: Issuer, *, at: float, user: str = USER) -> Headers:
    """https://docs.fal.ai/model-apis/model-endpoints/webhooks#verifying-your-webhook."""
    values = {"request-id": "request-1", "user-id": user, "timestamp": f"{int(at)}"}
    message = "\n".join([*values.values(), hashlib.sha256(body).hexdigest()]).encode()
    values["signature"] = issuer.sign(message).hex()
    return {f"X-Fal-Webhook-{name.title()}": value for name, value in values.items()}


@dataclass(frozen=True)
class Kind:
    name: str
    event: Callable[..., dict[str, Any]]
    headers: Callable[..., Headers]
    signature: str
    failed: dict[str, Any]
    model: str | None


KINDS: Final = (
    Kind("replicate", replicate_event, replicate_headers, "webhook-signature",
         {"status": "failed", "output": None}, "black-forest-labs/flux-schnell"),
    Kind("fal", fal_event, fal_headers, "X-Fal-Webhook-Signature",
         {"status": "ERROR", "payload": {"detail": [{"url": "https://a.example"}]}}, None),
)  # fmt: skip


@dataclass(frozen=True)
class App:
    """The running recipe, with the store that it saves into."""

    url: str
    provider: Provider
    store: ImageStore

    def deliver(self, kind: Kind, event: dict[str, Any], *, ago_s: float = 0) -> int:
        body = json.dumps(event).encode()
        return self.post(
            kind, body, kind.headers(body, self.provider.issuer, at=time.time() - ago_s)
        )

    def post(self, kind: Kind, body: bytes, headers: Headers) -> int:
        url = f"{self.url}/hooks/{kind.name}"
        return httpx.post(url, content=body, headers=headers, timeout=60).status_code

    def runs(self, folder: str) -> list[tuple[str, int | None]]:
        found = self.store.runs(f"{folder}/", state="published")
        return [(run.folder, run.count) for run in found]

    def metadata(self, path: str) -> ImageMetadata:
        return self.store.metadata(path)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("results")
    certificate, port, log = certificate_file(folder), free_port(), folder / "app.log"
    provider, url = Provider(), f"http://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        provider.url = stack.enter_context(listening(provider.handler(), certificate))
        server = stack.enter_context(running(folder))
        scopes = ("--scope", "storage:read", "--scope", "storage:write")
        variables = {
            "STILLROOM_URL": server.url,
            "STILLROOM_TOKEN": server.token(*scopes),
            "REPLICATE_SECRET": REPLICATE_SECRET,
            "FAL_USER_ID": USER,
            "SSL_CERT_FILE": str(certificate),
        }
        (folder / "results.py").write_text(recipe_for(provider))
        command = f"{sys.executable} -m uvicorn results:app --port {port}"
        stack.enter_context(started(command, folder, log, **variables))
        wait_for_answer(url, log)
        yield App(url, provider, stack.enter_context(ImageStore(server.url, server.token())))


def recipe_for(provider: Provider) -> str:
    """The recipe, with the stub's address in the place of the providers'."""
    (text,) = [text for text in blocks("docs/recipes.md", "python") if "/hooks/fal" in text]
    for written, replaced in (
        ('HOSTS = (".replicate.delivery", ".fal.media")', 'HOSTS = (".127.0.0.1",)'),
        ("https://rest.fal.ai/.well-known/jwks.json", f"{provider.url}/keys"),
        ('"max_bytes": 100 * 1024**2', f'"max_bytes": {MAX_BYTES}, "allow_private": True'),
    ):
        assert text.count(written) == 1, written
        text = text.replace(written, replaced)
    return text


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
def name() -> str:
    """A prediction that no other test has."""
    return uuid.uuid4().hex


def test_results_become_a_run_with_their_metadata(app: App, kind: Kind, name: str) -> None:
    urls = [app.provider.add(picture(number)) for number in (1, 2)]

    assert app.deliver(kind, kind.event(name, urls)) == 204

    folder = f"{kind.name}/{name}"
    assert app.runs(folder) == [(folder, 2)]
    for number in (1, 2):
        found = app.metadata(f"{folder}/{number}.png")
        assert found.ai_mark == "iptc"
        assert found.generation is not None
        assert (found.generation.prompt, found.generation.seed) == ("a red fox", 7)
        assert found.generation.model == kind.model
        assert found.generation.tool is not None
        assert found.generation.tool.lower() == kind.name


def test_a_webhook_that_is_delivered_again_changes_nothing(app: App, kind: Kind, name: str) -> None:
    urls = [app.provider.add(picture(number)) for number in (1, 2)]
    event, folder = kind.event(name, urls), f"{kind.name}/{name}"

    with ThreadPoolExecutor(3) as threads:
        at_once = [threads.submit(app.deliver, kind, event) for _ in range(3)]
    assert [delivery.result() for delivery in at_once] == [204] * 3
    published = app.store.run(folder).read()
    downloads = len(app.provider.downloads)

    assert app.deliver(kind, event) == 204
    assert app.store.run(folder).read() == published
    assert len(app.provider.downloads) == downloads
    assert app.runs(folder) == [(folder, 2)]


def test_what_the_provider_did_not_sign_for_you_now_is_refused(
    app: App, kind: Kind, name: str
) -> None:
    event = kind.event(name, [app.provider.add(picture())])
    body, downloads = json.dumps(event).encode(), len(app.provider.downloads)
    stranger = Issuer("EdDSA", Ed25519PrivateKey.generate())
    headers = kind.headers(body, app.provider.issuer, at=time.time())

    assert app.post(kind, body, {}) == 401
    assert app.post(kind, body + b" ", headers) == 401
    assert app.post(kind, body, headers | {kind.signature: ""}) == 401
    assert app.post(kind, body, headers | {kind.signature: "v1"}) == 401
    assert app.post(kind, b"\xff", headers) == 401
    assert app.deliver(kind, event, ago_s=400) == 401
    assert app.deliver(kind, event, ago_s=-400) == 401
    if kind.name == "fal":
        now = time.time()
        assert app.post(kind, body, kind.headers(body, stranger, at=now)) == 401
        other_user = kind.headers(body, app.provider.issuer, at=now, user="user-8")
        assert app.post(kind, body, other_user) == 401
    assert app.post(kind, b" " * (1024**2 + 1), headers) == 413

    assert list(app.store.iter(f"{kind.name}/{name}/")) == []
    assert len(app.provider.downloads) == downloads


def test_only_https_urls_of_the_providers_are_downloaded(app: App, kind: Kind, name: str) -> None:
    here = app.provider.add(picture())
    downloads = len(app.provider.downloads)
    strange = (
        here.replace("https://", "http://"),
        here.replace("127.0.0.1", "localhost"),
        here.replace("127.0.0.1", "127.0.0.1.example.com"),
        here.replace("127.0.0.1", "example.com@127.0.0.2"),
    )

    for url in strange:
        assert app.deliver(kind, kind.event(name, [here, url])) == 422

    assert list(app.store.iter(f"{kind.name}/{name}/")) == []
    assert len(app.provider.downloads) == downloads


def test_a_result_that_is_too_large_publishes_nothing_until_it_is_delivered_again(
    app: App, kind: Kind, name: str
) -> None:
    urls = [app.provider.add(picture()), app.provider.add(bytes(MAX_BYTES + 1))]
    event, folder = kind.event(name, urls), f"{kind.name}/{name}"

    assert app.deliver(kind, event) == 500
    assert app.runs(folder) == []

    app.provider.files[urls[1].removeprefix(app.provider.url)] = picture(2)
    assert app.deliver(kind, event) == 204
    assert app.runs(folder) == [(folder, 2)]


def test_a_video_is_saved_as_it_is(app: App, kind: Kind, name: str) -> None:
    video = recorded("mp4")

    assert app.deliver(kind, kind.event(name, [app.provider.add(video, ".mp4")])) == 204

    assert app.store.read(f"{kind.name}/{name}/1.mp4") == video


def test_a_failed_prediction_saves_nothing(app: App, kind: Kind, name: str) -> None:
    assert app.deliver(kind, kind.event(name, [], **kind.failed)) == 204
    assert list(app.store.iter(f"{kind.name}/{name}/")) == []


def test_odd_inputs_and_outputs_are_saved_without_them(app: App, name: str) -> None:
    replicate, fal = KINDS
    url = app.provider.add(picture())
    odd = {"prompt": ["a", "b"], "seed": -1}
    event = replicate.event(name, [], output={"image": url, "text": "done"}, input=odd)
    assert app.deliver(replicate, event) == 204
    payload = {"image": {"url": url}, "prompt": "https://example.com/ as a fox", "seed": None}
    assert app.deliver(fal, fal.event(name, [], payload=payload)) == 204

    found = app.metadata(f"replicate/{name}/1.png").generation
    assert found is not None
    assert (found.tool, found.prompt, found.seed) == ("Replicate", None, None)
    found = app.metadata(f"fal/{name}/1.png").generation
    assert found is not None
    assert found.prompt == "https://example.com/ as a fox"
