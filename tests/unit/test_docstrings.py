"""Docstrings of the code that ships: where they stand, and how they begin."""

import ast
from pathlib import Path
from typing import Final

SOURCE = Path(__file__).parents[2] / "src/stillroom"
CLAUSES: Final = {
    "What", "Whether", "Where", "Which", "Who", "Whose", "How", "When", "Of", "Those", "That", "As",
    "It", "Since", "Is", "If", "For", "By",
}  # fmt: skip
"""First words of docstrings that neither name a thing nor say what a function does."""


def test_no_function_has_two_docstrings() -> None:
    doubled = [
        f"{file.relative_to(SOURCE)}:{node.name}"
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and sum(map(_is_text, node.body[:2])) > 1
    ]

    assert doubled == []


def test_a_docstring_names_the_thing_or_says_what_it_does() -> None:
    docstrings = {
        f"{file.relative_to(SOURCE)}:{node.body[0].lineno}": text
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and (text := ast.get_docstring(node))
    }

    clauses = [
        f"{place}: {text.splitlines()[0]}"
        for place, text in docstrings.items()
        if text.split()[0].strip(",.:") in CLAUSES
    ]

    assert len(docstrings) > 1000
    assert len(clauses) <= len(docstrings) / 50, clauses


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
