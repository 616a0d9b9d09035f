"""Command `stillroom verify`, which compares stored images with their recorded SHA-256."""

import asyncio
import contextlib
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stillroom.cli.display import key_prefixes, run_until_signal
from stillroom.cli.exits import FAILED, STOPPED
from stillroom.cli.options import DATA_DIR, PREFIX, RATE, flag, json_option, read_settings
from stillroom.cli.output import counted, erase_line, size_text
from stillroom.errors import ConfigurationError

if TYPE_CHECKING:
    from stillroom.maintenance.verify import Verification, VerificationFinding, VerificationProgress

_SAVE_EVERY_S: Final = 2.0


@click.command()
@PREFIX
@flag("--quarantine", help="Move damaged images into quarantine, where no client can read them.")
@flag("--adopt", help="Record the hashes of images that have none (disk only).")
@RATE
@flag("--restart", help="Start from the beginning instead of resuming.")
@json_option("One JSON document on standard output.")
@DATA_DIR
def verify(
    prefix: str,
    *,
    rate: float | None,
    restart: bool,
    as_json: bool,
    data_dir: str | None,
    **options: bool,  # see `Verification`
) -> None:
    """Verify stored images against their recorded SHA-256 and report discrepancies.

    Without a prefix, this includes the media library and the trash. Servers may run meanwhile. The
    exit status is 0 if all is right, 1 if there are problems, 2 if the command could not run, and
    3 if it was stopped. To resume, run the same command again.
    """
    from stillroom.assembly import opened_inspection
    from stillroom.maintenance.rate_limiter import RateLimiter
    from stillroom.maintenance.verify import Verification

    settings = read_settings(data_dir)

    async def run() -> int:
        async with opened_inspection(settings) as store:
            await store.check()
            prefixes = key_prefixes(prefix, store.trash_prefix)
            subject = f"{store.description}, {prefixes[0].text}"
            resume = _SavedProgress(settings.data_dir / ".stillroom/verify.json", subject)
            progress = resume.load(restart=restart)
            verification = Verification(
                store,
                prefixes,
                progress=progress,
                rate_limit=RateLimiter(rate),
                on_finding=lambda finding: None if as_json else _print_finding(finding),
                **options,
            )
            if progress.images:
                click.echo(f"resuming after {progress.after!r}", err=True)
            finished = await _run(verification, resume)
        _print_result(progress, finished=finished, as_json=as_json)
        if not finished:
            return STOPPED
        return FAILED if progress.problems else 0

    sys.exit(asyncio.run(run()))


async def _run(verification: "Verification", resume: "_SavedProgress") -> bool:
    store, prefixes, progress = verification.store, verification.prefixes, verification.progress
    saved_at = time.monotonic()

    def save() -> None:
        nonlocal saved_at
        if time.monotonic() - saved_at > _SAVE_EVERY_S:
            saved_at = time.monotonic()
            with contextlib.suppress(OSError):  # only a little progress is lost
                resume.save(progress)

    try:
        task = await run_until_signal(verification.run(), store, prefixes, progress, save)
        with contextlib.suppress(asyncio.CancelledError):
            task.result()
    finally:
        with contextlib.suppress(OSError):
            resume.save(progress)
    if not task.cancelled():
        resume.file.unlink(missing_ok=True)
    return not task.cancelled()


@dataclass(frozen=True, slots=True)
class _SavedProgress:
    """File with the progress of a verification, from which the next process resumes."""

    file: Path
    subject: str

    def load(self, *, restart: bool) -> "VerificationProgress":
        from pydantic import TypeAdapter

        from stillroom.maintenance.verify import VerificationProgress

        progress = VerificationProgress()
        if not restart:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                kept = json.loads(self.file.read_text())
                is_same = kept.pop("subject") == self.subject
                if is_same and {"counts", "findings"} <= kept.keys() <= asdict(progress).keys():
                    progress = TypeAdapter(VerificationProgress).validate_python(kept)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            self.save(progress)
        except OSError as error:
            raise ConfigurationError(
                f"{str(self.file)!r} cannot be written ({error.strerror}): "
                "set STILLROOM_DATA_DIR to a folder that this user may write to"
            ) from error
        return progress

    def save(self, progress: "VerificationProgress") -> None:
        new = self.file.with_name(f"verify.json.{os.getpid()}")
        new.write_text(json.dumps({"subject": self.subject, **asdict(progress)}))
        new.replace(self.file)


def _print_finding(finding: "VerificationFinding") -> None:
    if finding.kind == "unknown":
        return  # images without a recorded SHA-256 are only counted
    moved = f"; moved to {finding.quarantined}" if finding.quarantined else ""
    erase_line()
    click.echo(f"{finding.kind}  {finding.name}: {finding.detail}{moved}")


def _print_result(progress: "VerificationProgress", *, finished: bool, as_json: bool) -> None:
    if as_json:
        known = {
            "finished": finished,
            "images": progress.images,
            "bytes": progress.size,
            "adopted": progress.adopted,
            "problems": progress.problems,
            "counts": progress.counts,
            "findings": [asdict(finding) for finding in progress.findings],
            "findings_left_out": sum(progress.counts.values()) - len(progress.findings),
        }
        click.echo(json.dumps(known, indent=1))
        return
    counts = ", ".join(f"{count:,} {kind}" for kind, count in progress.counts.items())
    click.echo(
        f"{counted(progress.images, 'image')}, {size_text(progress.size)}: "
        + (counts or ("all right" if progress.images else "nothing to verify"))
        + (f", hash of {counted(progress.adopted, 'image')} recorded" if progress.adopted else "")
        + ("" if finished else "; stopped; run the same command again to resume")
    )
    if any(finding.quarantined for finding in progress.findings):
        click.echo("run `stillroom index rebuild`: searches still find moved images", err=True)
    elif progress.counts.keys() - {"stray", "unknown"}:
        click.echo("move bad images away with --quarantine (docs/reliability.md#verify)", err=True)
