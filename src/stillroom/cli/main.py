"""Entry point of the command `stillroom`, with its subcommands `serve` and `token`."""

import contextlib
import gc
import sys
from datetime import timedelta
from typing import Any, Final

import click

from stillroom import __version__
from stillroom.cli.exits import FAILED, INTERRUPTED, code_of, hint_of
from stillroom.cli.options import DATA_DIR, Group, LazyCommands, duration, explained, read_settings
from stillroom.cli.output import erase_line
from stillroom.errors import InvalidPath, StillroomError
from stillroom.store.auth.grants import SCOPES, Grant, parse_subject
from stillroom.store.extras import not_installed

_NAMES: Final = ("doctor", "events", "media", "migrate", "profiles", "runs", "trash", "verify")
_MODULES: Final = {
    **dict.fromkeys(("put", "get", "ls", "cat", "rm", "url"), "images"),
    **dict.fromkeys(("cp", "mv", "sync"), "copying"),
    **dict.fromkeys(("show", "du", "unmarked"), "facts"),
    **dict.fromkeys(("facets", "search"), "search"),
    **dict.fromkeys(("index", "retention"), "upkeep"),
    **{name: name for name in (*_NAMES, "webhooks")},
}
"""Modules of the commands. They are imported when needed, because most of them import the SDK,
which would delay the start of the server and of each worker by 0.15 s."""


@click.group(
    cls=Group,
    commands=LazyCommands({name: f"stillroom.cli.{module}" for name, module in _MODULES.items()}),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="stillroom")
def commands() -> None:
    """The image store of an image-generation compute server."""


@commands.command()
@click.option("--host", help="Address to listen on.  [STILLROOM_HOST, 127.0.0.1]")
@click.option("--port", type=int, help="Port; 0 picks a free one.  [STILLROOM_PORT, 8000]")
@click.option("--workers", type=int, help="Worker processes.  [STILLROOM_WORKERS, 1]")
@DATA_DIR
@click.option(
    "--sign-in-link/--no-sign-in-link",
    default=None,
    help="Print a link to the gallery that signs in once.  [on a terminal]",
)
def serve(*, sign_in_link: bool | None, **flags: object) -> None:
    """Start the server, which needs no configuration. Settings are STILLROOM_ and R2_ variables."""
    gc.disable()  # imports then take a fifth less CPU time
    from stillroom.server.serve import serve as run
    from stillroom.settings import AllSettings

    is_wanted = sys.stdout.isatty() if sign_in_link is None else sign_in_link
    run(AllSettings.read(**flags), sign_in_link=is_wanted)


def _subject(name: str) -> str:
    if parse_subject(name) is None:
        raise click.BadParameter("must have 1 to 255 characters, without control characters")
    return name


def _folder(name: str) -> str:
    try:
        return Grant.confined_to(frozenset(), name).folder
    except InvalidPath as error:
        raise click.BadParameter(str(error)) from error


@commands.command()
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="A permission; repeat for several.  [all of them]",
)
@click.option("--prefix", "folder", type=_folder, metavar="TEXT", help="Limit it to this folder.")
@click.option(
    "--subject",
    default="cli",
    show_default=True,
    type=_subject,
    metavar="TEXT",
    help="Name that events show as their actor.",
)
@click.option("--expires", type=duration, default="30d", show_default=True, help="90s 15m 12h 30d")
@DATA_DIR
def token(scopes: tuple[Any, ...], expires: timedelta, data_dir: str | None, **claims: str) -> None:
    """Print a new token, and nothing else, on standard output."""
    from stillroom.cli.server_options import minted_token

    click.echo(minted_token(read_settings(data_dir), expires, scopes=scopes or None, **claims))


_GO_ON: Final = frozenset(("put", "get", "cp", "mv", "rm", "sync", "verify", "migrate"))
"""Commands that resume their work if they are run again after an interruption."""


def main() -> None:
    """Run the command. Print expected errors as one sentence, and set the exit status."""
    try:
        with contextlib.ExitStack() as stack:
            stack.callback(erase_line)
            sys.exit(commands(prog_name="stillroom", standalone_mode=False))
    except click.ClickException as error:
        explained(error).show()
        sys.exit(error.exit_code)
    except click.Abort as error:
        if not isinstance(error.__cause__, KeyboardInterrupt):
            click.echo("Aborted!", err=True)  # the user answered no to a question
            sys.exit(FAILED)
        advice = "; run the same command again to resume" if _GO_ON & {*sys.argv[1:2]} else ""
        click.echo(f"stillroom: interrupted{advice}", err=True)
        sys.exit(INTERRUPTED)
    except (StillroomError, OSError) as error:
        click.echo(f"stillroom: {error}{hint_of(error)}", err=True)
        sys.exit(code_of(error))
    except ModuleNotFoundError as error:
        click.echo(f"stillroom: {_lacking(error)}", err=True)
        sys.exit(2)


def _lacking(error: ModuleNotFoundError) -> str:
    """Return a message about the missing package or feature. Re-raise any other error."""
    match (error.name or "stillroom").split("."):
        case ["stillroom", "features", name, *_]:
            return (
                f"this command needs the feature {name!r}, which is not part of this "
                "installation: install Stillroom again, with all features (docs/installing.md)"
            )
        case ["stillroom", *_]:
            raise error
        case [package, *_]:
            return not_installed(package)
    raise error
