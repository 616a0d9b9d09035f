"""Generator of the asynchronous classes of `stillroom.client`: `make async-client` writes them.

The synchronous classes are written by hand. This script changes their syntax trees: a method that
waits becomes `async def`, the calls that it waits for get `await`, and its docstring refers to the
synchronous method. mypy reports an `await` that is missing in the result.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

CLIENT: Final = Path(__file__).parents[1] / "src/stillroom/client"

FILES: Final = {
    "downloading.py": "async_downloading.py",
    "library.py": "async_library.py",
    "one_image.py": "async_one_image.py",
    "retrying_sender.py": "async_retrying_sender.py",
    "runs.py": "async_runs.py",
    "saving.py": "async_saving.py",
    "sender.py": "async_sender_base.py",
    "sync.py": "asynchronous.py",
}
"""Names of the generated files, by the names of their sources."""

RENAMED: Final = {
    "DownloadCalls": "AsyncDownloadCalls",
    "ImageStore": "AsyncImageStore",
    "Iterator": "AsyncIterator",
    "MediaLibrary": "AsyncMediaLibrary",
    "OneImageCalls": "AsyncOneImageCalls",
    "RetryingSender": "AsyncRetryingSender",
    "Run": "AsyncRun",
    "SaveCalls": "AsyncSaveCalls",
    "Sender": "AsyncSender",
    "Sends": "AsyncSends",
    "__enter__": "__aenter__",
    "__exit__": "__aexit__",
    "client.close": "client.aclose",
    "httpx.BaseTransport": "httpx.AsyncBaseTransport",
    "httpx.Client": "httpx.AsyncClient",
    "response.close": "response.aclose",
    "response.iter_bytes": "response.aiter_bytes",
    "response.read": "response.aread",
    "stillroom.client.downloading": "stillroom.client.async_downloading",
    "stillroom.client.library": "stillroom.client.async_library",
    "stillroom.client.one_image": "stillroom.client.async_one_image",
    "stillroom.client.retrying_sender": "stillroom.client.async_retrying_sender",
    "stillroom.client.runs": "stillroom.client.async_runs",
    "stillroom.client.saving": "stillroom.client.async_saving",
    "stillroom.client.sender": "stillroom.client.async_sender",
    "stillroom.client.threads": "stillroom.client.tasks",
    "time.sleep": "anyio.sleep",
}

AWAITED: Final = {
    "Workers(concurrency).run",
    "client.close",
    "client.send",
    "response.close",
    "response.read",
    "self.__enter__",
    "self._end",
    "self._head",
    "self._save",
    "self._sender.close",
    "self._sender.remove",
    "self._sender.request",
    "self._sender.send",
    "self._sender.send_once",
    "self.close",
    "self.exists",
    "self.media.ingest",
    "self.send",
    "self.stat",
    "time.sleep",
    "workers.run",
}
"""Asynchronous functions in the result, in addition to the methods that call one of them."""

ITERATED: Final = {
    *(
        "form.upload.chunks",
        "response.iter_bytes",
        "self._sender.cursor_items",
        "self._sender.items",
    )
}
"""Functions that return an asynchronous iterator in the result."""

BLOCKING: Final = {"file.exists", "file.read", "is_same", "sink.write", "sinks.check_archive"}
"""Functions that a thread calls."""

ENTERED_IN_THREAD: Final = {"fetched", "opened"}
"""Context managers that a thread enters."""

ITERATED_IN_THREAD: Final = {"form.upload.chunks"}
"""Iterators that a thread reads."""

DOCSTRINGS: Final = {
    "ImageStore": (
        "Client of a Stillroom server for one event loop, with the methods of `ImageStore`.\n\n"
        "    Files are hashed, read and written in threads, so that the event loop is not blocked."
        "\n    "
    ),
    "ImageStore.__init__": (
        "See `ImageStore`. Pass `httpx.ASGITransport(app)` to use an app in this process."
    ),
    "ImageStore.ingest": "See `MediaLibrary.ingest`.",
    "ImageStore.open": "See `ImageStore.open`. The returned file is not asynchronous: it needs no "
    "`await`.",
    "ImageStore.run": "See `ImageStore.run`; use the result with `async with`.",
    "ImageStore.save": "See `ImageStore.save`; `progress` is called on the event loop.",
    "ImageStore.save_many": "See `ImageStore.save_many`; `each` and `progress` are called on the "
    "event loop.",
    "ImageStore.save_url": "See `ImageStore.save_url`; a thread fetches the URL.",
    "MediaLibrary": "Asynchronous version of `MediaLibrary`, available as `AsyncImageStore.media`.",
    "DownloadCalls": "Base class of `AsyncImageStore` with the methods that download images.",
    "OneImageCalls": (
        "Base class of `AsyncImageStore` with the methods that do not transfer bytes of images."
    ),
    "RetryingSender": "Asynchronous version of `RetryingSender`.",
    "SaveCalls": "Base class of `AsyncImageStore` with the methods that save an image.",
    "Run": "Asynchronous version of `Run`.",
    "Run.path": "Return the path of the image `name` in this run.",
    "Sender": "Connection pool for one server. Each process has its own pool.",
    "Sender.close": "See `Sends.close`.",
    "Sender.send": "See `Sends.send`.",
    "Sends": "Asynchronous version of `Sends`.",
    "pieces": "Yield the body of a multipart request; the file is read in a thread.",
    "write_chunk": "Write a chunk to the sink in a thread, then call the progress callback.",
}
"""Docstrings of the result that do more than refer to the synchronous method."""

_IMPORTS: Final = """
import anyio
from collections.abc import Awaitable
from stillroom.client.tasks import entered_in_thread, in_thread, iterated_in_thread
"""


def generated(source: str) -> str:
    """Return the text of the file that is generated from a source."""
    tree = ast.parse((CLIENT / source).read_text("utf-8"))
    changed = _Asynchronous(tree).visit(tree)
    changed.body[0] = ast.parse(
        f'"""Asynchronous version of `stillroom.client.{Path(source).stem}`."""'
    ).body[0]
    changed.body[1:1] = ast.parse(_IMPORTS).body
    text = f"# Generated by scripts/async_client.py from {source}: do not edit.\n"
    text += ast.unparse(ast.fix_missing_locations(changed))
    name = str(CLIENT / FILES[source])
    unused_and_unsorted = ("check", "--quiet", "--fix", "--select", "F401,I", "--unsafe-fixes")
    for command in (unused_and_unsorted, ("format",)):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", name, "-"]
        text = subprocess.run(  # noqa: S603  (the formatter)
            ruff, input=text, capture_output=True, text=True, check=True
        ).stdout
    return text


class _Asynchronous(ast.NodeTransformer):
    """Changes of the syntax tree of one source."""

    def __init__(self, tree: ast.Module) -> None:
        self._class = ""
        functions = [(node.name, node) for node in tree.body if isinstance(node, ast.FunctionDef)]
        functions += [
            (f"self.{method.name}", method)
            for node in tree.body
            if isinstance(node, ast.ClassDef)
            for method in node.body
            if isinstance(method, ast.FunctionDef)
        ]
        self._waiting = set(AWAITED)
        size = 0
        while len(self._waiting) > size:
            size = len(self._waiting)
            waits = self._waiting | ITERATED | BLOCKING | ENTERED_IN_THREAD
            self._waiting |= {name for name, function in functions if waits & set(_calls(function))}
        self._iterators = ITERATED | {
            name
            for name, function in functions
            if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(function))
        }

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.JoinedStr:
        # From Python 3.12 on, `ast.unparse` may reuse the outer quote in these; 3.11 refuses that.
        for part in ast.walk(node):
            if isinstance(part, ast.FormattedValue) and any(
                isinstance(inner, ast.Constant) and isinstance(inner.value, str)
                for inner in ast.walk(part.value)
            ):
                raise ValueError(f"line {node.lineno}: assign the string in braces to a name first")
        self.generic_visit(node)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self._class = "ImageStore" if node.name.endswith("Calls") else node.name
        _replace_docstring(node, DOCSTRINGS[node.name])
        self.generic_visit(node)
        self._class = ""
        node.name = RENAMED[node.name]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        name = f"{self._class}.{node.name}" if self._class else node.name
        if name in DOCSTRINGS or (self._class and not node.name.startswith("_")):
            _replace_docstring(node, DOCSTRINGS.get(name, f"See `{name}`."))
        is_waiting = (f"self.{node.name}" if self._class else node.name) in self._waiting
        self.generic_visit(node)
        node.name = RENAMED.get(node.name, node.name)
        if not is_waiting:
            return node
        fields: dict[str, Any] = {field: getattr(node, field, None) for field in node._fields}
        return ast.AsyncFunctionDef(**fields)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = ast.unparse(node.func)
        self.generic_visit(node)
        if name in BLOCKING:
            return ast.Await(
                ast.Call(ast.Name("in_thread"), [node.func, *node.args], node.keywords)
            )
        if name in ITERATED_IN_THREAD:
            return ast.Call(ast.Name("iterated_in_thread"), [node], [])
        return ast.Await(node) if name in self._waiting - self._iterators else node

    def visit_With(self, node: ast.With) -> ast.AST:
        is_entered = not ENTERED_IN_THREAD.isdisjoint(_calls(node.items[0]))
        self.generic_visit(node)
        if not is_entered:
            return node
        item = node.items[0]
        manager = ast.Call(ast.Name("entered_in_thread"), [item.context_expr], [])
        return ast.AsyncWith([ast.withitem(manager, item.optional_vars)], node.body)

    def visit_For(self, node: ast.For) -> ast.AST:
        is_asynchronous = not self._iterators.isdisjoint(_calls(node.iter))
        self.generic_visit(node)
        kind = ast.AsyncFor if is_asynchronous else ast.For
        return kind(node.target, node.iter, node.body, node.orelse)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """Replace `yield from`, which asynchronous functions do not have, by a loop."""
        if not isinstance(node.value, ast.YieldFrom):
            return self.generic_visit(node)
        item = ast.Name("item")
        loop = ast.For(item, node.value.value, [ast.Expr(ast.Yield(item))], [])
        return self.visit_For(loop)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Change the type of a method that is passed: `Callable[..., T]`."""
        self.generic_visit(node)
        text = ast.unparse(node)
        if text.startswith("Callable[..., "):
            text = f"Callable[..., Awaitable[{text.removeprefix('Callable[..., ')}]"
            return ast.parse(text, mode="eval").body
        return node

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(RENAMED.get(node.id, node.id))

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        name = ast.unparse(node)
        if name in RENAMED:
            return ast.parse(RENAMED[name], mode="eval").body
        return self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        module = node.module or ""
        names = [ast.alias(RENAMED.get(one.name, one.name), one.asname) for one in node.names]
        return ast.ImportFrom(RENAMED.get(module, module), names, node.level)


def _calls(node: ast.AST) -> Iterator[str]:
    """Yield the names of the functions that are called within a node."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call):
            yield ast.unparse(inner.func)


def _replace_docstring(node: ast.ClassDef | ast.FunctionDef, text: str) -> None:
    if ast.get_docstring(node) is not None:
        node.body[0] = ast.Expr(ast.Constant(text))


if __name__ == "__main__":
    for source, name in FILES.items():
        (CLIENT / name).write_text(generated(source), "utf-8")
