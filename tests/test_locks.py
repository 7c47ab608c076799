"""Locks between processes: whoever waits is told who holds one, and never waits without an end."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cxr_core import locks, workspace
from cxr_core.errors import Busy, WorkFailed
from cxr_core.jobs import background_jobs, queue
from cxr_core.runs import run_store as runs
from tests import synthetic_runs

HOLD = (
    "import sys, time; from filelock import FileLock; held = FileLock(sys.argv[1]); held.acquire(); "
    "print(1, flush=True); time.sleep(60)"
)


@contextmanager
def held_elsewhere(path: Path) -> Iterator[int]:
    """Another process holds the lock; its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


def test_who_waits_is_told_who_holds_it_and_gets_it_afterwards(tmp_path: Path) -> None:
    path, waited = tmp_path / ".lock", []
    with held_elsewhere(path) as pid:
        with pytest.raises(Busy, match=rf"Process {pid} \(python[0-9.]*\) holds the queue, for more than 0 seconds"):
            locks.hold(path, "the queue", timeout=0.1).__enter__()

        def give_up() -> None:
            waited.append(1)
            raise WorkFailed("Stopped.")

        with pytest.raises(WorkFailed, match=r"Stopped\."), locks.hold(path, "it", waiting=give_up):
            pass
    with locks.hold(path, "it", timeout=0):
        assert waited == [1] and str(locks.holder(path)).startswith("Process ")


def test_an_error_of_the_disk_inside_is_a_sentence_and_the_lock_is_free_again(tmp_path: Path) -> None:
    with pytest.raises(WorkFailed, match=r"The disk is full\."), locks.hold(tmp_path / ".lock", "it"):
        raise OSError(28, "No space left on device")
    (tmp_path / "folder").mkdir()
    with pytest.raises(WorkFailed, match="folder cannot be opened"), locks.hold(tmp_path / "folder", "it"):
        pass
    with locks.hold(tmp_path / ".lock", "it", timeout=0):
        pass


def test_a_held_lock_neither_stops_nor_empties_a_page(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = synthetic_runs.run({"test": (["a"], ["normal"])}, state="queued")
    with held_elsewhere(workspace.runs() / ".queue.lock") as pid, held_elsewhere(home / "datasets/.errands/.lock"):
        start = time.monotonic()
        assert [run.id for run in queue.look()] == [run_id] and background_jobs.list_jobs() == []
        assert time.monotonic() - start < 2
        monkeypatch.setattr(
            queue, "queue_lock", lambda: locks.hold(home / "runs/.queue.lock", "the queue", timeout=0.1)
        )
        with pytest.raises(Busy, match=f"Process {pid}"):
            queue.stop(run_id)
    assert runs.get(run_id).status.state == "queued"
