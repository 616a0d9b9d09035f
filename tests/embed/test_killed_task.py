"""The worker of docs/embedding.md, killed in the middle of a task: none or all of its images."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from embed.test_page import BINARIES, blocks, started
from stillroom.local import open_store
from waiting import until_equal

pytestmark = [pytest.mark.slow]

MODEL = "Image.effect_noise((256, 256), 64)"
WAITING = """

def model(at: int) -> Image.Image:
    if at == 1:
        Path(f"waits-{os.getpid()}").touch()
        while not Path("may-end").exists():  # in the middle, until the test lets it go on
            time.sleep(0.05)
    return Image.effect_noise((256, 256), 64)
"""
ORDER = "from tasks import generate; generate.delay(7)"


@pytest.mark.whole
def test_a_worker_killed_in_its_task_leaves_no_part_of_a_run_published_and_another_makes_it_whole(
    tmp_path: Path,
) -> None:
    tasks, _, _ = blocks("python")
    assert tasks.count(MODEL) == 1
    tasks = tasks.replace(MODEL, "model(at)").replace("\n\n\n@celery", f"\n{WAITING}\n\n@celery")
    (tmp_path / "tasks.py").write_text(f"import os\nimport time\nfrom pathlib import Path\n{tasks}")
    (tmp_path / "queue").mkdir()
    environment = {
        **os.environ,
        "STILLROOM_MIN_FREE_BYTES": "0",
        "PATH": f"{BINARIES}:{os.environ['PATH']}",
    }

    def order() -> None:
        subprocess.run([sys.executable, "-c", ORDER], cwd=tmp_path, env=environment, check=True)

    worker = f"{blocks('sh')[0].splitlines()[1]} --loglevel INFO"
    with (
        open_store(tmp_path / "stillroom-data") as store,
        started(worker, tmp_path, environment) as workers,
    ):
        order()
        until_equal(lambda: len(list(tmp_path.glob("waits-*"))), 1)
        (waits,) = tmp_path.glob("waits-*")
        os.kill(int(waits.name.removeprefix("waits-")), signal.SIGKILL)
        until_equal(lambda: len(list(tmp_path.glob("waits-*"))), 2)  # another one has the task

        assert [(run.folder, run.state) for run in store.runs()] == [("generations/7", "open")]
        left = store.run("generations/7").read()
        assert [image.path for image in left.images] == ["generations/7/0.png"]
        (tmp_path / "may-end").touch()
        until_equal(lambda: [(run.state, run.count) for run in store.runs()], [("published", 2)])
        published = store.run("generations/7").read()

        order()  # a second delivery of what is done already
        until_equal(lambda: workers.logged().count(" succeeded in "), 2)

        assert store.run("generations/7").read() == published
        for image in published.images:
            assert hashlib.sha256(store.read(image.path)).hexdigest() == image.sha256
