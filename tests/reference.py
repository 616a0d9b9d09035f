"""The pages of docs/reference, made from the code: `make reference` writes, a test compares."""

import ast
import inspect
import itertools
import os
import re
import sys
import tempfile
import textwrap
import typing
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from stillroom.app import create_app
from stillroom.settings import AllSettings
from stillroom.store.settings import MIB

FOLDER: Final = Path(__file__).parents[1] / "docs/reference"
_MADE: Final = "<!-- Made from the code by `make reference`; a change by hand is lost. -->"
Row = tuple[str, str, str]
_METHODS: Final = ("get", "head", "post", "patch", "put", "delete")


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    cells = [head, ("---",) * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]


# Settings


def settings() -> str:
    said = docstrings()
    rows = [
        (
            f"`{field.validation_alias}`",
            ", ".join((type_of(field.annotation), *bounds_of(field.metadata))),
            default_of(field.get_default()),
            linked(said.get(name, "")),
        )
        for name, field in AllSettings.model_fields.items()
    ]
    lines = [
        "# Configuration",
        _MADE,
        "Every setting is an environment variable, read once at the start. An empty one counts as",
        "none, and a value that cannot work stops the start. How to set them:",
        "[running.md](../running.md#settings).",
        "",
        *table(("Variable", "Type", "Default", "Meaning"), rows),
    ]
    return page(lines)


def linked(text: str) -> str:
    """The pages that a docstring names, as links from this folder."""
    return re.sub(
        r"docs/(([\w./-]+?\.md)(?:#[\w-]+)?)(?=[\s.,;:)]|$)",
        lambda found: f"[{found[2]}](../{found[1]})",
        text,
    )


def docstrings() -> dict[str, str]:
    ours = [kind for kind in AllSettings.__mro__[1:] if kind.__module__.startswith("stillroom.")]
    classes = [ast.parse(inspect.getsource(kind)).body[0] for kind in ours]
    bodies = [itertools.pairwise(one.body) for one in classes if isinstance(one, ast.ClassDef)]
    found = {}
    for node, below in itertools.chain.from_iterable(bodies):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            match below:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[node.target.id] = " ".join(text.split())
    return found


def type_of(annotation: Any) -> str:
    names = {
        "str": "text",
        "int": "whole number",
        "float": "number",
        "bool": "`true` or `false`",
        "Path": "path",
        "SecretStr": "secret text",
        "timedelta": "duration: `90s`, `15m`, `12h`, `30d`",
    }
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    if typing.get_origin(annotation) in (list, Sequence):
        return f"{type_of(arguments[0])}, several separated by commas"
    if arguments:
        return " or ".join(type_of(one) for one in arguments if one is not type(None))
    return names[annotation.__name__]


def default_of(value: Any) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value in (None, "", [], (), PydanticUndefined):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, timedelta):
        return f"`{value / timedelta(days=1):g}d`"
    if isinstance(value, int) and value and value % MIB == 0:
        return f"`{value}` ({value // MIB} MiB)"
    return f"`{value}`"


def bounds_of(metadata: list[Any]) -> Iterable[str]:
    for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
        for one in metadata:
            if (bound := getattr(one, name, None)) is not None:
                yield f"{sign} {bound}"


# Metrics


def metrics() -> str:
    openapi()  # features register their metrics when they are opened
    known = [one for one in REGISTRY._collector_to_names if isinstance(one, MetricWrapperBase)]
    ours = [metric for metric in known if metric._name.startswith("stillroom_")]
    rows = [
        (
            f"`{metric._name}{'_total' if metric._type == 'counter' else ''}`",
            str(metric._type),
            ", ".join(f"`{label}`" for label in metric._labelnames),
            metric._documentation,
        )
        for metric in sorted(ours, key=lambda metric: metric._name)
    ]
    lines = [
        "# Metrics",
        _MADE,
        "What `/metrics` has, over all workers of a server. Which to look at when:",
        "[observing.md](../observing.md). Units are in the names: seconds, bytes; `_total` only",
        "grows. A histogram has `_bucket`, `_sum` and `_count`. With one worker there are the",
        "usual `process_` and `python_` numbers besides.",
        "",
        *table(("Name", "Type", "Labels", "Meaning"), rows),
    ]
    return page(lines)


# The API


def api() -> str:
    document = openapi()
    counted = Counter(
        row
        for methods in document["paths"].values()
        for method in _METHODS
        for row in parameters_of(methods.get(method, {}))
    )
    shared = sorted(row for row, count in counted.items() if count > 1)
    lines = [
        "# The API",
        _MADE,
        "What `/openapi.json` says, for reading. How it is used: [api.md](../api.md)",
        "and [media.md](../media.md). All operations take `Authorization: Bearer <token>`.",
        "",
        "## Refusals",
        "",
        "Each operation names the ones that it answers. What to do about each:",
        "[api.md](../api.md#errors).",
        "",
        *table(("Status", "Meaning"), refusals(document)),
        "",
        "## Parameters",
        "",
        "Those of more than one operation, all in the query but for headers.",
        "",
        *table(("Parameter", "Type", "Meaning"), shared),
    ]
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                lines += ["", f"## `{method.upper()} {path}`", ""]
                lines += operation(methods[method], shared)
    lines += ["", "## Schemas"]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += ["", f"### {name}", "", *schema_lines(schema)]
    return page(lines)


def refusals(document: dict[str, Any]) -> list[tuple[str, str]]:
    found = {
        (status, said["description"])
        for methods in document["paths"].values()
        for method in _METHODS
        for status, said in methods.get(method, {}).get("responses", {}).items()
    }
    return sorted(refusal for refusal in found if refusal[0] >= "400")


def openapi() -> dict[str, Any]:
    for name in list(os.environ):
        if name.startswith(("STILLROOM_", "R2_")):
            del os.environ[name]
    with tempfile.TemporaryDirectory() as folder:
        return create_app(AllSettings.read(data_dir=folder)).openapi()


def operation(described: dict[str, Any], shared: Sequence[Row]) -> list[str]:
    """What one operation takes and answers; what its address names goes without saying."""
    lines = [described.get("description") or described["summary"]]
    parameters = parameters_of(described)
    if own := [row for row in parameters if row not in shared]:
        lines += ["", *table(("Parameter", "Type", "Meaning"), own)]
    for content_type, body in described.get("requestBody", {}).get("content", {}).items():
        lines += ["", f"Body: `{content_type}`,", f"{named(body['schema'])}."]
    responses = sorted(described["responses"].items())
    lines.append("")
    if names := " ".join(row[0].strip("`") for row in parameters if row in shared):
        text = f"- [parameters](#parameters): `{names}`"
        lines += textwrap.wrap(text, 120, subsequent_indent="  ")
    lines += [answered(status, said) for status, said in responses if status < "400"]
    refused = " ".join(status for status, _ in responses if status >= "400")
    return [*lines, f"- [refusals](#refusals): `{refused}`"] if refused else lines


def parameters_of(described: dict[str, Any]) -> list[Row]:
    return [
        (
            f"`{one['name']}`",
            typed(one["schema"], required=one.get("required", False))
            + (" (header)" if one["in"] == "header" else ""),
            one.get("description", ""),
        )
        for one in described.get("parameters", ())
        if one["in"] != "path"
    ]


def answered(status: str, said: dict[str, Any]) -> str:
    meaning = said["description"].rstrip(".")
    told = ("" if meaning == "Successful Response" else meaning, *contents(said))
    return f"- `{status}`: " + "; ".join(filter(None, told))


def contents(answer: dict[str, Any]) -> Iterable[str]:
    if len(answer.get("content", {})) > 1:
        yield "the bytes, of their own content type"
        return
    for content_type, content in answer.get("content", {}).items():
        is_json = content.get("schema") and content_type == "application/json"
        yield named(content["schema"]) if is_json else f"`{content_type}`"


def named(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(named(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"array of {named(schema.get('items', {}))}"
    text = str(schema.get("type", "anything"))
    return f"{text} ({schema['format']})" if "format" in schema else text


def schema_lines(schema: dict[str, Any]) -> list[str]:
    lines = [" ".join(schema["description"].split()), ""] if "description" in schema else []
    required = schema.get("required", ())
    rows = [
        (f"`{name}`", typed(one, required=name in required), one.get("description", ""))
        for name, one in schema.get("properties", {}).items()
    ]
    return lines + table(("Field", "Type", "Meaning"), rows)


def typed(schema: dict[str, Any], *, required: bool) -> str:
    if required or schema.get("default") in (None, ""):
        return named(schema) + ("" if required else ", optional")
    return f"{named(schema)}, default {default_of(schema['default'])}"


# All of them


def page(lines: list[str]) -> str:
    """A whole page; a cell of a table is one line."""
    title, made, *rest = lines
    return re.sub(r"[ \t]+\n", "\n", "\n".join([title, "", made, "", *rest]) + "\n")


PAGES: Final[dict[str, Callable[[], str]]] = {
    "settings.md": settings,
    "metrics.md": metrics,
    "api.md": api,
}

if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(exist_ok=True)
    for file, make in PAGES.items():
        (folder / file).write_text(make())
