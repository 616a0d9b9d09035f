"""Routes: paths with their operations, OpenAPI metadata and 405 responses."""

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
    error_responses,
    file_responses,
    image_responses,
    not_modified_response,
    openapi_extra,
)
from stillroom.api.operation import OperationRoute, Run
from stillroom.api.responses import MethodNotAllowed
from stillroom.http.parameters import parameters_of

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]

_PATH_EXAMPLES: Final = {"path": PATH_EXAMPLE, "folder": FOLDER_EXAMPLE}
"""Examples for path parameters that are not UUIDs, by name."""

_UNSUPPORTED_METHODS: Final = frozenset(("CONNECT", "OPTIONS", "TRACE"))
"""Methods that no operation supports (RFC 9110, 9.3)."""

_METHODS: Final[tuple[Method, ...]] = get_args(Method)


@dataclass(frozen=True, slots=True)
class Operation:
    """Handler of one HTTP method with its OpenAPI metadata.

    Attributes:
        run: Handler, whose name and docstring appear in the document.
        refusals: Status codes of errors, except for 422, which all operations have.
        answer: Type of the JSON response; None if the operation sends an image or another file.
        status: Status code of a successful response.
        query: Dataclass of the query parameters.
        headers: Names of the supported request headers.
        body: Type of the JSON body, or `UploadFile`.
        may_lack_body: True if the body is optional.
        is_paged: True if the response is a page with a `Link` header.
        example: Example body of the 200 response.
        is_cacheable: True if the 200 response has an `ETag`, so that 304 is possible.
        media_type: Media type of the response, if it is neither JSON nor an image.
    """

    method: Method
    run: Run
    refusals: tuple[int, ...]
    _: KW_ONLY
    answer: Any = None
    status: int = 200
    query: type | None = None
    headers: tuple[str, ...] = ()
    body: Any = None
    may_lack_body: bool = False
    is_paged: bool = False
    example: object = None
    is_cacheable: bool = False
    media_type: str | None = None


class OperationRouter(APIRouter):
    """Router for operations with a common path prefix and the same OpenAPI tag."""

    def __init__(self, prefix: str, *, tag: str) -> None:
        super().__init__(
            prefix=prefix, tags=[tag], route_class=OperationRoute, dependencies=[BEARER]
        )

    def add(self, path: str, *operations: Operation, passes: Sequence[Method] = ()) -> None:
        """Route the methods of `path` to `operations`, and respond 405 to all other methods.

        If several routes match a request, the one that was added first handles it. Methods in
        `passes` do not get 405, because a route that is added later handles them. Percent-encoded
        route names do not match; see `OperationRoute`.
        """
        for operation in operations:
            has_body = operation.method != "HEAD"
            statuses = operation.refusals if has_body else (*operation.refusals, 422)
            responses = image_responses if operation.answer is None else error_responses
            if operation.media_type is not None:
                responses = functools.partial(file_responses, operation.media_type)
            self.add_api_route(
                path,
                _endpoint(operation, path),
                methods=[operation.method],
                status_code=operation.status,
                response_model=operation.answer,
                response_class=Response if operation.answer is None else JSONResponse,
                responses={
                    **(not_modified_response() if operation.is_cacheable else {}),
                    **responses(*statuses, has_body=has_body),
                },
                openapi_extra=openapi_extra(
                    *operation.headers,
                    has_body=has_body,
                    is_paged=operation.is_paged,
                    example=operation.example,
                ),
            )
        allowed = sorted((operation.method for operation in operations), key=_METHODS.index)
        refused = _UNSUPPORTED_METHODS.union(_METHODS).difference(passes) if passes else None
        endpoint = MethodNotAllowed(", ".join(allowed))
        self.routes.append(Route(self.prefix + path, endpoint, methods=refused))


def _endpoint(operation: Operation, path: str) -> Run:
    """Return a handler whose signature contains the parameters that FastAPI documents."""

    @functools.wraps(operation.run)
    async def endpoint(request: Request) -> Response:
        return await operation.run(request)

    # https://peps.python.org/pep-0362/#signature-object; mypy does not support the attribute.
    endpoint.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=place, annotation=kind)
            for name, kind, place in _parameters(operation, path)
        ]
    )
    return endpoint


def _parameters(operation: Operation, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name, type and FastAPI field of each path or query parameter and of the body."""
    for name in compile_path(path)[2]:
        example = _PATH_EXAMPLES.get(name)
        yield (
            name,
            str,
            Path(examples=[example]) if example else Path(json_schema_extra={"format": "uuid"}),
        )
    query = operation.query
    for name, parameter in parameters_of(query).items() if query is not None else ():
        schema = dict(parameter.schema)
        default = schema.pop("default", None)
        text = parameter.description or None
        yield name, Any, Query(default, description=text, json_schema_extra=schema)
    if operation.body is UploadFile:
        yield "file", UploadFile, File(json_schema_extra={"format": "binary"})
    elif operation.body is not None:
        body = Body(None) if operation.may_lack_body else Body()
        yield "wanted", operation.body, body
