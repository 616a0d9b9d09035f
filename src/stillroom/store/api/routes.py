"""Decorator for operations of the API, and the router that is created from them."""

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Final, Literal, Self, TypeVar, get_args

from fastapi import APIRouter, Body, File, Path, Query, Request, Response, UploadFile
from fastapi.responses import JSONResponse
from starlette.routing import Route, compile_path

from stillroom.store.api import document
from stillroom.store.api.operation import OperationRoute, Run
from stillroom.store.api.responses import MethodNotAllowed
from stillroom.store.hooks import NO_HOOKS, Hooks, RequestHeader
from stillroom.store.http.parameters import parameters_of
from stillroom.wire.shown import FOLDER_EXAMPLE, PATH_EXAMPLE

Handler = TypeVar("Handler", bound=Callable[..., object])
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]

_PATH_EXAMPLES: Final = {"path": PATH_EXAMPLE, "folder": FOLDER_EXAMPLE}  # others are UUIDs
_UNSUPPORTED_METHODS: Final = frozenset(("CONNECT", "OPTIONS", "TRACE"))  # of no operation
_MARK: Final = "stillroom_operation"  # attribute with which `Operation` decorates a handler
_METHODS: Final[tuple[Method, ...]] = get_args(Method)


@dataclass(frozen=True, slots=True)
class Operation:
    """Decorator for a handler of one HTTP method and path, with its OpenAPI metadata.

    The OpenAPI document contains the name and the docstring of the handler.
    """

    method: Method
    path: str  # path after the prefix of the router
    refusals: tuple[int, ...]  # status codes of errors, except those that `statuses` adds
    _: KW_ONLY
    answer: Any = None  # type of the JSON response; None for an image or another file
    status: int = 200
    query: type | None = None  # dataclass of the query parameters
    headers: tuple[str | RequestHeader, ...] = ()  # supported request headers
    hooks: Literal["read", "save"] | None = None  # kind of the hooks that extend the operation
    hook_queries: tuple[type, ...] = ()  # dataclasses of the query parameters of read hooks
    body: Any = None  # type of the JSON body, `UploadFile` for a form, or `bytes` for a file
    may_lack_body: bool = False
    is_paged: bool = False  # True if the response is a page with a `Link` header
    example: object = None  # example body of the 200 response
    is_cacheable: bool = False  # True if the 200 response has an `ETag`, so that 304 is possible
    media_type: str | None = None  # media type of the response, if it is neither JSON nor an image
    passes: tuple[Method, ...] = ()  # methods of this path that a later route handles (no 405)
    needs_token: bool = True  # False if requests are authorized in another way

    def __call__(self, handler: Handler) -> Handler:
        """Attach the metadata to a handler."""
        handler.__dict__[_MARK] = self
        return handler

    def with_hooks(self, hooks: Hooks) -> Self:
        """Return a copy of this operation that documents the query or header fields of `hooks`."""
        if self.hooks == "read":
            return replace(self, hook_queries=tuple(hook.query for hook in hooks.read))
        if self.hooks == "save":
            documented = [header for header in hooks.save_headers if header.description]
            return replace(self, headers=(*self.headers, *documented))
        return self

    @property
    def statuses(self) -> list[int]:
        """Status codes of errors except 422. FastAPI documents 422 itself, but not for HEAD."""
        token = (401, 403) if self.needs_token else (403,)
        body = () if self.body in (None, UploadFile, bytes) else (413, 415)  # of a JSON body
        return sorted({*self.refusals, *token, *body})

    def add_to(self, router: APIRouter, run: Run) -> None:
        """Add a route for this operation to `router`. `run` handles the requests."""
        has_body = self.method != "HEAD"
        statuses = self.statuses if has_body else (*self.statuses, 422)
        is_image = self.answer is None and self.media_type is None
        describe = document.image_responses if is_image else document.error_responses
        responses = describe(*statuses, has_body=has_body)
        if self.is_cacheable:
            responses = {**document.NOT_MODIFIED, **responses}
        if self.media_type is not None:
            responses = {**document.file_response(self.media_type), **responses}
        router.add_api_route(
            self.path,
            _endpoint(self, run),
            methods=[self.method],
            status_code=self.status,
            dependencies=[document.BEARER] if self.needs_token else [],
            response_model=self.answer,
            response_class=Response if self.answer is None else JSONResponse,
            responses=responses,
            openapi_extra=document.openapi_extra(
                *self.headers, has_body=has_body, is_paged=self.is_paged, example=self.example
            ),
        )


def operation_router(prefix: str, operations: object, *, tag: str) -> APIRouter:
    """Return a router for the methods of an object that are decorated with `Operation`.

    Requests with other HTTP methods get 405.
    """
    router = APIRouter(prefix=prefix, tags=[tag], route_class=OperationRoute)
    paths: dict[str, list[tuple[Operation, Run]]] = {}
    for name, method in vars(type(operations)).items():
        operation: Operation | None = getattr(method, _MARK, None)
        if operation is not None:
            operation = operation.with_hooks(getattr(operations, "hooks", NO_HOOKS))
            paths.setdefault(operation.path, []).append((operation, getattr(operations, name)))
    for path, handlers in paths.items():
        for operation, run in handlers:
            operation.add_to(router, run)
        allowed = sorted((operation.method for operation, _ in handlers), key=_METHODS.index)
        passes = handlers[0][0].passes
        refused = _UNSUPPORTED_METHODS.union(_METHODS).difference(passes) if passes else None
        router.routes.append(
            Route(prefix + path, MethodNotAllowed(", ".join(allowed)), methods=refused)
        )
    return router


def _endpoint(operation: Operation, run: Run) -> Run:
    @functools.wraps(run)
    async def endpoint(request: Request) -> Response:
        return await run(request)

    # https://peps.python.org/pep-0362/#signature-object; mypy does not support the attribute.
    endpoint.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=place, annotation=kind)
            for name, kind, place in _parameters(operation)
        ]
    )
    return endpoint


def _parameters(operation: Operation) -> Iterator[tuple[str, Any, Any]]:
    for name in compile_path(operation.path)[2]:
        example = _PATH_EXAMPLES.get(name)
        uuid: dict[str, Any] = {"json_schema_extra": {"format": "uuid"}}
        yield name, str, Path(**({"examples": [example]} if example else uuid))
    queries = filter(None, (operation.query, *operation.hook_queries))
    for name, parameter in (item for query in queries for item in parameters_of(query).items()):
        schema = dict(parameter.schema)
        default = schema.pop("default", None)
        text = parameter.description or None
        yield name, Any, Query(default, description=text, json_schema_extra=schema)
    if operation.body is UploadFile:
        yield "file", UploadFile, File(json_schema_extra={"format": "binary"})
    elif operation.body is bytes:
        form: dict[str, Any] = {"format": "binary"}
        body = Body(media_type="application/octet-stream", json_schema_extra=form)
        yield "file", bytes, body
    elif operation.body is not None:
        body = Body(None) if operation.may_lack_body else Body()
        yield "wanted", operation.body, body
