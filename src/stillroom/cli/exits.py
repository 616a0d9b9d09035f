"""Exit statuses of the commands, as listed in docs/cli.md, and hints that follow error messages."""

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from stillroom import errors
from stillroom.errors import StillroomError

FAILED: Final = 1
INTERRUPTED: Final = 130
"""Exit status after Ctrl-C: 128 plus 2, the number of the signal SIGINT, as in shells."""

STOPPED: Final = 3
"""Exit status of `verify` and `migrate` after a signal. Run the same command again to resume."""

_CODES: Final[dict[type[StillroomError], int]] = {
    errors.ConfigurationError: 2,
    errors.InvalidInput: 2,
    errors.ImplausibleScan: 2,
    errors.ImageNotFound: 3,
    errors.RunNotFound: 3,
    errors.TrashNotFound: 3,
    errors.ResourceNotFound: 3,
    errors.Unauthenticated: 4,
    errors.Forbidden: 4,
    errors.BackendUnavailable: 5,
}

_HINTS: Final[dict[type[StillroomError], str]] = {
    errors.Unauthenticated: "set STILLROOM_TOKEN, or use --token or --profile; `stillroom token` "
    "creates a token where the server's secret is",
    errors.Forbidden: "use a token whose scope and prefix cover this",
    errors.ImageNotFound: "`stillroom ls` shows what there is",
    errors.RunNotFound: "`stillroom runs ls` shows what there is",
    errors.TrashNotFound: "`stillroom trash ls` shows paths and, with --json, ids",
    errors.RunConflict: "`stillroom runs show` shows what there is",
    errors.ResourceNotFound: "`stillroom media ls` shows what there is",
    errors.BackendUnavailable: "run the same command again to resume",
    errors.StorageFull: "free some space, then run the same command again",
    errors.PathConflict: "end the target with a slash to save into a folder, or delete what is in "
    "the way",
    errors.TooLarge: "raise STILLROOM_MAX_UPLOAD_BYTES of the server",
}


def code_of(error: Exception) -> int:
    """Return the exit status of a command that failed with this error."""
    outcomes = getattr(error, "outcomes", ())  # of `SomeFailed`
    codes = {code_of(outcome.error) for outcome in outcomes if outcome.error is not None}
    if codes in ({4}, {5}):  # all images failed for the same reason
        return codes.pop()
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), FAILED)


def own_secret_file() -> Path:
    """Return the file with the generated token secret of the server on this machine, if any."""
    return Path(os.environ.get("STILLROOM_DATA_DIR") or "stillroom-data", ".stillroom", "secret")


def hint_of(error: BaseException | None) -> str:
    """Return a hint on how to fix an error, in brackets, or an empty string if there is none."""
    if getattr(error, "code", "") == "unreachable":  # the server starts without the SDK
        return " (check --url or STILLROOM_URL, then run the same command again)"
    outcomes = getattr(error, "outcomes", ())  # of `SomeFailed`
    failed = [error, *(outcome.error for outcome in outcomes)]
    hints = (hint for kind, hint in _HINTS.items() for each in failed if isinstance(each, kind))
    hint = next(hints, "")
    is_refused, name = getattr(error, "code", "") == "unauthenticated", "STILLROOM_JWT_SECRET"
    if is_refused and not os.environ.get(name) and (file := own_secret_file()).exists():
        hint += f"; if the server has {name}, set it here, too: {str(file)!r} is then stale"
    return hint and f" ({pasteable(hint)})"


def pasteable(text: str) -> str:
    """Return a text whose commands run in a shell, even if `stillroom` is not on the `PATH`."""
    program = sys.argv[0]
    if Path(program).name == "stillroom" and shutil.which("stillroom") is None:
        return text.replace("`stillroom ", f"`{program} ")
    return text
