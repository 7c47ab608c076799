"""`compare`, `ensemble`, `calibrate`, `report` on the command line."""

import json
from pathlib import Path

import pytest

from cxr_core import cli
from cxr_core.data import manifest
from cxr_core.evaluation import (
    calibration,
    comparison,
    decision_metrics,
    decision_rule,
    ensembles,
    prediction_set,
    predictions,
    rule_store,
)
from cxr_core.runs import run_store as runs
from tests import synthetic_runs


@pytest.fixture
def two(home: Path) -> list[str]:
    synthetic_runs.paper_set()
    patient = manifest.build("kermany", split="patient").id
    return [synthetic_runs.on("kermany", patient, seed=seed, skill=1.5 + seed / 3, age=9 * seed) for seed in (1, 2)]


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert cli.main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_compare(two: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "compare", *two)
    one, other = (prediction_set.read(run_id, "test") for run_id in two)
    assert found["n"] == 624 and found["mcnemar"]["p"] == comparison.mcnemar(one, other).p
    apart = found["second_less_first"]["accuracy"]
    assert apart["value"] == pytest.approx(other.correct.mean() - one.correct.mean())
    assert cli.main(["compare", *two]) == 0
    said = capsys.readouterr().out
    assert f"{two[1]} − {two[0]}" in said and "McNemar's exact p" in said
    assert cli.main(["compare", two[0], two[0]]) == 2
    assert f"`compare` takes two different runs. Received: '{two[0]}' twice." in capsys.readouterr().err


def test_a_void_rule_is_named_in_words_and_json(two: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    rule_store.save(two[0], rule_store.fit(two[0], target_sensitivity=0.95))
    assert document(capsys, "evaluate", two[0])["notice"] == ""
    val = prediction_set.read(two[0], "val")
    predictions.write(runs.predictions_path(two[0], "val"), val.take(range(len(val) - 1)).table())
    notice = f"The saved decision rule of run '{two[0]}' is void"
    assert document(capsys, "evaluate", two[0])["notice"].startswith(notice)
    first, second = document(capsys, "compare", *two)["notices"]
    assert first.startswith(notice) and second == ""
    for command in (["evaluate", two[0]], ["compare", *two]):
        assert cli.main(command) == 0
        assert capsys.readouterr().out.startswith(notice)


def test_ensemble(two: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "ensemble", *two, "--way", "weighted")
    assert found["members"] == two and sum(found["weights"]) == pytest.approx(1)
    assert runs.get(found["run"]).config.model == ensembles.MODEL
    assert document(capsys, "evaluate", found["run"])["n"] == 624
    assert cli.main(["ensemble", two[0]]) == 2
    assert "at least two" in capsys.readouterr().err


def test_calibrate(two: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert document(capsys, "evaluate", two[0])["operating_point"] is None
    found = document(capsys, "calibrate", two[0], "--sensitivity", "0.99")
    rule = rule_store.saved(two[0])
    assert rule is not None and found["decision_rule"] == rule.document()
    assert found["operating_point"]["threshold"] == rule.threshold and found["temperature"]["value"] == rule.temperature
    said = document(capsys, "evaluate", two[0])
    plain = prediction_set.read(two[0], "test")
    called = decision_rule.decided(plain, rule)
    assert said["decision"] == decision_metrics.document(plain, rule)
    assert said["decision"]["accuracy_all"]["count"] == called.correct.sum() != plain.correct.sum()
    assert said["accuracy"] == pytest.approx(plain.correct.mean())
    assert said["operating_point"]["accuracy"] == pytest.approx(called.correct.mean())
    assert said["operating_point"]["confusion"] == called.confusion.tolist() != said["confusion"]
    assert said["operating_point"]["point"]["threshold"] == rule.threshold
    calm = decision_rule.calibrated(called, rule.temperature)
    at_point = calibration.expected_calibration_error(calm.confidence, called.correct)
    assert said["operating_point"]["figures"]["ece"]["value"] == pytest.approx(at_point)
    probable = calibration.expected_calibration_error(
        calm.probabilities.max(axis=1), calm.probabilities.argmax(axis=1) == calm.true
    )
    assert said["after_temperature"]["figures"]["ece"]["value"] == pytest.approx(probable) != pytest.approx(at_point)
    assert cli.main(["evaluate", two[0]]) == 0
    assert "Decision rule: viral or bacterial from" in capsys.readouterr().out
    assert document(capsys, "calibrate", two[0])["decision_rule"] == rule.document()  # without a target: the same again
    assert document(capsys, "calibrate", two[1])["operating_point"] is None and rule_store.saved(two[1])


def test_two_runs_are_compared_as_they_answer(two: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    rule = rule_store.fit(two[1], target_sensitivity=0.99)
    rule_store.save(two[1], rule)
    found = document(capsys, "compare", *two)
    one, other = prediction_set.read(two[0], "test"), decision_rule.decided(prediction_set.read(two[1], "test"), rule)
    assert found["second_less_first"]["accuracy"]["value"] == pytest.approx(other.correct.mean() - one.correct.mean())
    assert found["mcnemar"]["p"] == comparison.mcnemar(one, other).p and found["decision_rules"][1] == rule.document()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--sensitivity", "1.5"], "between 0 and 1"),
        (["--positive", "viral"], "--positive needs --sensitivity"),
        (["--sensitivity", "0.9", "--positive", "covid"], "covid"),
        (["--sensitivity", "0.9", "--positive", "normal", "viral", "bacterial"], "at least one positive class and one"),
    ],
)
def test_what_cannot_be_calibrated_is_told(
    two: list[str], capsys: pytest.CaptureFixture[str], wrong: list[str], said: str
) -> None:
    assert cli.main(["calibrate", two[0], *wrong]) == 2
    assert said in capsys.readouterr().err


def test_report(two: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report.html"
    found = document(capsys, "report", *two, "--out", str(out))
    assert out.stat().st_size == found["bytes"] <= 8 * 2**20
    assert out.read_text().startswith("<!doctype html>")
    assert cli.main(["report", "nobody", "--out", str(out)]) == 2
    assert "There is no run named 'nobody'" in capsys.readouterr().err
