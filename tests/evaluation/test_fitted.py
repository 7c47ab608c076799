"""What is fitted on validation is kept with the run, is void when the predictions change, and is what Predict applies."""

from pathlib import Path

import numpy as np
import pytest

from cxr_core import workspace
from cxr_core.data import manifest
from cxr_core.errors import BadInput, UnknownName, WorkFailed
from cxr_core.evaluation import calibration, fitted, operating_point, prediction_set, predictions
from cxr_core.runs import run_store as runs
from tests import synthetic_runs


@pytest.fixture
def run(home: Path) -> str:
    synthetic_runs.paper_set()
    return synthetic_runs.on("kermany", manifest.build("kermany", split="patient").id)


def test_a_temperature_is_that_of_the_validation_images_alone(run: str) -> None:
    val = prediction_set.read(run, "val")
    kept = fitted.keep_temperature(run)
    assert kept.value == pytest.approx(calibration.fit_temperature(val.true, val.probabilities))
    assert kept.images == len(val) and fitted.temperature(run) == kept
    before = fitted.fit_temperature(run)
    test = prediction_set.read(run, "test")
    predictions.write(runs.predictions_path(run, "test"), test.take(np.arange(100)).table())
    assert fitted.fit_temperature(run) == before and fitted.temperature(run) == kept
    fitted.forget(run, "temperature")
    fitted.forget(run, "temperature")
    assert fitted.temperature(run) is None


def test_a_point_keeps_what_it_gave_and_labels_as_the_page_showed(run: str) -> None:
    heat = fitted.keep_temperature(run).value
    kept = fitted.keep_point(run, ("viral", "bacterial"), 0.4, rule="by hand", temperature_=heat)
    val = fitted.tempered(prediction_set.read(run, "val"), heat)
    outcome = operating_point.outcome_at(*operating_point.question(val, kept.positive), 0.4)
    assert (kept.sensitivity, kept.specificity) == (outcome.sensitivity, outcome.specificity)
    assert fitted.point(run) == kept
    test = prediction_set.read(run, "test")  # as the network says it; the point knows its temperature
    codes = kept.label(test.probabilities, test.classes)
    score = operating_point.question(fitted.tempered(test, heat), kept.positive)[1]
    assert ((codes != 0) == (score >= 0.4)).all()
    pneumonia = test.probabilities[:, 1:].argmax(axis=1) + 1
    assert (codes[codes != 0] == pneumonia[codes != 0]).all()
    one = kept.label(test.probabilities[0], test.classes)
    assert int(one) == int(codes[0])


def shifted(run: str) -> None:
    """Give a run answers on shifted copies: worse ones than on the images themselves."""
    val = prediction_set.read(run, "val")
    worse = synthetic_runs.probabilities(val.true, 3, skill=1.2, seed=77)
    path = runs.predictions_path(run, "val").with_name("shifted.parquet")
    predictions.write(path, val.with_probabilities(worse).table())
    figures = runs.folder(run) / "metrics.json"
    kept = workspace.read_json(figures)
    workspace.write_json(figures, {**kept, "shifted": kept["val"]})


@pytest.mark.parametrize("splits", [("val",), ("val", "shifted")])
def test_a_calibrated_run_finds_what_was_asked_for_and_no_threshold_above_does(
    run: str, splits: tuple[str, ...]
) -> None:
    if "shifted" in splits:
        shifted(run)
    point = fitted.keep_calibrated(run, 0.9)
    heat = fitted.temperature(run)
    assert point is not None and heat is not None and point == fitted.point(run)
    assert point.positive == ("viral", "bacterial") and point.temperature == heat.value
    known = [fitted.tempered(prediction_set.read(run, split), heat.value) for split in splits]
    asked = [operating_point.question(one, point.positive) for one in known]

    def least(threshold: float) -> float:
        return min(operating_point.outcome_at(*one, threshold).sensitivity or 0.0 for one in asked)

    assert least(point.threshold) >= 0.9 > least(point.threshold + 1e-9)
    assert ("shifted" in point.rule) == ("shifted" in splits)


def test_without_a_normal_class_there_is_no_point_unless_the_positives_are_named(home: Path) -> None:
    ids = [f"{number}.png" for number in range(60)]
    true = ["a", "b", "c"] * 20
    run = synthetic_runs.run({"val": (ids, true)}, classes=("a", "b", "c"))
    assert fitted.keep_calibrated(run, 0.9) is None and fitted.temperature(run) is not None
    named = fitted.keep_calibrated(run, 0.9, positive=["a"])
    assert named is not None and named.positive == ("a",)
    fitted.forget(run, "point")
    assert fitted.keep_calibrated(run) is None and fitted.point(run) is None
    with pytest.raises(UnknownName):
        fitted.keep_calibrated(run, 0.9, positive=["d"])


def test_few_validation_images_fit_nothing_and_nothing_is_left_behind(home: Path) -> None:
    ids, true = [f"{number}.png" for number in range(60)], ["normal", "viral", "bacterial"] * 20
    few = synthetic_runs.run({"val": (ids[:30], true[:30])})
    with pytest.raises(BadInput, match="has 30 validation images"):
        fitted.keep_calibrated(few, 0.9)
    healthy = synthetic_runs.run({"val": (ids, ["normal"] * 60)}, age=9)
    with pytest.raises(BadInput, match="no positive image"):
        fitted.keep_calibrated(healthy, 0.9)
    assert not any(fitted.temperature(run_id) or fitted.point(run_id) for run_id in (few, healthy))


def test_what_ships_keeps_its_calibration(run: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    point = fitted.keep_calibrated(run, 0.9)
    monkeypatch.setenv("CXR_PRETRAINED", str(runs.folder(run).parent))
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "another"))
    for change in (lambda: fitted.keep_calibrated(run, 0.8), lambda: fitted.forget(run, "point")):
        with pytest.raises(BadInput, match="ships with the project"):
            change()
    assert fitted.point(run) == point


def test_answers_at_a_point_are_called_as_predict_calls_them(run: str) -> None:
    plain = prediction_set.read(run, "test")
    point = fitted.keep_calibrated(run, 0.99)
    assert point is not None
    called = fitted.decided(plain, point)
    codes = point.label(plain.probabilities, plain.classes)
    assert (called.predicted == codes).all() and (codes != plain.predicted).any()
    assert (called.correct == (codes == plain.true)).all() and np.trace(called.confusion) == called.correct.sum()
    few = called.take(np.arange(5))
    assert (few.predicted == codes[:5]).all()
    assert (called.probabilities == plain.probabilities).all() and fitted.decided(plain, None) is plain


def test_both_are_void_when_the_validation_predictions_change(run: str) -> None:
    fitted.keep_temperature(run)
    fitted.keep_point(run, ("normal",), 0.5)
    val = prediction_set.read(run, "val")
    predictions.write(runs.predictions_path(run, "val"), val.take(np.arange(len(val) - 1)).table())
    assert fitted.temperature(run) is None and fitted.point(run) is None


def test_what_is_wrong_is_told(run: str) -> None:
    with pytest.raises(BadInput, match="between 0 and 1"):
        fitted.keep_point(run, ("normal",), 1.5)
    with pytest.raises(UnknownName):
        fitted.keep_point(run, ("covid",), 0.5)
    assert fitted.point(run) is None
    (runs.folder(run) / "temperature.json").write_text("[1]")
    with pytest.raises(WorkFailed, match="damaged"):
        fitted.temperature(run)
    without = synthetic_runs.run({"test": (["a"], ["normal"])}, age=9)
    with pytest.raises(UnknownName, match="val"):
        fitted.keep_temperature(without)


@pytest.mark.parametrize(
    "content",
    [
        '{"of": "x"',
        '{"of": "REAL", "value": "hot", "images": 3}',
        '{"of": "REAL", "value": -1, "images": 3}',
        '{"of": 1, "value": "hot"}',
        '{"of": "REAL"}',
    ],
)
def test_a_damaged_file_is_a_sentence_and_never_an_unknown_error(run: str, content: str) -> None:
    kept = fitted.keep_point(run, ("normal",), 0.5)
    for name, read in (("temperature", fitted.temperature), ("operating_point", fitted.point)):
        (runs.folder(run) / f"{name}.json").write_text(content.replace("REAL", kept.of))
        try:
            assert read(run) is None
        except WorkFailed as error:
            assert "damaged" in str(error)
