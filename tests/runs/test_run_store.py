"""Runs on disk: listed newest first, found by id, deleted only when they have ended."""

import secrets
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cxr_core import process, workspace
from cxr_core.errors import BadInput, UnknownName, WorkFailed
from cxr_core.runs import config, run_store, trash
from cxr_core.runs import status as states
from cxr_core.runs.config import RunConfig
from cxr_core.runs.status import Status


def settings(data: str = "kermany", **changes: Any) -> RunConfig:
    return config.make(
        model="custom_cnn", recipe="paper", data=data, manifest="0" * 12, classes=("normal", "viral"), settings=changes
    )


def placed(run_id: str, *, root: Path | None = None, created: float = 0.0, **status: Any) -> str:
    """A run with this id, as if it had been made then."""
    place = (root or workspace.runs()) / run_id
    workspace.write_json(place / "config.json", config.to_document(settings()))
    states.write(place, Status(created=created, **status))
    return run_id


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped runs, empty, in place of the project's own."""
    monkeypatch.setattr(workspace, "pretrained", lambda: tmp_path / "pretrained")
    return tmp_path / "pretrained"


OLD, NEW, NEWEST = (
    "custom_cnn-z-20250101-120000-fff",
    "vgg16-a-20251231-235959-000",
    "custom_cnn-a-20260101-000000-0a0",
)


def test_a_new_run_is_queued_with_its_settings_and_nothing_else():
    run_id = run_store.create(settings(epochs=7))
    run = run_store.get(run_id)
    assert (run.id, run.config, run.metrics, run.has_predictions) == (run_id, settings(epochs=7), {}, False)
    assert (run.status.state, run.status.epochs) == ("queued", 7)
    assert run.status.created == pytest.approx(time.time(), abs=60)
    assert run.folder == workspace.run(run_id)


def test_an_id_says_what_the_run_is_and_sorts_by_time():
    run_id = run_store.make_id(settings("a-very-long-name-of-a-dataset-that-goes-on"))
    assert run_id.startswith("custom_cnn-a-very-long-name-of-a-dataset--")
    assert time.strptime(run_id[-19:-4], "%Y%m%d-%H%M%S")
    assert workspace.validate_name(run_id) == run_id


def test_two_runs_of_the_same_second_never_share_a_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "strftime", lambda _: "20260101-000000")
    drawn = iter(["abcd", "abce", "1234", "5678", "9abc"])
    monkeypatch.setattr(secrets, "token_hex", lambda size: next(drawn) if size == 2 else "00000000")
    first = run_store.create(settings(epochs=1))
    second = run_store.create(settings(epochs=2))
    assert first != second
    assert run_store.get(first).config.epochs == 1


def test_ids_come_newest_first_whatever_the_model_is_called(shipped: Path):
    placed(NEW)
    placed(OLD, root=shipped)
    placed(NEWEST)
    assert run_store.list_ids() == [NEWEST, NEW, OLD]


def test_runs_come_newest_first_by_when_they_were_made():
    placed(OLD, created=3.0)
    placed(NEW, created=1.0)
    placed(NEWEST, created=2.0)
    assert [run.id for run in run_store.list_runs()] == [OLD, NEWEST, NEW]


def test_where_there_are_no_runs_the_list_is_empty():
    assert run_store.list_ids() == []
    assert run_store.list_runs() == []


def test_a_folder_without_a_status_is_no_run():
    (workspace.runs() / "stray").mkdir(parents=True)
    (workspace.runs() / "file").touch()
    assert run_store.list_ids() == []


def test_a_shipped_run_is_found_and_the_users_own_of_the_same_id_comes_first(shipped: Path):
    placed(NEW, root=shipped, created=1.0)
    assert run_store.folder(NEW) == shipped / NEW
    placed(NEW, created=2.0)
    assert run_store.get(NEW).status.created == 2.0
    assert run_store.list_ids() == [NEW]


@pytest.mark.parametrize(
    "ask",
    [
        run_store.folder,
        run_store.get,
        run_store.history,
        run_store.log,
        lambda run_id: run_store.predictions_path(run_id, "test"),
    ],
)
def test_an_unknown_run_is_answered_with_the_known_ones(ask: Any):
    placed(OLD)
    placed(NEW)
    with pytest.raises(UnknownName, match=f"no run named 'x'. Known: {NEW}, {OLD}."):
        ask("x")


@pytest.mark.parametrize("run_id", ["../datasets", "", "/etc", "a/b"])
def test_an_id_that_is_no_name_is_refused(run_id: str):
    with pytest.raises(BadInput):
        run_store.get(run_id)


@pytest.mark.parametrize("content", ["", "{", "\0" * 9, '{"new": 1}'])
@pytest.mark.parametrize("name", ["status.json", "config.json", "metrics.json"])
def test_a_damaged_run_does_not_hide_the_others(name: str, content: str):
    placed(OLD)
    placed(NEW)
    (workspace.run(OLD) / name).write_text(content)
    listed = [run.id for run in run_store.list_runs()]
    assert NEW in listed
    if not content.startswith('{"'):
        assert listed == [NEW]
        with pytest.raises(WorkFailed, match=rf"{name} is damaged"):
            run_store.get(OLD)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("status.json", "null"), ("status.json", "[]"), ("status.json", "{}"), ("status.json", '{"created": "now"}'),
        ("status.json", '{"state": "done"}'), ("status.json", '{"state": "running", "owner": {"pid": "1"}}'),
        ("status.json", '{"state": "running", "owner": {"host": 1, "pid": 2, "born": "x"}}'),
        ("config.json", "null"), ("metrics.json", "null"), ("metrics.json", "[1]"), ("metrics.json", '{"test": 5}'),
        ("metrics.json", '{"test": {}}'),
        ("label.json", "null"), ("label.json", "[]"), ("label.json", '{"name": 5}'), ("label.json", "{"),
    ],
)  # fmt: skip
def test_json_of_another_shape_does_not_hide_the_others(name: str, content: str):
    placed(OLD, created=1.0)
    placed(NEW, created=2.0)
    (workspace.run(OLD) / name).write_text(content)
    assert NEW in [run.id for run in run_store.list_runs()]
    assert (OLD in run_store.list_damaged()) == (OLD not in [run.id for run in run_store.list_runs()])


@pytest.mark.parametrize("content", ["[]", "{}", '{"new": 1}'])
def test_a_damaged_configuration_is_named_by_its_path(content: str):
    placed(OLD)
    path = workspace.run(OLD) / "config.json"
    path.write_text(content)
    with pytest.raises(BadInput) as caught:
        run_store.get(OLD)
    assert str(caught.value).startswith(f"{path} is damaged. ") and "from a backup" in str(caught.value)


def test_a_finished_run_whose_status_says_nothing_is_not_queued():
    """No state is a default: as queued it would be trained again."""
    placed(OLD)
    for content in ("{}", '{"created": 5.0}', '{"state": null}'):
        (workspace.run(OLD) / "status.json").write_text(content)
        with pytest.raises(WorkFailed, match=r"status\.json is damaged"):
            run_store.get(OLD)


@pytest.mark.parametrize("content", ["null", "[]", "{", '"name"'])
def test_a_damaged_label_costs_the_name_alone_and_says_so(content: str):
    placed(OLD)
    run_store.describe(OLD, name="Mine")
    (workspace.run(OLD) / "label.json").write_text(content)
    run = run_store.get(OLD)
    assert run.name == "" and "label.json is damaged" in run.note


def test_a_run_without_its_settings_is_told_with_the_way_out():
    placed(OLD)
    (workspace.run(OLD) / "config.json").unlink()
    with pytest.raises(WorkFailed, match=rf"Run '{OLD}' lacks .*config\.json\. Delete it with: runs delete {OLD}"):
        run_store.get(OLD)
    assert run_store.list_runs() == []
    trash.delete(OLD)
    assert run_store.list_ids() == []


def test_a_run_with_metrics_is_usable():
    placed(OLD, state="finished")
    workspace.write_json(workspace.run(OLD) / "metrics.json", {"test": {"accuracy": 0.5, "macro_f1": 0.4}})
    assert run_store.get(OLD).has_predictions
    assert run_store.get(OLD).metrics["test"] == {"accuracy": 0.5, "macro_f1": 0.4}


def test_the_history_is_empty_before_the_first_epoch_and_comes_back_as_written():
    placed(OLD)
    assert run_store.history(OLD).empty
    assert tuple(run_store.history(OLD).columns) == run_store.HISTORY
    rows = [dict.fromkeys(run_store.HISTORY, 1.5) | {"epoch": n} for n in (1, 2)]
    run_store.write_history(workspace.run(OLD), rows)
    pd.testing.assert_frame_equal(run_store.history(OLD), pd.DataFrame(rows, columns=list(run_store.HISTORY)))


def test_the_log_gives_its_last_lines():
    placed(OLD)
    assert run_store.log(OLD) == ""
    (workspace.run(OLD) / "log.txt").write_text("".join(f"line {n}\n" for n in range(1000)))
    assert run_store.log(OLD, last=2) == "line 998\nline 999"
    assert run_store.log(OLD).splitlines() == [f"line {n}" for n in range(960, 1000)]


def test_a_log_that_is_no_text_is_still_shown():
    placed(OLD)
    (workspace.run(OLD) / "log.txt").write_bytes(b"\xff\xfe broken\n")
    assert "broken" in run_store.log(OLD)


def test_a_split_without_predictions_lists_those_that_have_some():
    placed(OLD)
    with pytest.raises(UnknownName, match="split with predictions"):
        run_store.predictions_path(OLD, "test")
    for split in ("val", "test"):
        workspace.write_bytes(workspace.run(OLD) / "predictions" / f"{split}.parquet", b"")
    assert run_store.predictions_path(OLD, "test") == workspace.run(OLD) / "predictions" / "test.parquet"
    with pytest.raises(UnknownName, match="Known: test, val"):
        run_store.predictions_path(OLD, "train")


@pytest.mark.parametrize("content", ["", "\0", 'epoch,loss\n1,"2'])
def test_a_damaged_history_is_told_in_words(content: str):
    placed(OLD)
    (workspace.run(OLD) / "history.csv").write_text(content)
    with pytest.raises(WorkFailed, match=r"history\.csv is damaged"):
        run_store.history(OLD)


@pytest.mark.parametrize(
    ("by", "best"), [("val_accuracy", 3), ("val_loss", 4), ("last", 5)], ids=["accuracy", "loss", "last"]
)
def test_the_best_epoch_is_the_one_that_is_kept(by: str, best: int):
    """Of equal accuracies the one with the smaller loss; an epoch without a loss never."""
    made = config.make(
        model="custom_cnn", recipe="paper", data="d", manifest="m", classes=("a", "b"), settings={"keep": by}
    )
    run_id = run_store.create(made)
    rows = [(1, 0.5, 0.9, 1.0), (2, 0.5, 0.8, 0.9), (3, 0.5, 0.9, 0.7), (4, 0.5, 0.1, 0.2), (5, 0.5, 0.2, 0.8)]
    names = ("epoch", "loss", "val_accuracy", "val_loss")
    run_store.write_history(workspace.run(run_id), [dict(zip(names, row, strict=True)) for row in rows])
    assert run_store.best_epoch(run_store.history(run_id), by) == best


def test_a_name_and_a_note_are_kept_one_without_the_other():
    placed(OLD)
    run_store.describe(OLD, name="  The  best ")
    run_store.describe(OLD, note="trained on a train")
    run = run_store.get(OLD)
    assert (run.name, run.note) == ("The best", "trained on a train")
    run_store.describe(OLD, name="")
    assert (run_store.get(OLD).name, run_store.get(OLD).note) == ("", "trained on a train")
    with pytest.raises(BadInput, match="at most 80 characters"):
        run_store.describe(OLD, name="x" * 81)


def test_a_thousand_runs_are_looked_at_again_in_a_moment_and_no_change_is_missed():
    for number in range(1000):
        placed(f"custom_cnn-d-20250101-{number:06}-aaa", state="finished", created=float(number))
    run_store.list_runs()
    start = time.perf_counter()
    assert len(run_store.list_runs()) == 1000
    assert time.perf_counter() - start < 0.5
    changed = f"custom_cnn-d-20250101-{500:06}-aaa"
    states.write(workspace.run(changed), Status(state="failed", created=500.0))
    assert [run.id for run in run_store.list_runs() if run.status.state == "failed"] == [changed]


def test_a_run_that_dies_is_seen_so_though_its_files_stay_the_same(monkeypatch: pytest.MonkeyPatch):
    placed(OLD, state="running", owner=process.process_id())
    assert run_store.get(OLD).status.state == "running"
    monkeypatch.setattr(process, "is_alive", lambda _: False)
    assert run_store.get(OLD).status.state == "interrupted"
