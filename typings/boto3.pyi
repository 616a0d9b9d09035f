# What the benchmarks use of `boto3`, which ships no types.
from typing import BinaryIO, Protocol

class _Client(Protocol):
    def create_bucket(self, *, Bucket: str) -> object: ...
    def put_object(self, *, Bucket: str, Key: str, Body: BinaryIO) -> object: ...
    def generate_presigned_url(self, operation: str, parameters: dict[str, str]) -> str: ...

def client(
    service: str,
    *,
    endpoint_url: str,
    aws_access_key_id: str,
    aws_secret_access_key: str,
    region_name: str,
    config: object = ...,
) -> _Client: ...
