"""A home that is read-only, or on a full disk: looking works, and what would have to write says so in a sentence."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import streamlit as st

from cxr_core import cli
from cxr_core.data import datasets, decisions, index, manifest
from cxr_core.inference import model_cache
from cxr_core.runs import run_store as runs
from tests import synthetic_runs
from tests.pages.test_pages import PAGES, text, visit

RUN = "custom_cnn-phantoms-20260101-000000-aaa"
OTHER = "custom_cnn-phantoms-20260101-000001-bbb"
QUEUED = "custom_cnn-phantoms-20260101-000002-ccc"
LOOKS = [
    "data list",
    "data list --json",
    "data show phantoms",
    "data decisions phantoms",
    "runs",
    "runs --json",
    "features",
    "evaluate RUN --json",
    "compare RUN OTHER",
    "predict RUN IMAGE --json",
    "report RUN --out OUT/report.html",
    "doctor --json",
]
WRITES = [
    "data add synthetic --name more --images 12 --quiet",
    "data add SOURCE --name folder --quiet",
    "data add synthetic --name phantoms --more --images 70 --seed 9 --quiet",
    "data remove phantoms",
    "data build phantoms --split patient --seed 5",
    "data exclude phantoms IMAGE_ID --who Ann",
    "data relabel phantoms normal IMAGE_ID --who Ann",
    "data tag phantoms odd IMAGE_ID --who Ann",
    "data undo phantoms 1 --who Ann",
    "data audit phantoms --quiet",
    "train --data phantoms --model custom_cnn --epochs 1",
    "sweep --data phantoms --model custom_cnn --seeds 0 1",
    "reproduce --data phantoms --epochs 1 --no-wait --weights none",
    "features clear",
    "work QUEUED",
    "runs stop QUEUED",
    "runs resume RUN",
    "runs delete OTHER",
    "runs restore OTHER",
    "runs duplicate RUN",
    "runs describe RUN --name N",
    "runs ship RUN --name N",
    "runs move QUEUED first",
    "ensemble RUN OTHER",
    "calibrate RUN --sensitivity 0.9",
    "export RUN",
]
NO_MOUNT = "Only root may mount a disk of its own, and only where mounts are allowed."


@contextmanager
def mounted(place: Path, *options: object) -> Iterator[None]:
    place.mkdir(parents=True, exist_ok=True)
    if os.geteuid() or subprocess.run(["mount", *map(str, options), place], capture_output=True).returncode:
        pytest.skip(NO_MOUNT)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(path: Path) -> None:
    """Take all space that is left."""
    with path.open("ab", buffering=0) as out:
        for size in (2**20, 2**12, 1):
            with suppress(OSError):
                while out.write(bytes(size)):
                    pass


def furnish(home: Path, trained: Path) -> None:
    """A dataset with a decision, two finished runs and one that waits for its turn."""
    shutil.copytree(trained, home)
    (first,) = (home / "runs").glob("custom_cnn-*")
    shutil.copytree(first, home / "runs" / OTHER)
    first.rename(home / "runs" / RUN)
    queued = home / "runs" / QUEUED
    queued.mkdir()
    shutil.copyfile(home / "runs" / RUN / "config.json", queued / "config.json")
    (queued / "status.json").write_text(json.dumps({"state": "queued", "created": 1.0, "turn": 1.0, "epochs": 1}))
    decisions.decide("phantoms", "tag", [index.read("phantoms")["id"].iloc[0]], value="odd", who="Ann")
    manifest.build("phantoms")


@pytest.fixture
def unwritable(
    request: pytest.FixtureRequest, trained: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The home, read-only or full, as the test asks by its parameter."""
    monkeypatch.setattr(model_cache, "_CACHE", model_cache.ModelCache())
    monkeypatch.setenv("CXR_PLACES", "1")
    monkeypatch.setenv("CXR_PRETRAINED", str(home / "pretrained"))
    st.cache_data.clear()
    st.cache_resource.clear()
    if request.param == "read-only":
        furnish(home, trained)
        with mounted(home, "--bind", home):
            subprocess.run(["mount", "-o", "remount,ro,bind", home], check=True)
            with pytest.raises(OSError, match="Read-only"):
                (home / "x").touch()
            yield request.param
    else:
        with mounted(home.parent / "disk", "-t", "tmpfs", "-o", "size=64m", "tmpfs"):
            monkeypatch.setenv("CXR_HOME", str(home.parent / "disk" / "home"))
            furnish(home.parent / "disk" / "home", trained)
            fill(home.parent / "disk" / "filled")
            yield request.param


both = pytest.mark.parametrize("unwritable", ["read-only", "full"], indirect=True)


def filled_in(line: str, out: Path) -> list[str]:
    image_id = str(index.read("phantoms")["id"].iloc[0])
    out.mkdir(exist_ok=True)
    words = {
        "RUN": RUN, "OTHER": OTHER, "QUEUED": QUEUED, "IMAGE_ID": image_id, "SOURCE": str(index.root("phantoms")),
        "IMAGE": str(datasets.image_path("phantoms", image_id)), "OUT/report.html": str(out / "report.html"),
    }  # fmt: skip
    return [words.get(word, word) for word in line.split()]


def sentence_of(line: str, out: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and standard error of a command; no exception but those that the command line turns into a sentence."""
    capsys.readouterr()
    code = cli.main(filled_in(line, out))
    said = capsys.readouterr().err
    assert "Traceback" not in said and "Errno" not in said, said
    return code, said


@pytest.mark.slow
@both
@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_shown(unwritable: str, page: str) -> None:
    shown = visit(page)
    assert not [error.value for error in shown.error], unwritable
    assert text(shown)


@pytest.mark.slow
@both
def test_commands_that_look_answer(unwritable: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for line in LOOKS:
        code, said = sentence_of(line, tmp_path / "out", capsys)
        assert code == 0, (unwritable, line, said)


@pytest.mark.slow
@both
def test_commands_that_write_say_why_they_cannot(
    unwritable: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in WRITES:
        if unwritable == "full" and line.startswith("data remove"):
            continue  # it needs no room, and is what makes some
        code, said = sentence_of(line, tmp_path / "out", capsys)
        last = said.strip().splitlines()[-1] if said.strip() else ""
        if unwritable == "read-only" or code:  # on a full disk some need no room
            assert code in (1, 2) and last.endswith((".", "…")), (unwritable, line, code, said)
        assert runs.get(RUN).has_predictions and len(index.read("phantoms")) == 60, line


def test_on_a_read_only_home_one_looks_and_is_told_what_keeps_one_from_writing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = synthetic_runs.run({"test": (["a", "b"], ["normal", "viral"])})
    with mounted(home, "--bind", home):
        subprocess.run(["mount", "-o", "remount,ro,bind", home], check=True)
        for line in ("runs --json", "data list", "features", f"evaluate {run_id}"):
            assert cli.main(line.split()) == 0, capsys.readouterr().err
        capsys.readouterr()
        for line in (f"runs delete {run_id}", f"runs describe {run_id} --name N", "data add synthetic --quiet"):
            assert cli.main(line.split()) == 1
            assert "read-only" in capsys.readouterr().err.lower(), line
