from collections.abc import Mapping, MutableMapping

class AWSRequest:
    context: dict[str, object]
    headers: MutableMapping[str, str]
    url: str

    def __init__(
        self, *, method: str, url: str, headers: Mapping[str, str] = ..., data: bytes = ...
    ) -> None: ...
