"""Messages about optional packages that are not installed."""

from typing import Final

_DISTRIBUTIONS: Final = {"PIL": "pillow", "dotenv": "python-dotenv", "jwt": "pyjwt"}
"""Package names by module name, if the two differ."""


def not_installed(*modules: str) -> str:
    """Return a message that names the missing packages and the extra that installs them."""
    *others, last = (_DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in modules)
    names = f"{', '.join(others)} and {last} are" if others else f"{last} is"
    part, extra = "its server", "server"
    if modules == ("psycopg",):
        part, extra = "its driver for PostgreSQL", "postgres"
    return (
        f"{names} not installed: install Stillroom with {part}, such as "
        f"`pip install '.[{extra}]'` in a checkout (other ways: docs/installing.md)"
    )
