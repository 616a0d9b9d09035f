# What we use of `multipart` 2, which ships no types.
from collections.abc import Iterator

class MultipartError(ValueError): ...

class MultipartSegment:
    name: str
    filename: str | None
    def header(self, name: str) -> str | None: ...

class PushMultipartParser:
    def __init__(
        self,
        boundary: str | bytes,
        *,
        max_segment_count: float = ...,
        max_header_size: int = ...,
        max_header_count: int = ...,
        header_charset: str = ...,
    ) -> None: ...
    def parse(self, chunk: bytes) -> Iterator[MultipartSegment | bytes | None]: ...
    def close(self) -> None: ...

def parse_options_header(header: str) -> tuple[str, dict[str, str]]: ...
