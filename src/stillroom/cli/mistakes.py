"""Readable messages for invalid option values. Click's own messages name internal types."""

import click


def explained(error: click.ClickException) -> click.ClickException:
    """Return the error. If an option's value is invalid, replace its message by a readable one."""
    if not isinstance(error, click.BadParameter) or isinstance(error, click.MissingParameter):
        return error
    if not isinstance(error.param, click.Option):
        return error
    option, kind = max(error.param.opts, key=len), error.param.type
    said = error.message
    if isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
        number = "an integer" if isinstance(kind, click.types.IntParamType) else "a number"
        said = f"must be {number}{_bounds(kind)}"
    elif isinstance(kind, click.Choice):
        said = f"must be one of {', '.join(map(str, kind.choices))}"
    colon = "" if said.startswith("must ") else ":"
    return click.UsageError(f"{option}{colon} {said}", ctx=error.ctx)


def _bounds(kind: object) -> str:
    if not isinstance(kind, click.IntRange | click.FloatRange):
        return ""
    return f" of at least {kind.min}" if kind.max is None else f" from {kind.min} to {kind.max}"
