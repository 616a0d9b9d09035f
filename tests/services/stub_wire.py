"""S3 as the stubs read and write it: what a request asks, of which key, and answers."""

import contextlib
import hmac
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable, Container

from aiohttp import web
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from services.ports import free_ports
from stillroom.store.choose import R2Config

KEY_ID = "stub-key-id"
SECRET = "stub-secret"
BUCKET = "images"

CLASS_B = ("HeadObject", "GetObject")
FREE = ("AbortMultipartUpload", "DeleteObject")
"""Operations by price; all others are of class A. https://developers.cloudflare.com/r2/pricing/"""


def variables_of(config: R2Config) -> dict[str, str]:
    """The variables of a server that select this bucket."""
    return {
        "R2_ENDPOINT_URL": config.endpoint_url,
        "R2_ACCESS_KEY_ID": config.access_key_id,
        "R2_SECRET_ACCESS_KEY": config.secret_access_key,
        "R2_BUCKET_NAME": config.bucket,
    }


def operation_of(request: web.Request) -> str:
    return operation(request.method, key_of(request), request.query, request.headers)


def operation(method: str, key: str, query: Container[object], headers: Container[object]) -> str:
    """As S3's documents call it."""
    if "uploads" in query:
        return "CreateMultipartUpload" if method == "POST" else "ListMultipartUploads"
    if not key:
        return "ListObjectsV2"
    if "uploadId" in query:
        names = {
            "PUT": "UploadPart", "POST": "CompleteMultipartUpload",
            "DELETE": "AbortMultipartUpload", "GET": "ListParts",
        }  # fmt: skip
        return names[method]
    if "x-amz-copy-source" in headers:
        return "CopyObject"
    return f"{method.title()}Object"


def is_presigned(request: web.Request, region: str, token: str | None = None) -> bool:
    """Whether the URL is signed for this request, by Amazon's own `botocore`."""
    path, _, query = request.raw_path.partition("?")
    covered, _, given = query.partition("&X-Amz-Signature=")
    signed = AWSRequest(
        method=request.method,
        url=f"http://{request.host}{path}?{covered}",
        headers={
            name: request.headers.get(name, "")
            for name in request.query["X-Amz-SignedHeaders"].split(";")
        },
    )
    signed.context["timestamp"] = request.query["X-Amz-Date"]
    auth = S3SigV4QueryAuth(Credentials(KEY_ID, SECRET, token), "s3", region)
    wanted = auth.signature(auth.string_to_sign(signed, auth.canonical_request(signed)), signed)
    return hmac.compare_digest(wanted, given)


def bucket_of(request: web.Request) -> str:
    """By the host, if that begins with the bucket; else by the path."""
    label, dot, _ = request.host.partition(".")
    return label if dot and label == BUCKET else request.path.split("/")[1]


def key_of(request: web.Request) -> str:
    """R2 normalizes keys."""
    path = request.path[1:]
    if not request.host.startswith(f"{BUCKET}."):
        path = path.partition("/")[2]
    return unicodedata.normalize("NFC", path)


def stored_headers(request: web.Request) -> dict[str, str]:
    kept = ("content-type", "content-disposition", "cache-control")
    return {
        name.lower(): value
        for name, value in request.headers.items()
        if name.lower() in kept or name.lower().startswith("x-amz-meta-")
    }


def xml(text: str, status: int = 200) -> web.Response:
    return web.Response(status=status, text=f'<?xml version="1.0"?>{text}')


def error(status: int, code: str) -> web.Response:
    return xml(f"<Error><Code>{code}</Code><Message>{code}</Message></Error>", status)


@contextlib.asynccontextmanager
async def answering(
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[int]:
    """Answer all requests to a port in this process."""
    application = web.Application(client_max_size=64 * 1024**2)
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    (port,) = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    try:
        yield port
    finally:
        await runner.cleanup()
