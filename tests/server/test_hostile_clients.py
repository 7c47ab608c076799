"""The server under large and hostile images: its memory is bounded and comes back, and it goes on answering."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cxr_core.inference import predict
from cxr_core.runs import run_store as runs
from tests.conftest import PROJECT


@pytest.mark.slow
def test_memory_stays_bounded_and_others_are_answered_meanwhile(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short form of benchmarks/hostile_clients.py, which has all kinds of images and takes a minute and more."""
    monkeypatch.delenv("CXR_PRETRAINED")  # a run that ships answers
    run_id = next(run.id for run in runs.list_runs() if predict.is_exported(run))
    done = subprocess.run(
        [sys.executable, PROJECT / "benchmarks" / "hostile_clients.py", run_id, "--clients", "8", "--seconds", "10",
         "--most-seconds", "25", "--kinds", "png,rgba,tiled,too many scans"],
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["peak_above_rest_mb"] <= 2048 and figures["after_above_rest_mb"] <= 100, figures
    assert figures["health_s"] <= 5 and figures["runs_s"] <= 5 and figures["end_s"] <= 20, figures
    assert set(figures["codes"]) <= {"200", "503"} and figures["answered"], figures
