"""Killed at a random moment, over and over, a run still ends as if nothing had happened.

python -m pytest tests/faults                     two kills
CXR_FAULTS=20 python -m pytest tests/faults       as many as asked for
"""

import json
import os
import random
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from cxr_core.jobs import queue
from cxr_core.runs import run_store as runs
from cxr_core.runs.config import with_settings
from cxr_core.runs.run_store import Run

KILLS = int(os.environ.get("CXR_FAULTS", "2"))
EPOCHS = 6
SECONDS = 240.0


def started(like: Run) -> str:
    return queue.submit(with_settings(like.config, {"epochs": EPOCHS, "batch_size": 8}))


def waited(run_id: str) -> Run:
    deadline = time.monotonic() + SECONDS
    while (run := runs.get(run_id)).status.at_work and time.monotonic() < deadline:
        time.sleep(0.1)
    return run


def check_whole(place: Path) -> None:
    """Every file of the folder can be read; what was being written has a hidden name or is not there."""
    for path in (*place.glob("*.json"), *place.glob("checkpoint/*.json")):
        json.loads(path.read_bytes())
    for path in place.glob("predictions/*.parquet"):
        pd.read_parquet(path)
    if (place / "history.csv").is_file():
        pd.read_csv(place / "history.csv")


@pytest.mark.slow
@pytest.mark.usefixtures("every_core")
def test_killed_at_random_moments_a_run_ends_as_an_unbroken_one(trained_home: Path) -> None:
    (like,) = runs.list_runs()
    start = time.monotonic()
    unbroken = waited(started(like))
    length = time.monotonic() - start
    assert unbroken.status.state == "finished", unbroken.status.reason
    rng, seen = random.Random(20261125), set()
    for number in range(KILLS):
        run_id = started(like)
        time.sleep(rng.uniform(0.1, 0.9) * length)
        status = runs.get(run_id).status
        seen.add(status.stage)
        if status.state == "running":
            assert status.owner is not None
            os.kill(status.owner["pid"], signal.SIGKILL)
            killed = time.monotonic()
            while runs.get(run_id).status.state == "running" and time.monotonic() - killed < 15:
                time.sleep(0.05)
            assert runs.get(run_id).status.state == "interrupted"
            check_whole(runs.folder(run_id))
            queue.resume(run_id)
        run = waited(run_id)
        assert run.status.state == "finished", (number, run.status)
        check_whole(run.folder)
        for split in ("train", "val", "test"):
            one, other = (pd.read_parquet(runs.predictions_path(which.id, split)) for which in (run, unbroken))
            pd.testing.assert_frame_equal(one, other, check_exact=True)
        assert not (run.folder / "checkpoint").exists()
    print(f"{KILLS} kills, in {sorted(seen)}")
