"""The decision rule of a run: fitted on its validation predictions alone, saved as one file, void when they change."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from cxr_core import workspace
from cxr_core.data import manifest
from cxr_core.errors import BadInput, UnknownName, WorkFailed
from cxr_core.evaluation import decision_rule, prediction_set, predictions, rule_store
from cxr_core.runs import run_store as runs
from tests import synthetic_runs

ILL = ("viral", "bacterial")


@pytest.fixture
def run(home: Path) -> str:
    synthetic_runs.paper_set()
    return synthetic_runs.on("kermany", manifest.build("kermany", split="patient").id)


def perturbed(run: str) -> None:
    """Give a run predictions of perturbed copies: worse ones than of the images themselves."""
    val = prediction_set.read(run, "val")
    worse = synthetic_runs.probabilities(val.true, 3, skill=1.2, seed=77)
    predictions.write(
        runs.predictions_path(run, "val").with_name("shifted.parquet"), val.with_probabilities(worse).table()
    )


def test_it_is_fitted_on_validation_and_perturbed_copies_and_on_nothing_else(run: str) -> None:
    plain = rule_store.fit(run, target_sensitivity=0.9)
    assert plain.splits == ("val",) and plain.images == len(prediction_set.read(run, "val"))
    test = prediction_set.read(run, "test")
    predictions.write(runs.predictions_path(run, "test"), test.take(np.arange(100)).table())
    assert rule_store.fit(run, target_sensitivity=0.9) == plain
    perturbed(run)
    both = rule_store.fit(run, target_sensitivity=0.9)
    assert both.splits == ("val", "shifted") and both.digest != plain.digest and both.threshold < plain.threshold
    sets = [prediction_set.read(run, split) for split in both.splits]
    assert decision_rule.fit(sets, target_sensitivity=0.9).threshold == both.threshold


def test_what_is_saved_is_what_a_run_answers_by_until_it_is_deleted(run: str) -> None:
    assert rule_store.saved(run) is None
    fitted = rule_store.fit(run, target_sensitivity=0.9)
    assert rule_store.saved(run) is None  # not saved yet
    rule_store.save(run, fitted)
    assert rule_store.of_run(run) == rule_store.saved(run) == fitted
    assert json.loads((runs.folder(run) / rule_store.FILE).read_text())["threshold"] == fitted.threshold
    rule_store.delete(run)
    rule_store.delete(run)
    assert rule_store.saved(run) is None and rule_store.of_run(run).threshold is None


def test_without_a_saved_rule_the_highest_probability_is_answered_and_doubt_is_told(run: str) -> None:
    found = rule_store.of_run(run)
    assert found.criterion == decision_rule.HIGHEST_PROBABILITY and found.temperature == 1 and not found.splits
    assert found.reject_threshold == decision_rule.fit_reject_threshold([prediction_set.read(run, "val")], found) > 0
    without = synthetic_runs.run({"test": (["a"], ["normal"])}, age=9)
    assert rule_store.of_run(without).reject_threshold == 0


@pytest.mark.parametrize("split", rule_store.SPLITS)
def test_it_is_void_when_its_predictions_change(run: str, split: str) -> None:
    perturbed(run)
    rule_store.save(run, rule_store.fit(run, target_sensitivity=0.9))
    assert rule_store.saved(run) is not None
    table = prediction_set.read(run, split)
    predictions.write(runs.predictions_path(run, split), table.take(np.arange(len(table) - 1)).table())
    assert rule_store.saved(run) is None and rule_store.of_run(run).threshold is None
    assert "is void: the predictions that it was fitted on have changed" in rule_store.of_run(run).notice
    assert rule_store.of_run(run).describe().startswith("highest probability (the saved decision rule")
    runs.predictions_path(run, split).unlink()
    assert rule_store.saved(run) is None
    assert "is void: the predictions that it was fitted on are gone" in rule_store.of_run(run).notice
    rule_store.delete(run)
    assert rule_store.of_run(run).notice == ""


def test_refitting_keeps_what_was_asked_for(run: str) -> None:
    for choice in (
        {"target_sensitivity": 0.9},
        {"threshold": 0.4, "positive": ("bacterial",), "criterion": "mine"},
        {},
    ):
        fitted = rule_store.fit(run, **choice)
        rule_store.save(run, fitted)
        assert rule_store.refit(run) == fitted


def old_files(run: str, *, temperature: float | None, point: float | None) -> None:
    """Write the files that version 0.1 left in the folder of a run."""
    digest = hashlib.sha256(runs.predictions_path(run, "val").read_bytes()).hexdigest()[:16]
    beside = {"images": len(prediction_set.read(run, "val")), "of": digest}
    if temperature is not None:
        workspace.write_json(runs.folder(run) / "temperature.json", {"value": temperature, **beside})
    if point is not None:
        document = {"positive": list(ILL), "threshold": point, "temperature": temperature or 1.0, "rule": "mine"}
        shares = {"sensitivity": 0.9, "specificity": 0.9}
        workspace.write_json(runs.folder(run) / "operating_point.json", document | shares | beside)


def test_a_run_of_version_01_answers_by_its_old_files(run: str) -> None:
    old_files(run, temperature=2.0, point=None)
    found = rule_store.of_run(run)
    assert (found.temperature, found.threshold) == (2.0, None)
    old_files(run, temperature=2.0, point=0.7)
    found = rule_store.saved(run)
    assert found is not None and (found.temperature, found.threshold, found.positive) == (2.0, 0.7, ILL)
    assert found.criterion == "mine" and found.splits == ("val",)
    assert found.reject_threshold == decision_rule.fit_reject_threshold([prediction_set.read(run, "val")], found) > 0
    rule_store.save(run, rule_store.fit(run))  # the new file takes their place
    assert sorted(path.name for path in runs.folder(run).glob("*.json") if path.name in rule_store.FILES) == [
        rule_store.FILE
    ]


def test_old_files_are_void_when_the_predictions_have_changed(run: str) -> None:
    old_files(run, temperature=2.0, point=0.7)
    val = prediction_set.read(run, "val")
    predictions.write(runs.predictions_path(run, "val"), val.take(np.arange(len(val) - 1)).table())
    assert rule_store.saved(run) is None and rule_store.of_run(run).temperature == 1
    assert "is void" in rule_store.of_run(run).notice


@pytest.mark.parametrize("name", rule_store.FILES[:3])
@pytest.mark.parametrize("content", ["[1]", '{"of": "x"', "{}", '{"classes": ["a"], "threshold": "high"}', '"x"', "7"])
def test_a_damaged_file_is_a_sentence_and_never_another_rule(run: str, name: str, content: str) -> None:
    old_files(run, temperature=2.0, point=0.7)
    (runs.folder(run) / name).write_text(content)
    with pytest.raises(WorkFailed, match=r"The decision rule in .* is damaged. Delete its file"):
        rule_store.of_run(run)
    shown = rule_store.of_run_or_default(run)
    assert shown.threshold is None and "is damaged" in shown.notice and "is damaged" in shown.describe()


@pytest.mark.parametrize(
    "key, value", [("images", "many"), ("threshold", "0.7"), ("positive", "viral"), ("rule", None)]
)
def test_an_old_file_with_a_value_of_another_type_is_damaged(run: str, key: str, value: object) -> None:
    old_files(run, temperature=2.0, point=0.7)
    path = runs.folder(run) / "operating_point.json"
    workspace.write_json(path, workspace.read_json(path) | {key: value})
    with pytest.raises(WorkFailed, match="damaged"):
        rule_store.of_run(run)


@pytest.mark.parametrize(
    "key, value",
    [
        ("temperature", -1),
        ("temperature", "hot"),
        ("temperature", 1e-320),
        ("temperature", 1e300),
        ("temperature", 10**400),
        ("temperature", True),
        ("threshold", 2),
        ("threshold", True),
        ("threshold", float("nan")),
        ("reject_threshold", False),
        ("reject_threshold", None),
        ("target_sensitivity", "x"),
        ("target_sensitivity", 2),
        ("positive", ["viral", "viral", "bacterial"]),
        ("positive", "viral"),
        ("criterion", None),
        ("splits", "val"),
        ("splits", [1]),
        ("images", -1),
        ("images", "many"),
        ("digest", 7),
        ("classes", ["a", "b"]),
    ],
)
def test_a_file_with_a_value_out_of_range_is_damaged(run: str, key: str, value: object) -> None:
    rule = rule_store.fit(run, target_sensitivity=0.9).document()
    (runs.folder(run) / rule_store.FILE).write_text(json.dumps({**rule, key: value}))
    with pytest.raises(WorkFailed, match="damaged"):
        rule_store.of_run(run)


def test_few_validation_images_fit_nothing(home: Path) -> None:
    ids, true = [f"{number}.png" for number in range(60)], ["normal", "viral", "bacterial"] * 20
    few = synthetic_runs.run({"val": (ids[:30], true[:30])})
    with pytest.raises(BadInput, match="has 30 validation images"):
        rule_store.fit(few, target_sensitivity=0.9)
    healthy = synthetic_runs.run({"val": (ids, ["normal"] * 60)}, age=9)
    with pytest.raises(BadInput, match="no positive image"):
        rule_store.fit(healthy, target_sensitivity=0.9)
    assert rule_store.saved(few) is None and rule_store.saved(healthy) is None
    with pytest.raises(UnknownName, match="val"):
        rule_store.fit(synthetic_runs.run({"test": (["a"], ["normal"])}, age=20))


def test_a_rule_that_ships_stays_as_it_is(run: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rule = rule_store.fit(run, target_sensitivity=0.9)
    rule_store.save(run, rule)
    monkeypatch.setenv("CXR_PRETRAINED", str(runs.folder(run).parent))
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "another"))
    for change in (lambda: rule_store.save(run, rule_store.fit(run)), lambda: rule_store.delete(run)):
        with pytest.raises(BadInput, match="ships with the project"):
            change()
    assert rule_store.saved(run) == rule
