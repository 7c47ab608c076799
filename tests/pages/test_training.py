"""The Train page as a person uses it: groups, the queue, going on, names, copies, deletions."""

import base64
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from cxr_core import process, workspace
from cxr_core.errors import Busy
from cxr_core.jobs import queue
from cxr_core.runs import config as settings
from cxr_core.runs import groups, trash
from cxr_core.runs import run_store as runs
from cxr_core.runs import status as states
from tests.pages.test_pages import text, visit

PAGE = "pages/model/train.py"


@pytest.fixture(autouse=True)
def nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process stands in for those of the runs, and is not to be killed for it."""
    monkeypatch.setattr(process, "start", lambda arguments, log, variables=None: process.process_id())
    monkeypatch.setattr(process, "kill", lambda who: None)


def press(test: AppTest, *, key: str = "", label: str = "") -> AppTest:
    next(one for one in test.button if (key and one.key == key) or (label and one.label == label)).click().run()
    assert not test.exception
    return test


def ended(run_id: str, how: states.State) -> None:
    place = workspace.run(run_id)
    states.write(place, replace(states.read(place), state=how, stage="", ended=time.time(), reason="For a reason."))


def queued(count: int) -> list[str]:
    (run,) = runs.list_runs()
    return [runs.create(replace(run.config, seed=seed)) for seed in range(count)]


def test_seeds_and_folds_become_a_group_that_is_stopped_as_one(trained_home: Path) -> None:
    test = visit(PAGE)
    test.number_input(key="train_seeds").set_value(2)
    test.selectbox(key="train_folds").set_value(3).run()
    press(test, label="Start 6 trainings")
    (group,) = groups.list_groups(runs.list_runs())
    assert sorted({run.config.seed for run in group.runs}) == [0, 1]
    assert len({run.config.manifest for run in group.runs}) == 3
    assert "0 of 6 runs done" in [one.proto.text for one in test.get("progress")] or "Group: 6 runs" in text(test)
    press(test, label="Stop all")
    found = [run.status.state for run in groups.list_groups(runs.list_runs())[0].runs]
    assert found.count("stopped") == 5 and (group.runs[0].folder / "stop").exists()


def test_the_queue_is_shown_in_its_order_and_can_be_changed(trained_home: Path) -> None:
    ids = queued(3)
    test = visit(PAGE)
    assert "Number 1 of 2 in the queue" in text(test)
    press(test, key=f"first-{ids[2]}")
    states_ = {run.id: run for run in runs.list_runs()}
    assert states_[ids[2]].status.turn < states_[ids[1]].status.turn


@pytest.mark.parametrize("how", ["stopped", "failed", "interrupted"])
def test_a_run_that_did_not_finish_goes_on(trained_home: Path, how: states.State) -> None:
    (run_id,) = queued(1)
    test = visit(PAGE)
    ended(run_id, how)
    test.run()
    assert "For a reason." in text(test)
    press(test, key=f"resume-{run_id}")
    assert runs.get(run_id).status.state == "running"


def test_a_deleted_run_is_brought_back(trained_home: Path) -> None:
    (run,) = runs.list_runs()
    trash.delete(run.id)
    test = visit(PAGE)
    press(test, key=f"restore-{run.id}")
    assert [one.id for one in runs.list_runs()] == [run.id]


def test_a_name_and_a_note_are_shown_in_place_of_the_plain_title(trained_home: Path) -> None:
    (run,) = runs.list_runs()
    runs.describe(run.id, name="The first", note="only to try")
    told = text(visit(PAGE))
    assert "**The first**" in told and "only to try" in told


def test_a_copy_with_changes_is_offered_with_all_settings_of_the_run(trained_home: Path) -> None:
    (run,) = runs.list_runs()
    test = press(visit(PAGE), key=f":material/content_copy:-{run.id}")
    test.number_input(key=f"again-{run.id}-epochs").set_value(1)
    next(one for one in test.button if one.label == "Start training" and one.key is None)
    keys = {one.key for one in [*test.number_input, *test.selectbox, *test.checkbox, *test.text_input]}
    assert {f"again-{run.id}-{name}" for name in settings.SETTINGS} <= keys


def test_the_curves_grow_with_each_epoch(trained_home: Path) -> None:
    (run,) = runs.list_runs()
    test = visit(PAGE)
    rows = runs.history(run.id).to_dict("records")
    for count in (3, 4):
        rows.append({**rows[-1], "epoch": count})
        runs.write_history(run.folder, rows)
        test.run()
        (chart,) = test.get("plotly_chart")
        assert all(len(line["x"]) == count for line in drawn(chart)["data"])


def drawn(chart: Any) -> dict[str, Any]:
    """The figure, with arrays that Plotly has packed as lists."""

    def whole(one: Any) -> Any:
        if isinstance(one, dict) and "bdata" in one:
            return np.frombuffer(base64.b64decode(one["bdata"]), one["dtype"]).tolist()
        return {key: whole(value) for key, value in one.items()} if isinstance(one, dict) else one

    figure = json.loads(chart.proto.spec)
    return {**figure, "data": [whole(line) for line in figure["data"]]}


def test_what_waits_for_room_on_the_disk_says_so(trained_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queued(2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=10**9, used=10**9, free=0))
    test = visit(PAGE)
    assert text(test).count("Waiting for room on the disk") == 1
    assert [run.status.state for run in runs.list_runs()].count("queued") == 2


def crowd(count: int, state: states.State, config: Any, metrics: Any) -> None:
    for number in range(count):
        place = workspace.runs() / f"custom_cnn-phantoms-20250101-{number:06}-{state[:3]}"
        workspace.write_json(place / "config.json", settings.to_document(config))
        states.write(place, states.Status(state=state, created=1e9 + number, turn=1e9 + number))
        if metrics:
            workspace.write_json(place / "metrics.json", metrics)


def seconds(test: AppTest) -> float:
    """Of the fastest of three runs of a page."""
    spent = []
    for _ in range(3):
        start = time.perf_counter()
        test.run()
        spent.append(time.perf_counter() - start)
    return min(spent)


@pytest.mark.parametrize("page", ["pages/overview/home.py", PAGE])
def test_what_keeps_runs_from_starting_is_told_with_them_and_hides_no_page(
    trained_home: Path, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    (run_id,) = queued(1)
    monkeypatch.setenv("CXR_PLACES", "two")
    test = visit(page)
    assert [error.value for error in test.error] == []
    if page == PAGE:
        (told,) = (warning.value for warning in visit(page).warning if "CXR_PLACES" in warning.value)
        assert "Received: 'two'" in told
    monkeypatch.delenv("CXR_PLACES")
    visit(page)
    assert runs.get(run_id).status.state == "running"


def test_a_page_is_drawn_while_another_process_starts_runs(trained_home: Path) -> None:
    queued(1)
    with queue.queue_lock():
        assert "Number 1 of 1 in the queue" in text(visit(PAGE))


def test_a_stop_that_cannot_be_asked_for_is_told(trained_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run_id,) = queued(1)
    test = visit(PAGE)

    def busy(run_id: str) -> None:
        raise Busy("Another process has been changing the queue.")

    monkeypatch.setattr(queue, "stop", busy)
    press(test, key=f"stop-{run_id}")
    assert "Another process has been changing the queue." in [toast.value for toast in test.toast]


@pytest.mark.slow
def test_a_thousand_runs_and_a_long_queue_are_drawn_at_once(trained_home: Path) -> None:
    """Beside the same page with few runs, so that a busy machine does not matter."""
    (run,) = runs.list_runs()
    crowd(5, "finished", run.config, run.metrics)
    crowd(5, "queued", run.config, None)
    test = visit(PAGE)
    few = seconds(test)
    crowd(1000, "finished", run.config, run.metrics)
    crowd(200, "queued", run.config, None)
    many = seconds(test)
    assert not test.exception
    assert "in the queue" in text(test)
    assert many < 3 * few, (few, many)
