"""A damaged file of a run, a dataset or a job ends in a sentence or in an answer, never in a traceback: seeded mutations
times commands and pages.

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
import streamlit as st

from cxr_core import cli, process, workspace
from cxr_core.data import audit, datasets, decisions, index, manifest
from cxr_core.jobs import background_jobs
from cxr_core.runs import run_store as runs
from tests import synthetic_runs
from tests.conftest import PROJECT
from tests.pages.test_pages import PAGES, visit

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


def mutate(path: Path, rng: random.Random) -> bytes:
    """Change one value of a JSON file, or of one line of a record; returns what it held."""
    original = path.read_bytes()
    if path.suffix == ".json":
        path.write_text(json.dumps(mutated(json.loads(original), rng)))
    else:
        lines = original.splitlines()
        number = rng.randrange(len(lines))
        lines[number] = json.dumps(mutated(json.loads(lines[number]), rng)).encode()
        path.write_bytes(b"\n".join(lines) + b"\n")
    return original


@pytest.fixture
def files(home: Path) -> list[Path]:
    """The JSON files of a dataset with decisions, a manifest and an audit, of stored features, a job that failed and a run."""
    datasets.add("synthetic", "phantoms", images=60)
    ids = index.read("phantoms")["id"].tolist()
    decisions.decide("phantoms", "exclude", ids[:2], who="Ann")
    decisions.decide("phantoms", "relabel", ids[2:3], value="normal", who="Ann")
    decisions.undo("phantoms", 1, who="Ann")
    run_id = synthetic_runs.on("phantoms", manifest.build("phantoms").id)
    audit.run("phantoms")
    job = home / "datasets" / ".errands" / "other" / "job.json"
    workspace.write_json(
        job, {"kind": "add", "source": "x", "owner": {**process.process_id(), "born": 1.0, "started": "x"}}
    )
    store = home / "features" / "0123456789abcdef" / "about.json"
    workspace.write_json(store, {"model": "vgg16", "weights": "none", "size": 32, "shape": [4, 4, 512]})
    folder = home / "datasets" / "phantoms"
    return [*runs.folder(run_id).glob("*.json"), *folder.rglob("*.json"), folder / "decisions.jsonl", job, store]


def test_no_mutation_of_a_file_of_a_dataset_or_a_job_ends_in_a_traceback(
    files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    commands = [
        "data list --json", "data show phantoms", "data decisions phantoms", "data build phantoms", "data audit phantoms --quiet",
        "features", "data tag phantoms odd x --who Ann",
    ]  # fmt: skip
    rng, failures = random.Random(21), set[str]()
    for _ in range(MUTATIONS):
        path = rng.choice(files)
        original = mutate(path, rng)
        for command in commands:
            try:
                cli.main(command.split())
                background_jobs.list_jobs()
            except Exception as error:  # noqa: BLE001 - any is a failure
                last = traceback.extract_tb(error.__traceback__)[-1]
                failures.add(f"{path.name}: {command}: {error!r} at {last.filename}:{last.lineno}")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(original)
        assert "Traceback" not in capsys.readouterr().err
    assert not failures, "\n".join(sorted(failures))


def test_no_mutation_ends_a_page_in_a_traceback(files: list[Path]) -> None:
    rng, failures = random.Random(22), set[str]()
    for number in range(max(1, MUTATIONS // 10)):
        path, page = rng.choice(files), PAGES[number % len(PAGES)]
        original = mutate(path, rng)
        changed = path.read_bytes()
        st.cache_data.clear()
        st.cache_resource.clear()
        try:
            visit(page)
        except (Exception, AssertionError) as error:  # noqa: BLE001 - any is a failure
            failures.add(f"{path.name} = {changed[:200]!r}: {page}: {str(error)[:300]}")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(original)
    assert not failures, "\n".join(sorted(failures))
