"""The option that says how an image was made."""

import json
from pathlib import Path
from typing import Any, Final

import click


class _Facts(click.ParamType):  # type: ignore[type-arg]  # click is generic only since 8.4
    """A JSON object, or the name of a file that holds one."""

    name = "JSON|FILE"

    def convert(self, value: Any, param: Any, ctx: Any) -> dict[str, Any]:  # noqa: ANN401  (click's signature)
        """Read an option's text, or the file that it names."""
        text = str(value)
        if not text.lstrip().startswith("{"):
            try:
                text = Path(text).read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                self.fail(f"neither a JSON object nor a file that can be read: {error}", param, ctx)
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            self.fail(f"no JSON: {error}", param, ctx)
        if not isinstance(found, dict):
            self.fail('a JSON object is needed, such as {"prompt": "a fox", "seed": 7}', param, ctx)
        return found


FACTS: Final = _Facts()
