"""Docstrings of the code that ships: where they stand, and how they begin."""

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src/stillroom"


def test_no_function_has_two_docstrings() -> None:
    doubled = [
        f"{file.relative_to(SOURCE)}:{node.name}"
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and sum(map(_is_text, node.body[:2])) > 1
    ]

    assert doubled == []


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
