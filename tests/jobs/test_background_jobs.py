"""Adding in the background: real processes, which continue by themselves, can be stopped, and tell how they failed."""

import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cxr_core import process, workspace
from cxr_core.data import audit, datasets
from cxr_core.errors import AlreadyExists, BadInput, UnknownName
from cxr_core.jobs import background_jobs

PATIENCE = 60  # seconds; a busy machine starts processes slowly
Tree = Callable[..., Path]


@pytest.fixture(autouse=True)
def tidy(home: Path) -> Iterator[None]:
    """No process outlives its test."""
    yield
    for name in workspace.list_dirs(home / "datasets" / ".errands"):
        background_jobs.stop(name)


def until(true: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < limit, background_jobs.list_jobs()
        time.sleep(0.05)


def ended() -> bool:
    return not any(one.running for one in background_jobs.list_jobs())


def staged() -> list[str]:
    """Content of the staging folders, without lock files."""
    places = (workspace.staging(), workspace.background_job())
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
    assert background_jobs.list_jobs() == []
    assert background_jobs.add("synthetic", "drawn", options=["--images", "60", "--seed", "3"]) == "drawn"
    [seen] = background_jobs.list_jobs()
    assert (seen.name, seen.source, seen.running, seen.problem) == ("drawn", "synthetic", True, "")
    assert seen.stage
    assert datasets.list_names() == []
    with pytest.raises(AlreadyExists, match=r"named 'drawn' already, or it is being added"):
        background_jobs.add("synthetic", "drawn")
    until(ended)
    assert background_jobs.list_jobs() == []
    assert datasets.get("drawn").images == 60
    assert datasets.get("drawn").origin == "60 phantoms, seed 3"
    assert staged() == []
    with pytest.raises(AlreadyExists):
        background_jobs.add("synthetic", "drawn")


def test_an_addition_that_is_stopped_leaves_no_process_and_no_file():
    background_jobs.add("synthetic", "big", options=["--images", "20000"])
    images = workspace.staging("big") / "images"
    until(lambda: any(images.rglob("*.jpeg")))
    until(lambda: background_jobs.list_jobs()[0].done > 0)
    [seen] = background_jobs.list_jobs()
    assert (seen.stage, seen.total) == ("Drawing phantoms", 20000)
    owner = workspace.read_json(workspace.background_job("big") / "job.json")["owner"]
    family = [psutil.Process(owner["pid"]), *psutil.Process(owner["pid"]).children(recursive=True)]
    background_jobs.stop("big")
    assert not process.is_alive(owner)
    _, left = psutil.wait_procs(family, timeout=5)
    for one in left:  # so that a failing test leaves none either
        one.kill()
    assert left == []
    assert background_jobs.list_jobs() == []
    assert datasets.list_names() == []
    assert staged() == []


def test_an_addition_that_fails_says_why_until_it_is_put_away_or_tried_again(
    tmp_path: Path, xray_tree: Tree, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "cxr_core")
    (tmp_path / "empty").mkdir()
    background_jobs.add(str(tmp_path / "empty"), "small")
    until(ended)
    [failed] = background_jobs.list_jobs()
    assert not failed.running
    assert failed.problem.startswith(f"No images were found below {tmp_path / 'empty'}.")
    background_jobs.add(str(xray_tree()), "small")  # the same name is free for another try
    until(lambda: datasets.list_names() == ["small"])
    until(ended)
    assert background_jobs.list_jobs() == []
    assert datasets.get("small").images == 13
    assert [message.split(" as process")[0] for message in caplog.messages] == [
        "The addition of dataset small started",
        "The addition of dataset small ended: failed.",
        "The addition of dataset small started",
        "The addition of dataset small ended: finished.",
    ]
    assert str(tmp_path) not in caplog.text


def test_a_failed_addition_that_is_put_away_leaves_nothing(tmp_path: Path):
    background_jobs.add(str(tmp_path / "nowhere"), "small")
    until(ended)
    assert "There is nothing at" in background_jobs.list_jobs()[0].problem
    background_jobs.stop("small")
    assert background_jobs.list_jobs() == []
    assert staged() == []


def test_an_uploaded_zip_becomes_a_dataset_and_is_deleted(xray_tree: Tree):
    assert background_jobs.add_upload(archive(xray_tree()), "mine") == "mine"
    with pytest.raises(AlreadyExists, match=r"named 'mine' already, or it is being added"):
        background_jobs.add_upload(b"other", "mine")
    until(ended)
    assert datasets.get("mine").images == 13
    assert background_jobs.list_jobs() == []
    assert staged() == []


def test_an_upload_under_a_name_that_is_taken_is_refused_and_not_kept(xray_tree: Tree):
    datasets.add(str(xray_tree()), "mine")
    with pytest.raises(AlreadyExists, match="named 'mine' already"):
        background_jobs.add_upload(b"PK", "mine")
    assert staged() == []


@pytest.fixture
def spoilt() -> str:
    """The name of an upload that was no zip, and has failed."""
    background_jobs.add_upload(b"no zip", "mine")
    until(ended)
    return "mine"


def test_an_upload_that_is_no_zip_says_so_and_goes_when_it_is_put_away(spoilt: str):
    [failed] = background_jobs.list_jobs()
    assert "is not a zip archive that can be read" in failed.problem
    background_jobs.stop(spoilt)
    assert staged() == []


def test_after_a_failed_upload_another_one_of_the_same_name_is_taken(spoilt: str, xray_tree: Tree):
    background_jobs.add_upload(archive(xray_tree()), spoilt)
    until(ended)
    assert datasets.list_names() == [spoilt]


@pytest.mark.parametrize("name", ["../out", "a b", ".a"])
def test_an_unsafe_name_is_refused_and_nothing_is_written(home: Path, name: str):
    with pytest.raises(BadInput, match="A name has"):
        background_jobs.add("synthetic", name)
    with pytest.raises(BadInput, match="A name has"):
        background_jobs.add_upload(b"", name)
    assert not home.exists()


def test_stopping_what_is_not_being_added_does_nothing(xray_tree: Tree):
    datasets.add(str(xray_tree()), "small")
    background_jobs.stop("small")
    background_jobs.stop("other")
    assert datasets.list_names() == ["small"]


def test_a_process_that_ended_without_a_word_is_told_all_the_same():
    dead = {**process.process_id(), "born": 1.0, "started": ""}
    workspace.write_json(
        workspace.background_job("gone") / "job.json", {"kind": "add", "source": "synthetic", "owner": dead}
    )
    [failed] = background_jobs.list_jobs()
    assert (failed.name, failed.problem) == (
        "gone",
        "It was cut off unfinished, and nothing of it is left. Run it again.",
    )


def test_what_became_a_dataset_is_forgotten_here(xray_tree: Tree):
    datasets.add(str(xray_tree()), "small")
    dead = {**process.process_id(), "born": 1.0, "started": ""}
    workspace.write_json(
        workspace.background_job("small") / "job.json", {"kind": "add", "source": "synthetic", "owner": dead}
    )
    (workspace.background_job("small") / "log.txt").touch()
    assert background_jobs.list_jobs() == []
    assert staged() == []


def test_an_audit_in_the_background_is_seen_and_forgotten_when_it_is_done(xray_tree: Tree):
    datasets.add(str(xray_tree()), "small")
    background_jobs.audit("small")
    background_jobs.audit("small")  # a second click is left to the first
    [seen] = background_jobs.list_jobs()
    assert (seen.kind, seen.name, seen.running) == ("audit", "small", True)
    until(ended)
    assert background_jobs.list_jobs() == []
    assert audit.latest("small") is not None
    assert staged() == []


def test_an_audit_that_was_cut_off_says_so_and_can_be_run_again(xray_tree: Tree):
    datasets.add(str(xray_tree()), "small")
    background_jobs.audit("small")
    process.kill(workspace.read_json(workspace.background_job("small") / "job.json")["owner"])
    [failed] = background_jobs.list_jobs()
    assert failed.problem == "It was cut off unfinished, and nothing of it is left. Run it again."
    background_jobs.audit("small")
    until(lambda: audit.latest("small") is not None)
    until(ended)
    assert staged() == []


def test_an_audit_of_nothing_is_refused():
    with pytest.raises(UnknownName, match="no dataset named 'small'"):
        background_jobs.audit("small")


def test_dismissing_a_failed_addition_leaves_another_process_that_adds_under_its_name_alone():
    """It failed because of that other process, which continues in the staging folder of the same name."""
    with datasets.staging("mine") as folder:
        (folder / "a.jpeg").write_bytes(b"image")
        background_jobs.add("synthetic", "mine", options=["--images", "60"])
        until(ended)
        [failed] = background_jobs.list_jobs()
        assert "is being added at this moment" in failed.problem
        background_jobs.stop("mine")
        assert (folder / "a.jpeg").is_file()
    assert background_jobs.list_jobs() == []
    assert staged() == []


def test_one_that_is_just_beginning_is_stopped_all_the_same(monkeypatch: pytest.MonkeyPatch):
    """A process is started before its folder says so."""
    write, stoppers = workspace.write_json, []

    def write_slowly(path: Path, document: object) -> None:
        if path.name == "job.json":
            stoppers.append(threading.Thread(target=background_jobs.stop, args=("mine",)))
            stoppers[0].start()
            time.sleep(0.5)
        write(path, document)

    monkeypatch.setattr(workspace, "write_json", write_slowly)
    started: list[process.ProcessId] = []
    start = process.start
    monkeypatch.setattr(process, "start", lambda *args, **kwargs: started.append(start(*args, **kwargs)) or started[0])
    background_jobs.add("synthetic", "mine", options=["--images", "20000"])
    stoppers[0].join()
    assert not process.is_alive(started[0])
    assert staged() == []
