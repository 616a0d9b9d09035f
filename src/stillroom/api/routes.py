"""Routes: each path with its operations, what the OpenAPI document says of them, and its 405."""

import functools
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final, Literal, get_args

from fastapi import APIRouter, Body, File, Path, Query, Request, Response, UploadFile
from fastapi.responses import JSONResponse
from starlette.routing import Route, compile_path

from stillroom.api.document import (
    BEARER,
    FOLDER_EXAMPLE,
    PATH_EXAMPLE,
    extra,
    reading,
    refusals,
    sending,
    unchanged,
)
from stillroom.api.operation import OperationRoute, Run
from stillroom.api.responses import MethodNotAllowed
from stillroom.http.parameters import Parameter

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]

_PATH_EXAMPLES: Final = {"path": PATH_EXAMPLE, "folder": FOLDER_EXAMPLE}
"""Of what is no id."""

_OTHERS: Final = frozenset(("CONNECT", "OPTIONS", "TRACE"))
"""Methods that no operation has (RFC 9110, 9.3)."""

_METHODS: Final[tuple[Method, ...]] = get_args(Method)


@dataclass(frozen=True, slots=True)
class Operation:
    """What runs for a method, and what the OpenAPI document says of it.

    Attributes:
        method: Of HTTP.
        run: The operation; its name and docstring are the document's.
        refusals: Its statuses of 400 and more, but for the 422 that all have.
        answer: The type of its success; None where it sends an image.
        status: Of its success.
        query: The parameters that it reads.
        headers: The request headers that it honours.
        body: The type of its JSON body, or `UploadFile`.
        may_lack_body: It does something without one, too.
        is_paged: It answers page by page, with a `Link`.
        example: Of its 200.
        is_cacheable: Its 200 has an `ETag`, and there is a 304.
        media_type: Of its success, if that is neither JSON nor an image.
    """

    method: Method
    run: Run
    refusals: tuple[int, ...]
    _: KW_ONLY
    answer: Any = None
    status: int = 200
    query: Sequence[Parameter[object]] = ()
    headers: tuple[str, ...] = ()
    body: Any = None
    may_lack_body: bool = False
    is_paged: bool = False
    example: object = None
    is_cacheable: bool = False
    media_type: str | None = None


class OperationRouter(APIRouter):
    """Routes of operations below one prefix."""

    def __init__(self, prefix: str, *, tag: str) -> None:
        """Start without routes; the document shows these under `tag`."""
        super().__init__(
            prefix=prefix, tags=[tag], route_class=OperationRoute, dependencies=[BEARER]
        )

    def add(self, path: str, *operations: Operation, passes: Sequence[Method] = ()) -> None:
        """Route the methods of `path` to `operations`, and every other one to 405.

        The first path that matches a request has it. A route that is not spelled literally
        is 404; see `OperationRoute`.

        Args:
            path: Behind the prefix.
            operations: One for each method.
            passes: Methods that are not refused: a path that is added later has them.
        """
        for operation in operations:
            has_body = operation.method != "HEAD"
            statuses = operation.refusals if has_body else (*operation.refusals, 422)
            sends = reading if operation.answer is None else refusals
            if operation.media_type is not None:
                sends = functools.partial(sending, operation.media_type)
            self.add_api_route(
                path,
                _endpoint(operation, path),
                methods=[operation.method],
                status_code=operation.status,
                response_model=operation.answer,
                response_class=Response if operation.answer is None else JSONResponse,
                responses={
                    **(unchanged() if operation.is_cacheable else {}),
                    **sends(*statuses, has_body=has_body),
                },
                openapi_extra=extra(
                    *operation.headers,
                    has_body=has_body,
                    is_paged=operation.is_paged,
                    example=operation.example,
                ),
            )
        allowed = sorted((one.method for one in operations), key=_METHODS.index)
        refused = _OTHERS.union(_METHODS).difference(passes) if passes else None
        refuse = MethodNotAllowed(", ".join(allowed))
        self.routes.append(Route(self.prefix + path, refuse, methods=refused))


def _endpoint(operation: Operation, path: str) -> Run:
    """The operation with the signature that FastAPI makes the document's parameters from."""

    @functools.wraps(operation.run)
    async def endpoint(request: Request) -> Response:
        return await operation.run(request)

    # As https://peps.python.org/pep-0362/#signature-object has it; mypy knows no such attribute.
    endpoint.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=place, annotation=kind)
            for name, kind, place in _documented(operation, path)
        ]
    )
    return endpoint


def _documented(operation: Operation, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and place of all that the operation reads but for headers."""
    for name in compile_path(path)[2]:
        example = _PATH_EXAMPLES.get(name)
        yield (
            name,
            str,
            Path(examples=[example]) if example else Path(json_schema_extra={"format": "uuid"}),
        )
    for one in operation.query:
        schema = dict(one.schema)
        default = schema.pop("default", None)
        text = one.description or None
        yield one.name, Any, Query(default, description=text, json_schema_extra=schema)
    if operation.body is UploadFile:
        yield "file", UploadFile, File(json_schema_extra={"format": "binary"})
    elif operation.body is not None:
        body = Body(None) if operation.may_lack_body else Body()
        yield "wanted", operation.body, body
