"""Adding in the background: real processes, which go on by themselves, can be stopped, and tell how they failed."""

import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cxr_core import process, workspace
from cxr_core.data import audit, datasets
from cxr_core.data.staging import staging
from cxr_core.errors import AlreadyExists, BadInput, UnknownName
from cxr_core.jobs import errands

PATIENCE = 60  # seconds; a busy machine starts processes slowly
Tree = Callable[..., Path]


@pytest.fixture(autouse=True)
def tidy(home: Path) -> Iterator[None]:
    """No process outlives its test."""
    yield
    for name in workspace.names_in(home / "datasets" / ".errands"):
        errands.stop(name)


def until(true: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < limit, errands.underway()
        time.sleep(0.05)


def ended() -> bool:
    return not any(one.running for one in errands.underway())


def staged() -> list[str]:
    """What is in the staging folders, but for lock files."""
    places = (workspace.adding(), workspace.errand())
    return sorted(
        one.name for place in places for one in place.glob("*") if one.suffix != ".lock" and one.name != ".lock"
    )


def archive(folder: Path) -> bytes:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as opened:
        for file in folder.rglob("*.jpeg"):
            opened.write(file, file.relative_to(folder).as_posix())
    return path.read_bytes()


def test_an_addition_is_seen_at_work_and_ends_as_a_dataset():
    assert errands.underway() == []
    assert errands.add("synthetic", "drawn", options=["--images", "60", "--seed", "3"]) == "drawn"
    [seen] = errands.underway()
    assert (seen.name, seen.source, seen.running, seen.problem) == ("drawn", "synthetic", True, "")
    assert seen.stage
    assert datasets.names() == []
    with pytest.raises(AlreadyExists, match=r"named 'drawn' already, or it is being added"):
        errands.add("synthetic", "drawn")
    until(ended)
    assert errands.underway() == []
    assert datasets.get("drawn").images == 60
    assert datasets.get("drawn").origin == "60 phantoms, seed 3"
    assert staged() == []
    with pytest.raises(AlreadyExists):
        errands.add("synthetic", "drawn")


def test_an_addition_that_is_stopped_leaves_no_process_and_no_file():
    errands.add("synthetic", "big", options=["--images", "20000"])
    images = workspace.adding("big") / "images"
    until(lambda: any(images.rglob("*.jpeg")))
    until(lambda: errands.underway()[0].done > 0)
    [seen] = errands.underway()
    assert (seen.stage, seen.total) == ("Drawing phantoms", 20000)
    owner = workspace.read_json(workspace.errand("big") / "job.json")["owner"]
    family = [psutil.Process(owner["pid"]), *psutil.Process(owner["pid"]).children(recursive=True)]
    errands.stop("big")
    assert not process.alive(owner)
    _, left = psutil.wait_procs(family, timeout=5)
    for one in left:  # so that a failing test leaves none either
        one.kill()
    assert left == []
    assert errands.underway() == []
    assert datasets.names() == []
    assert staged() == []


def test_an_addition_that_fails_says_why_until_it_is_put_away_or_tried_again(tmp_path: Path, xray_tree: Tree):
    (tmp_path / "empty").mkdir()
    errands.add(str(tmp_path / "empty"), "small")
    until(ended)
    [failed] = errands.underway()
    assert not failed.running
    assert failed.problem.startswith(f"No images were found below {tmp_path / 'empty'}.")
    errands.add(str(xray_tree()), "small")  # the same name is free for another try
    until(lambda: datasets.names() == ["small"])
    until(ended)
    assert errands.underway() == []
    assert datasets.get("small").images == 13


def test_a_failed_addition_that_is_put_away_leaves_nothing(tmp_path: Path):
    errands.add(str(tmp_path / "nowhere"), "small")
    until(ended)
    assert "There is nothing at" in errands.underway()[0].problem
    errands.stop("small")
    assert errands.underway() == []
    assert staged() == []


def test_an_uploaded_zip_becomes_a_dataset_and_is_deleted(xray_tree: Tree):
    assert errands.add_upload(archive(xray_tree()), "mine") == "mine"
    with pytest.raises(AlreadyExists, match=r"named 'mine' already, or it is being added"):
        errands.add_upload(b"other", "mine")
    until(ended)
    assert datasets.get("mine").images == 13
    assert errands.underway() == []
    assert staged() == []


def test_an_upload_under_a_name_that_is_taken_is_refused_and_not_kept(xray_tree: Tree):
    datasets.add(str(xray_tree()), "mine")
    with pytest.raises(AlreadyExists, match="named 'mine' already"):
        errands.add_upload(b"PK", "mine")
    assert staged() == []


@pytest.fixture
def spoilt() -> str:
    """The name of an upload that was no zip, and has failed."""
    errands.add_upload(b"no zip", "mine")
    until(ended)
    return "mine"


def test_an_upload_that_is_no_zip_says_so_and_goes_when_it_is_put_away(spoilt: str):
    [failed] = errands.underway()
    assert "is not a zip archive that can be read" in failed.problem
    errands.stop(spoilt)
    assert staged() == []


def test_after_a_failed_upload_another_one_of_the_same_name_is_taken(spoilt: str, xray_tree: Tree):
    errands.add_upload(archive(xray_tree()), spoilt)
    until(ended)
    assert datasets.names() == [spoilt]


@pytest.mark.parametrize("name", ["../out", "a b", ".a"])
def test_an_unsafe_name_is_refused_and_nothing_is_written(home: Path, name: str):
    with pytest.raises(BadInput, match="A name has"):
        errands.add("synthetic", name)
    with pytest.raises(BadInput, match="A name has"):
        errands.add_upload(b"", name)
    assert not home.exists()


def test_stopping_what_is_not_being_added_does_nothing(xray_tree: Tree):
    datasets.add(str(xray_tree()), "small")
    errands.stop("small")
    errands.stop("other")
    assert datasets.names() == ["small"]


def test_a_process_that_ended_without_a_word_is_told_all_the_same():
    dead = {**process.owner(), "born": 1.0}
    workspace.write_json(workspace.errand("gone") / "job.json", {"kind": "add", "source": "synthetic", "owner": dead})
    [failed] = errands.underway()
    assert (failed.name, failed.problem) == (
        "gone",
        "It was cut off unfinished, and nothing of it is left. Run it again.",
    )


def test_what_became_a_dataset_is_forgotten_here(xray_tree: Tree):
    datasets.add(str(xray_tree()), "small")
    dead = {**process.owner(), "born": 1.0}
    workspace.write_json(workspace.errand("small") / "job.json", {"kind": "add", "source": "synthetic", "owner": dead})
    (workspace.errand("small") / "log.txt").touch()
    assert errands.underway() == []
    assert staged() == []


def test_an_audit_in_the_background_is_seen_and_forgotten_when_it_is_done(xray_tree: Tree):
    datasets.add(str(xray_tree()), "small")
    errands.audit("small")
    errands.audit("small")  # a second click is left to the first
    [seen] = errands.underway()
    assert (seen.kind, seen.name, seen.running) == ("audit", "small", True)
    until(ended)
    assert errands.underway() == []
    assert audit.latest("small") is not None
    assert staged() == []


def test_an_audit_that_was_cut_off_says_so_and_can_be_run_again(xray_tree: Tree):
    datasets.add(str(xray_tree()), "small")
    errands.audit("small")
    process.kill(workspace.read_json(workspace.errand("small") / "job.json")["owner"])
    [failed] = errands.underway()
    assert failed.problem == "It was cut off unfinished, and nothing of it is left. Run it again."
    errands.audit("small")
    until(lambda: audit.latest("small") is not None)
    until(ended)
    assert staged() == []


def test_an_audit_of_nothing_is_refused():
    with pytest.raises(UnknownName, match="no dataset named 'small'"):
        errands.audit("small")


def test_dismissing_a_failed_addition_leaves_another_process_that_adds_under_its_name_alone():
    """It failed because of that other process, which goes on in the staging folder of the same name."""
    with staging("mine") as folder:
        (folder / "a.jpeg").write_bytes(b"image")
        errands.add("synthetic", "mine", options=["--images", "60"])
        until(ended)
        [failed] = errands.underway()
        assert "is being added at this moment" in failed.problem
        errands.stop("mine")
        assert (folder / "a.jpeg").is_file()
    assert errands.underway() == []
    assert staged() == []


def test_one_that_is_just_beginning_is_stopped_all_the_same(monkeypatch: pytest.MonkeyPatch):
    """A process is started before its folder says so."""
    write, stoppers = workspace.write_json, []

    def write_slowly(path: Path, document: object) -> None:
        if path.name == "job.json":
            stoppers.append(threading.Thread(target=errands.stop, args=("mine",)))
            stoppers[0].start()
            time.sleep(0.5)
        write(path, document)

    monkeypatch.setattr(workspace, "write_json", write_slowly)
    started: list[process.Owner] = []
    start = process.start
    monkeypatch.setattr(process, "start", lambda *args, **kwargs: started.append(start(*args, **kwargs)) or started[0])
    errands.add("synthetic", "mine", options=["--images", "20000"])
    stoppers[0].join()
    assert not process.alive(started[0])
    assert staged() == []
