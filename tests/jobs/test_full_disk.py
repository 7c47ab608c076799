"""A disk fills up while a training writes to it: that one fails with the sentence, all else is unharmed, and it can be resumed."""

import json
import os
import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

from cxr_core import process
from cxr_core.jobs import disk_space, queue
from cxr_core.runs import run_store as runs
from cxr_core.runs.config import with_settings
from cxr_core.runs.run_store import Run

MB = 96
EPOCHS = 20
SECONDS = 600.0


@pytest.fixture
def disk(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small disk of its own, with a workspace that has a dataset and a finished run."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MB}m", "tmpfs", place]).returncode:
        pytest.skip("A small disk that can be filled is mounted by root only.")
    try:
        shutil.copytree(trained, place / "home")
        monkeypatch.setenv("CXR_HOME", str(place / "home"))
        yield place
        for run in runs.list_runs():
            if run.status.at_work and run.status.owner is not None:
                process.kill(run.status.owner)
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(path: Path) -> None:
    """Take all space that is left."""
    with path.open("ab", buffering=0) as out:
        for size in (2**20, 2**12):
            with suppress(OSError):
                while out.write(bytes(size)):
                    pass


def waited(run_id: str) -> Run:
    deadline = time.monotonic() + SECONDS
    while (run := runs.get(run_id)).status.at_work and time.monotonic() < deadline:
        time.sleep(0.1)
    return run


def check_whole(place: Path) -> None:
    """Every file can be read, and nothing half written takes up space."""
    for path in place.rglob("*.json"):
        json.loads(path.read_bytes())
    for path in (*place.glob("checkpoint/*.npz"), *place.glob("*.keras")):
        assert zipfile.ZipFile(path).testzip() is None, path
    for path in place.glob("history.csv"):
        pd.read_csv(path)
    assert not [path for path in place.rglob(".*") if ".part" in path.name]


@pytest.mark.slow
def test_a_training_on_a_full_disk_fails_in_words_and_goes_on_when_there_is_room(disk: Path) -> None:
    (before,) = runs.list_runs()
    figures = (before.folder / "metrics.json").read_bytes()
    run_id = queue.submit(with_settings(before.config, {"epochs": EPOCHS, "batch_size": 8}))
    waiting = queue.submit(with_settings(before.config, {"epochs": 1}))
    deadline = time.monotonic() + SECONDS
    while runs.get(run_id).status.epoch < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    while runs.get(run_id).status.at_work and time.monotonic() < deadline:
        fill(disk / "filler")  # whatever becomes free again is gone at once
        time.sleep(0.05)
    run = runs.get(run_id)
    assert (run.status.state, run.status.reason[:17]) == ("failed", "The disk is full."), run.status
    assert 2 <= run.status.epoch < EPOCHS
    check_whole(run.folder)

    # The next one does not fail as well: it waits, and says what for.
    time.sleep(1.0)
    queue.dispatch()
    status = runs.get(waiting).status
    assert (status.state, status.owner) == ("queued", None)
    assert "Waiting for room on the disk" in disk_space.shortage(run.config)
    assert (runs.get(before.id).folder / "metrics.json").read_bytes() == figures
    assert len(pd.read_parquet(runs.predictions_path(before.id, "test")))

    (disk / "filler").unlink()
    queue.resume(run_id)
    first, run = waited(waiting), waited(run_id)
    assert (first.status.state, run.status.state) == ("finished", "finished"), (first.status, run.status)
    assert runs.history(run_id)["epoch"].tolist() == list(range(1, EPOCHS + 1))
    check_whole(run.folder)
