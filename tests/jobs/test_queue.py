"""The queue: first come, first served, never more at once than there are places."""

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from cxr_core import machine, process, workspace
from cxr_core.errors import BadInput, Busy, CxrError, UnknownName, WorkFailed
from cxr_core.jobs import disk_space, queue
from cxr_core.runs import config, run_store
from cxr_core.runs import status as states
from cxr_core.runs.config import RunConfig


def settings(data: str) -> RunConfig:
    """Each run of a test has a dataset of its own, so that no two ids can be equal."""
    return config.make(model="custom_cnn", recipe="paper", data=data, manifest="0" * 12, classes=("a", "b"))


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that were started, in order; nothing is trained, and this process stands in for theirs."""
    calls: list[str] = []

    def start(arguments: Sequence[str], *, log: Path, variables: Mapping[str, str]) -> process.ProcessId:
        work, run_id = arguments
        assert work == "work"
        assert log == workspace.run(run_id) / "log.txt"
        calls.append(run_id)
        return process.process_id()

    monkeypatch.setattr(process, "start", start)
    for name in ("CXR_PLACES", "CXR_EXECUTOR", "CUDA_VISIBLE_DEVICES", "KERAS_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    return calls


def state(run_id: str) -> states.State:
    return run_store.get(run_id).status.state


def end(run_id: str, how: states.State = "finished") -> None:
    """Write the status that the process of a run writes last."""
    place = workspace.run(run_id)
    states.write(place, replace(states.read(place), state=how, ended=time.time()))


def die(run_id: str) -> None:
    """End the process of a run without a last status."""
    place = workspace.run(run_id)
    states.write(place, replace(states.read(place), owner={**process.process_id(), "born": 1.0, "started": ""}))


def submit(count: int) -> list[str]:
    return [queue.submit(settings(f"d{number}")) for number in range(count)]


def test_a_run_is_started_at_once_where_there_is_a_place(started: list[str]):
    before = time.time()
    [run_id] = submit(1)
    assert started == [run_id]
    status = run_store.get(run_id).status
    assert (status.state, status.stage, status.owner) == ("running", "starting", process.process_id())
    assert before <= status.created <= status.started <= time.time()
    assert status.heartbeat == status.started


def test_one_trains_at_a_time_first_come_first_served(started: list[str]):
    ids = submit(4)
    assert [state(one) for one in ids] == ["running", "queued", "queued", "queued"]
    for number, run_id in enumerate(ids):
        assert started == ids[: number + 1]
        end(run_id)
        queue.dispatch()
    assert started == ids
    assert {state(one) for one in ids} == {"finished"}


def test_the_order_is_that_of_submission_and_not_of_names(started: list[str]):
    ids = [queue.submit(settings(name)) for name in ("m", "z", "a")]
    for one in ids:
        end(one)
        queue.dispatch()
    assert started == ids


def test_looking_again_starts_nothing_while_the_place_is_taken(started: list[str]):
    ids = submit(2)
    for _ in range(5):
        queue.dispatch()
    assert started == ids[:1]


def test_with_nothing_to_do_nothing_happens(started: list[str]):
    queue.dispatch()
    assert started == []


def test_as_many_train_at_once_as_there_are_places(started: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXR_PLACES", "2")
    ids = submit(4)
    assert started == ids[:2]
    end(ids[0])
    queue.dispatch()
    assert started == ids[:3]


def test_more_places_are_filled_at_the_next_look_and_fewer_start_nothing(
    started: list[str], monkeypatch: pytest.MonkeyPatch
):
    ids = submit(4)
    monkeypatch.setenv("CXR_PLACES", "3")
    queue.dispatch()
    assert started == ids[:3]
    monkeypatch.setenv("CXR_PLACES", "1")
    end(ids[0])
    queue.dispatch()
    assert started == ids[:3]


@pytest.mark.parametrize(("value", "places"), [("1", 1), ("3", 3), ("0", 1), ("-2", 1)])
def test_there_is_at_least_one_place(monkeypatch: pytest.MonkeyPatch, value: str, places: int):
    monkeypatch.setenv("CXR_PLACES", value)
    assert queue.max_concurrent_runs() == places


@pytest.mark.parametrize("value", ["two", "", "1.5"])
def test_a_number_of_places_that_is_none_is_told_in_words_or_passed_over(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("CXR_PLACES", value)
    with contextlib.suppress(CxrError):
        assert queue.max_concurrent_runs() == 1


@pytest.mark.parametrize("how", states.ENDED)
def test_however_a_run_ends_its_place_is_free(started: list[str], how: states.State):
    ids = submit(2)
    end(ids[0], how)
    queue.dispatch()
    assert started == ids


def test_a_run_whose_process_died_frees_its_place(started: list[str]):
    ids = submit(2)
    die(ids[0])
    queue.dispatch()
    assert started == ids
    assert state(ids[0]) == "interrupted"


def test_a_damaged_run_does_not_stop_the_queue(started: list[str]):
    ids = submit(2)
    (workspace.run(ids[0]) / "status.json").write_text("{")
    queue.dispatch()
    assert started == ids


def test_many_who_look_at_once_start_a_run_once(started: list[str], monkeypatch: pytest.MonkeyPatch):
    fast = process.start

    def slow(arguments: Sequence[str], *, log: Path, variables: Mapping[str, str]) -> process.ProcessId:
        time.sleep(0.1)
        return fast(arguments, log=log, variables=variables)

    monkeypatch.setattr(process, "start", slow)
    ids = [run_store.create(settings(name)) for name in "abc"]
    lookers = [threading.Thread(target=queue.dispatch) for _ in range(4)]
    for one in lookers:
        one.start()
    for one in lookers:
        one.join()
    assert started == ids[:1]


def test_a_run_whose_process_cannot_be_started_stays_queued(started: list[str], monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> process.ProcessId:
        raise OSError("out of memory")

    run_id = run_store.create(settings("a"))
    with monkeypatch.context() as patch:
        patch.setattr(process, "start", fail)
        queue.dispatch()
    assert state(run_id) == "queued"
    expected = "Its process could not be started (OSError: out of memory). It is tried again."
    assert run_store.get(run_id).status.waits_for == queue.obstacle(run_store.get(run_id)) == expected
    queue.dispatch()
    assert started == [run_id]
    assert run_store.get(run_id).status.waits_for == ""


def test_runs_behind_one_that_cannot_be_started_are_started(started: list[str], monkeypatch: pytest.MonkeyPatch):
    fast = process.start

    def start(arguments: Sequence[str], *, log: Path, variables: Mapping[str, str]) -> process.ProcessId:
        log.open("ab").close()
        return fast(arguments, log=log, variables=variables)

    monkeypatch.setattr(process, "start", start)
    bad, good = run_store.create(settings("a")), run_store.create(settings("b"))
    states.write(workspace.run(bad), replace(run_store.get(bad).status, turn=1.0))
    (workspace.run(bad) / "log.txt").mkdir()
    queue.dispatch()
    assert state(bad) == "queued"
    assert "IsADirectoryError" in run_store.get(bad).status.waits_for
    assert started == [good]
    assert state(good) == "running"


def test_a_queued_run_that_is_stopped_never_starts(started: list[str]):
    ids = submit(3)
    queue.stop(ids[1])
    status = run_store.get(ids[1]).status
    assert (status.state, status.reason, status.started) == ("stopped", "Stopped before it was started.", 0.0)
    assert status.ended >= status.created
    end(ids[0])
    queue.dispatch()
    assert started == [ids[0], ids[2]]


def test_a_running_run_is_asked_to_stop_and_keeps_its_place_until_it_has(started: list[str]):
    ids = submit(2)
    queue.stop(ids[0])
    assert (workspace.run(ids[0]) / "stop").is_file()
    assert state(ids[0]) == "running"
    queue.stop(ids[0])  # asking twice does no harm
    queue.dispatch()
    assert started == ids[:1]
    assert not (workspace.run(ids[1]) / "stop").exists()


@pytest.mark.parametrize("how", states.ENDED)
def test_a_run_that_has_ended_is_not_stopped_and_the_answer_says_how_it_ended(how: states.State):
    [run_id] = submit(1)
    end(run_id, how)
    with pytest.raises(BadInput, match=rf"has ended already \({how}\); there is nothing to stop"):
        queue.stop(run_id)
    assert state(run_id) == how
    assert not (workspace.run(run_id) / "stop").exists()


def test_a_run_whose_process_died_has_ended():
    [run_id] = submit(1)
    die(run_id)
    with pytest.raises(BadInput, match=r"has ended already \(interrupted\)"):
        queue.stop(run_id)


def test_stopping_an_unknown_run_lists_the_known_ones():
    [run_id] = submit(1)
    with pytest.raises(UnknownName, match=f"Known: {run_id}"):
        queue.stop("other")


def test_waiting_looks_until_the_run_has_ended_and_starts_what_is_next(started: list[str]):
    first, second = submit(2)
    seen: list[states.State] = []

    def look(run: run_store.Run) -> None:
        seen.append(run.status.state)
        end(first if run.status.state == "queued" else second)

    assert queue.wait(second, look).status.state == "finished"
    assert seen == ["queued", "running"]
    assert started == [first, second]


def test_waiting_for_one_that_has_ended_returns_at_once():
    [run_id] = submit(1)
    end(run_id, "failed")
    assert queue.wait(run_id, lambda run: pytest.fail(f"{run.id} was looked at")).status.state == "failed"


@pytest.mark.parametrize("how", ["stopped", "failed", "interrupted"])
def test_a_run_that_did_not_finish_goes_on_when_it_is_its_turn(
    started: list[str], how: states.State, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(process, "kill", lambda who: None)  # it would be this very process
    first, second = submit(2)
    queue.stop(first)
    end(first, how)
    queue.dispatch()
    queue.resume(first)
    status = run_store.get(first).status
    assert (status.state, status.reason, status.ended) == ("queued", "", 0.0)
    assert not (workspace.run(first) / "stop").exists()
    end(second)
    queue.dispatch()
    assert started == [first, second, first]


@pytest.mark.parametrize("how", ["finished", "running", "queued"])
def test_nothing_else_goes_on(how: states.State):
    [run_id] = submit(1)
    end(run_id, how)
    with pytest.raises(BadInput, match=f"is {how}. Only one that was stopped"):
        queue.resume(run_id)


@pytest.mark.parametrize(("to", "order"), [("first", "dabc"), ("earlier", "abdc"), ("later", "abcd"), ("last", "abcd")])
def test_the_last_of_the_queue_is_moved(started: list[str], to: queue.Move, order: str):
    running, *ids = [queue.submit(settings(name)) for name in "rabcd"]
    queue.move(ids[3], to)
    assert "".join(run.config.data for run in queue.waiting_runs(run_store.list_runs())) == order
    end(running)
    queue.dispatch()
    assert run_store.get(started[-1]).config.data == order[0]


@pytest.mark.parametrize(("to", "order"), [("later", "bacd"), ("last", "bcda"), ("earlier", "abcd")])
def test_the_first_of_the_queue_is_moved(to: queue.Move, order: str):
    _, *ids = [queue.submit(settings(name)) for name in "rabcd"]
    queue.move(ids[0], to)
    assert "".join(run.config.data for run in queue.waiting_runs(run_store.list_runs())) == order


def test_one_that_is_not_queued_is_not_moved():
    [run_id] = submit(1)
    with pytest.raises(BadInput, match="only a queued one"):
        queue.move(run_id, "first")


def test_each_run_has_graphics_cards_of_its_own(monkeypatch: pytest.MonkeyPatch):
    given: list[str] = []

    def start(arguments: Sequence[str], *, log: Path, variables: Mapping[str, str]) -> process.ProcessId:
        given.append(variables["CUDA_VISIBLE_DEVICES"])
        return process.process_id()

    monkeypatch.setattr(process, "start", start)
    monkeypatch.setattr(machine, "list_gpus", lambda: (machine.Gpu("T4", 15.0),) * 4)
    ids = submit(5)
    assert given == ["0", "1", "2", "3"]
    end(ids[2])
    queue.dispatch()
    assert given[4:] == ["2"]
    for one in ids:
        end(one)
    given.clear()
    monkeypatch.setenv("CXR_PLACES", "2")
    submit(2)
    assert given == ["0,1", "2,3"]


def test_a_copy_has_the_same_settings_but_for_the_changes():
    [run_id] = submit(1)
    copy = run_store.get(queue.duplicate(run_id, {"epochs": "3", "seed": 7}))
    assert copy.config == config.with_settings(run_store.get(run_id).config, {"epochs": 3, "seed": 7})
    with pytest.raises(UnknownName):
        queue.duplicate(run_id, {"nonsense": 1})


def test_a_backend_that_is_not_there_is_told_before_anything_is_queued(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KERAS_BACKEND", "abacus")
    with pytest.raises(BadInput, match="one of tensorflow, jax, torch"):
        submit(1)
    assert run_store.list_ids() == []


def test_what_waits_does_not_start_on_a_disk_without_room_and_does_when_there_is(
    started: list[str], monkeypatch: pytest.MonkeyPatch
):
    run_id = run_store.create(settings("a"))
    needed = disk_space.bytes_needed(run_store.get(run_id).config)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
        queue.dispatch()
        assert (started, state(run_id)) == ([], "queued")
        assert "Waiting for room on the disk" in disk_space.shortage(run_store.get(run_id).config)
    queue.dispatch()
    assert started == [run_id]
    assert disk_space.shortage(run_store.get(run_id).config) == ""


def test_a_network_needs_more_room_the_more_of_it_learns():
    def needed(**changes: object) -> int:
        made = config.make(
            model="resnet50", recipe="paper", data="d", manifest="0" * 12, classes=("a", "b"), settings=changes
        )
        return disk_space.bytes_needed(made)

    assert needed(trained="head") < needed(trained="last_block") < needed(trained="all")


def test_a_start_that_cannot_be_written_down_is_taken_back(started: list[str], monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise WorkFailed("The disk is full.")

    killed: list[process.ProcessId] = []
    run_id = run_store.create(settings("a"))
    with monkeypatch.context() as patch:
        patch.setattr(process, "kill", killed.append)
        patch.setattr(states, "write", full)
        queue.dispatch()
    assert (started, killed) == ([run_id], [process.process_id()])
    assert state(run_id) == "queued"


def test_a_run_is_trained_by_the_process_that_it_was_started_as(started: list[str]):
    [run_id] = submit(1)
    before = run_store.get(run_id).status
    assert queue.claim(run_id).status == before  # this process stands in for the one that was started
    die(run_id)
    assert state(run_id) == "interrupted"
    taken = queue.claim(run_id).status
    assert (taken.state, taken.owner) == ("running", process.process_id())
    assert run_store.get(run_id).status == taken


@pytest.mark.parametrize("how", ["finished", "stopped", "failed"])
def test_a_run_that_has_ended_is_not_trained_over(started: list[str], how: states.State):
    [run_id] = submit(1)
    end(run_id, how)
    before = run_store.get(run_id).status
    with pytest.raises(BadInput, match=f"is {how}; only one that waits is trained"):
        queue.claim(run_id)
    assert run_store.get(run_id).status == before


def test_a_run_that_another_process_trains_is_left_to_it(started: list[str]):
    [run_id] = submit(1)
    with subprocess.Popen(["sleep", "60"]) as other:
        place = workspace.run(run_id)
        states.write(place, replace(states.read(place), owner=process.process_id(other.pid)))
        with pytest.raises(BadInput, match="is running; only one that waits"):
            queue.claim(run_id)
        other.kill()


@pytest.mark.parametrize(("variable", "value"), [("CXR_PLACES", "two"), ("CXR_EXECUTOR", "slurm")])
def test_a_bad_variable_is_told_with_what_waits_and_stops_nobody_from_looking(
    started: list[str], monkeypatch: pytest.MonkeyPatch, variable: str, value: str
):
    first, second = run_store.create(settings("a")), run_store.create(settings("b"))
    for run_id, turn in ((first, 1.0), (second, 2.0)):
        states.write(workspace.run(run_id), replace(run_store.get(run_id).status, turn=turn))
    monkeypatch.setenv(variable, value)
    for _ in range(2):
        assert {run.id for run in queue.look()} == {run.id for run in queue.dispatch()} == {first, second}
    assert f"Received: '{value}'" in run_store.get(first).status.waits_for
    assert run_store.get(second).status.waits_for == ""
    assert started == []
    monkeypatch.delenv(variable)
    queue.look()
    assert started == [first]
    assert run_store.get(first).status.waits_for == ""


@pytest.mark.parametrize(("variable", "value"), [("CXR_PLACES", "two"), ("CXR_EXECUTOR", "slurm")])
def test_a_bad_variable_is_told_before_anything_is_queued(monkeypatch: pytest.MonkeyPatch, variable: str, value: str):
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadInput, match=f"Received: '{value}'"):
        submit(1)
    assert run_store.list_ids() == []


def test_the_sentence_goes_when_nothing_but_its_turn_is_missing(started: list[str], monkeypatch: pytest.MonkeyPatch):
    first, second = submit(2)
    monkeypatch.setenv("CXR_PLACES", "two")
    queue.dispatch()
    assert "CXR_PLACES" in run_store.get(second).status.waits_for
    monkeypatch.delenv("CXR_PLACES")
    queue.dispatch()
    assert run_store.get(second).status.waits_for == ""
    assert started == [first]


def test_looking_does_not_wait_for_another_that_starts_runs(started: list[str]):
    run_id = run_store.create(settings("a"))
    with FileLock(workspace.runs() / ".queue.lock"):
        begun = time.monotonic()
        assert [run.id for run in queue.look()] == [run_id]
        assert time.monotonic() - begun < 5
    assert started == []
    queue.look()
    assert started == [run_id]


def test_where_nothing_can_start_nobody_takes_the_lock(started: list[str]):
    submit(2)  # one trains, one waits
    with FileLock(workspace.runs() / ".queue.lock"):
        begun = time.monotonic()
        queue.dispatch()
        assert time.monotonic() - begun < 5


def test_an_action_that_waits_too_long_for_another_is_told():
    busy = pytest.raises(Busy, match="holds the queue of trainings, for more than")
    with queue.queue_lock(), busy, queue.queue_lock(timeout=0.2):
        pytest.fail("two hold the lock")


def test_a_lock_that_cannot_be_opened_is_told_with_what_waits(started: list[str]):
    run_id = run_store.create(settings("a"))
    (workspace.runs() / ".queue.lock").mkdir()
    with pytest.raises(WorkFailed, match=r"The lock .* cannot be opened"), queue.queue_lock():
        pytest.fail("there is no lock")
    assert [run.id for run in queue.look()] == [run_id]
    assert started == []


def test_the_operators_log_names_runs_and_how_they_ended(
    started: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    caplog.set_level("INFO", "cxr_core")
    first, second = submit(2)
    end(first)
    queue.dispatch()
    end(second, "failed")
    queue.dispatch()
    pid = process.process_id()["pid"]
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("INFO", f"Run {first} started as process {pid}."),
        ("INFO", f"Run {first} ended: finished."),
        ("INFO", f"Run {second} started as process {pid}."),
        ("WARNING", f"Run {second} ended: failed."),
    ]
