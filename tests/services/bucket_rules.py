"""Rules of a bucket that a test needs for a while."""

import contextlib
from collections.abc import Iterator

from services.s3 import Operator
from services.seaweedfs import BUCKET
from stillroom.features.grants.advice import HEADERS


@contextlib.contextmanager
def pages_may_upload(operator: Operator, origin: str) -> Iterator[None]:
    """The CORS rule for uploads that `stillroom doctor` prints."""
    headers = "".join(f"<AllowedHeader>{name}</AllowedHeader>" for name in HEADERS)
    rule = f"<AllowedOrigin>{origin}</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>{headers}"
    rules = f"<CORSConfiguration><CORSRule>{rule}</CORSRule></CORSConfiguration>"
    answer = operator.send("PUT", f"/{BUCKET}", query={"cors": ""}, body=rules.encode())
    assert answer.status_code == 200, answer.text
    try:
        yield
    finally:
        operator.send("DELETE", f"/{BUCKET}", query={"cors": ""})
