"""Status: what a run's process last wrote, corrected by whether that process still lives."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cxr_core import process
from cxr_core.errors import WorkFailed
from cxr_core.runs import status as states
from cxr_core.runs.status import Reporter, Status


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder of a queued run."""
    states.write(tmp_path / "run", Status(created=1.0, epochs=5))
    return tmp_path / "run"


@pytest.fixture(scope="module")
def dead() -> process.ProcessId:
    """A process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    who = process.process_id(child.pid)
    assert process.is_alive(who)
    child.communicate()
    return who


def on_disk(place: Path) -> dict[str, object]:
    return json.loads((place / "status.json").read_bytes())


def test_a_status_comes_back_as_it_was_written(place: Path):
    one = Status("running", "training", "", 1, 2, 0, 3, process.process_id(), 4, 5, 6, 7, 8.5, 9, 9.5, "CPU")
    states.write(place, one)
    assert states.read(place) == one


def test_a_new_run_is_queued(place: Path):
    assert states.read(place) == Status(state="queued", created=1.0, epochs=5)


def test_a_running_one_whose_process_lives_is_running(place: Path):
    states.write(place, Status("running", owner=process.process_id()))
    assert states.read(place).state == "running"


def test_a_running_one_whose_process_is_dead_is_interrupted_and_says_why(place: Path, dead: process.ProcessId):
    states.write(place, Status("running", "training", owner=dead, heartbeat=time.time(), epoch=3))
    read = states.read(place)
    assert (read.state, read.epoch) == ("interrupted", 3)
    assert "ended unexpectedly" in read.reason
    assert on_disk(place)["state"] == "running"  # reading changes nothing


def test_another_process_with_the_same_number_is_not_taken_for_the_owner(place: Path):
    me = process.process_id()
    states.write(place, Status("running", owner={**me, "born": me["born"] - 3600, "started": ""}))
    assert states.read(place).state == "interrupted"


def test_a_running_one_without_an_owner_is_interrupted(place: Path):
    states.write(place, Status("running"))
    assert states.read(place).state == "interrupted"


def test_a_run_on_another_machine_is_believed_while_its_heart_beats(place: Path):
    far = process.ProcessId(host="elsewhere", pid=1, born=0.0)
    states.write(place, Status("running", owner=far, heartbeat=time.time() - states.SILENT_SECONDS + 5))
    assert states.read(place).state == "running"
    states.write(place, Status("running", owner=far, heartbeat=time.time() - states.SILENT_SECONDS - 5))
    assert states.read(place).state == "interrupted"


@pytest.mark.parametrize("state", ["queued", "finished", "stopped", "failed"])
def test_only_running_ones_are_interrupted(place: Path, dead: process.ProcessId, state: states.State):
    one = Status(state, owner=dead, reason="A reason.")
    states.write(place, one)
    assert states.read(place) == one


def test_keys_of_a_later_version_are_passed_over(place: Path):
    (place / "status.json").write_text(json.dumps({**on_disk(place), "watts": 3}))
    assert states.read(place).epochs == 5


@pytest.mark.parametrize("content", ["", "{", "\0" * 64])
def test_a_damaged_file_is_told_in_words(place: Path, content: str):
    (place / "status.json").write_text(content)
    with pytest.raises(WorkFailed, match="damaged"):
        states.read(place)


@pytest.mark.parametrize("content", ["null", "[]", '"queued"', '{"state": "running", "owner": {"pid": 1}}'])
def test_json_of_another_shape_is_told_in_words(place: Path, content: str):
    (place / "status.json").write_text(content)
    with pytest.raises(WorkFailed):
        states.read(place)


def test_where_there_is_no_run_there_is_no_status(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        states.read(tmp_path)


class Clock:
    """Stands in for the module `time`; it moves only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def module(self) -> SimpleNamespace:
        return SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(states, "time", clock.module())
    return clock


def test_what_matters_is_written_at_once(place: Path, clock: Clock):
    reporter = Reporter(place)
    for epoch in (1, 2):
        reporter.tell(epoch=epoch)
        assert on_disk(place)["epoch"] == reporter.status.epoch == epoch
        assert on_disk(place)["heartbeat"] == clock.now


def test_the_rest_is_written_at_most_twice_a_second(place: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    writes: list[int] = []
    write = states.write
    monkeypatch.setattr(states, "write", lambda where, one: (writes.append(one.batch), write(where, one)))
    reporter = Reporter(place)
    for batch in range(100):
        clock.now += 0.1
        reporter.tell(soon=True, batch=batch)
        assert reporter.status.batch == batch
    assert 10 <= len(writes) <= 21
    assert on_disk(place)["batch"] == writes[-1] >= 94


def test_what_was_held_back_is_written_with_the_next(place: Path, clock: Clock):
    reporter = Reporter(place)
    reporter.tell(epoch=1)
    clock.now += 0.1
    reporter.tell(soon=True, batch=7)
    assert on_disk(place)["batch"] == 0
    reporter.tell(stage="predicting")
    assert (on_disk(place)["batch"], on_disk(place)["stage"]) == (7, "predicting")


def test_the_reporter_goes_on_from_what_was_written_before(place: Path):
    reporter = Reporter(place)
    reporter.tell(epoch=2)
    assert states.read(place) == replace(reporter.status, created=1.0, epochs=5, epoch=2)


def test_the_heart_beats_through_long_silent_work_and_ends_with_it(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(states, "HEARTBEAT_SECONDS", 0.02)

    def beats() -> int:
        seen = set()
        until = time.monotonic() + 0.4
        while time.monotonic() < until:
            seen.add(on_disk(place)["heartbeat"])
            time.sleep(0.01)
        return len(seen)

    with Reporter(place) as reporter:
        reporter.tell(state="running", owner=process.process_id())
        assert beats() >= 4
    assert beats() == 1
    assert on_disk(place)["state"] == "running"


def test_a_beat_carries_what_was_held_back(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(states, "HEARTBEAT_SECONDS", 0.05)
    with Reporter(place) as reporter:
        reporter.tell(epoch=1)
        reporter.tell(soon=True, batch=7)
        until = time.monotonic() + 5
        while on_disk(place)["batch"] != 7:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_the_heart_stops_when_the_work_fails(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(states, "HEARTBEAT_SECONDS", 0.02)
    with pytest.raises(ZeroDivisionError), Reporter(place) as reporter:
        reporter.tell(epoch=1)
        raise ZeroDivisionError
    assert not reporter._thread.is_alive()


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that has only the room left that the reporter holds free."""
    write = states.write

    def try_to(folder: Path, status: Status) -> None:
        if (folder / ".room").exists():
            raise WorkFailed("No space left on device.")
        write(folder, status)

    monkeypatch.setattr(states, "write", try_to)


def test_on_a_full_disk_progress_is_not_told_and_how_it_ended_is(place: Path, full: None):
    with Reporter(place) as reporter:
        reporter.tell(soon=True, batch=7)
        with pytest.raises(WorkFailed):
            reporter.tell(epoch=1)
        assert on_disk(place)["batch"] == 0
        reporter.tell(state="failed", reason="The disk is full.")
        assert (on_disk(place)["state"], on_disk(place)["reason"]) == ("failed", "The disk is full.")
    assert not (place / ".room").exists()


def test_the_heart_goes_on_when_a_beat_cannot_be_written(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(states, "HEARTBEAT_SECONDS", 0.02)
    write, calls = states.write, []

    def sometimes(folder: Path, status: Status) -> None:
        calls.append(status)
        if len(calls) < 4:
            raise WorkFailed("No space left on device.")
        write(folder, status)

    monkeypatch.setattr(states, "write", sometimes)
    with Reporter(place):
        until = time.monotonic() + 5
        while not on_disk(place)["heartbeat"]:
            assert time.monotonic() < until
            time.sleep(0.01)
