"""A damaged JSON file of a run ends in a sentence or in an answer, never in a traceback: seeded mutations times commands.

CXR_MUTATIONS=5000 python -m pytest tests/faults/test_mutations.py       as many as asked for
"""

import json
import os
import random
import shutil
import traceback
from pathlib import Path
from typing import Any

import pytest

from cxr_core import cli
from cxr_core.runs import run_store as runs
from tests.conftest import PROJECT

pytestmark = pytest.mark.slow

MUTATIONS = int(os.environ.get("CXR_MUTATIONS", "500"))
VALUES = [None, [], {}, -1, 1e308, "x", True, [1], {"a": 1}, float("nan"), "", "\0"]


def mutated(document: Any, rng: random.Random) -> Any:
    """The document with one value, at any depth, replaced or removed."""
    if not isinstance(document, dict | list) or not document or rng.random() < 0.25:
        return rng.choice(VALUES)
    changed = document.copy()
    key = rng.choice(list(changed)) if isinstance(changed, dict) else rng.randrange(len(changed))
    if isinstance(changed, dict) and rng.random() < 0.1:
        del changed[key]
    else:
        changed[key] = mutated(changed[key], rng)
    return changed


def test_no_mutation_of_a_file_of_a_run_ends_in_a_traceback(
    trained_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundled = next(
        (PROJECT / "artifacts" / "pretrained").glob("custom_cnn-*")
    )  # it has every file, its decision rule too
    run_id = bundled.name
    shutil.copytree(bundled, trained_home / "runs" / run_id)
    runs.describe(run_id, name="A name", note="A note")
    image = next((trained_home / "datasets" / "phantoms" / "images").rglob("*.jpeg"))
    report = ["report", run_id, "--out", str(tmp_path / "report.html")]
    commands = [
        ["runs"],
        ["runs", "--json"],
        ["evaluate", run_id, "--json"],
        ["predict", run_id, str(image), "--json"],
        report,
    ]
    files = [path for path in runs.folder(run_id).rglob("*.json") if path.name != "checkpoint.json"]
    rng, failures = random.Random(20), set[str]()
    for number in range(MUTATIONS):
        path = rng.choice(files)
        original = path.read_bytes()
        path.write_text(json.dumps(mutated(json.loads(original), rng)))
        for command in commands[: 5 if number % 10 == 0 else 4]:  # a report takes long
            try:
                cli.main(command)
            except Exception as error:  # noqa: BLE001 - any is a failure
                last = traceback.extract_tb(error.__traceback__)[-1]
                failures.add(f"{path.name}: {command[0]}: {error!r} at {last.filename}:{last.lineno}")
        path.write_bytes(original)
        assert "Traceback" not in capsys.readouterr().err
    assert not failures, "\n".join(sorted(failures))
