"""Option type for generation parameters."""

import json
from pathlib import Path
from typing import Any

import click


def json_or_file(text: str) -> dict[str, Any]:
    """Parse an option value that is a JSON object or the name of a file that contains one."""
    if not text.lstrip().startswith("{"):
        try:
            text = Path(text).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(
                f"neither a JSON object nor a file that can be read: {error}"
            ) from error
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise click.BadParameter('a JSON object is needed, such as {"prompt": "a fox", "seed": 7}')
    return found
