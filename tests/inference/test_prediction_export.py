"""Answers to many images as a table, a CSV file and a page."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxr_core import images
from cxr_core.evaluation.decision_rule import decided
from cxr_core.inference import predict, prediction_export
from cxr_core.inference.input_check.checks import Finding
from cxr_core.inference.predict import InputFile, LoadedModel, Result
from cxr_core.runs import run_store as runs
from tests import synthetic_runs

IMAGE = images.encode(np.random.default_rng(0).integers(0, 256, (70, 60), dtype=np.uint8), format="PNG")


@pytest.fixture
def model(trained_home: Path) -> LoadedModel:
    return predict.load(runs.list_ids()[0])


@pytest.fixture
def results(model: LoadedModel) -> list[Result]:
    names = ("=HYPERLINK(1).png", "<script>alert(1)</script>.png")
    return [
        *predict.stream(model, [InputFile(name, IMAGE) for name in names]),
        Result("bad.png", problem="It is empty."),
    ]


def test_the_table_has_a_row_a_file(model: LoadedModel, results: list[Result]) -> None:
    table = prediction_export.table(model, results)
    assert list(table) == ["file", "answer", "nearest", *model.classes, "alike", "remarks", "width", "height"]
    assert table["file"].tolist() == [one.name for one in results]
    assert table["answer"].tolist()[2] == "unreadable" and table["remarks"].tolist()[2] == "It is empty."
    np.testing.assert_allclose(table[list(model.classes)].iloc[:2].sum(axis=1), 1)


def test_what_has_no_answer_is_told_apart(model: LoadedModel, results: list[Result]) -> None:
    given = results[0].prediction
    assert given is not None
    unsure = replace(results[0], prediction=replace(given, confident=False))
    refused = replace(results[0], prediction=replace(given, findings=(Finding("no_xray", True, "None."),)))
    sure = replace(results[0], prediction=replace(given, confident=True))
    table = prediction_export.table(model, [sure, unsure, refused, results[2]])
    assert table["answer"].tolist() == [given.label, "unsure", "refused", "unreadable"]
    assert table["nearest"].tolist() == [given.label, given.label, "", ""]
    assert (
        model.run.id in prediction_export.csv(model, [sure]).decode()
        and "not a medical device" in prediction_export.csv(model, [sure]).decode()
    )


def test_second_opinions_are_counted(model: LoadedModel) -> None:
    (one,) = predict.stream(model, [InputFile("a.png", IMAGE)], others=[model, model])
    (alone,) = predict.stream(model, [InputFile("a.png", IMAGE)])
    assert one.prediction is not None and len(one.opinions) == 2 and one.agreeing == 2 and not alone.opinions
    assert one.prediction.probabilities == pytest.approx(one.opinions[0].probabilities)
    other = next(name for name in model.classes if name != one.prediction.label)
    apart = replace(one, opinions=(one.opinions[0], replace(one.opinions[1], label=other)))
    assert prediction_export.table(model, [one, apart, alone])["alike"].tolist() == ["2 of 2", "1 of 2", ""]
    page, lines = (
        prediction_export.html(model, [apart], [model]).decode(),
        prediction_export.csv(model, [apart], [model, model]).decode().splitlines(),
    )
    assert "1 of 2 others agree" in page and f"Second opinions by {model.run.name or model.run.id}." in page
    assert f'"{model.run.id}, {model.run.id}"' in lines[1] and "second_opinions" in lines[0]
    assert "Second opinions" not in prediction_export.html(model, [alone]).decode()


def test_the_page_says_how_good_the_run_is_as_it_answers(model: LoadedModel, results: list[Result]) -> None:
    plain = synthetic_runs.better(model.run.id, "test")
    tuned = replace(model.rule, positive=("viral", "bacterial"), threshold=0.999, criterion="mine")
    called = decided(plain, tuned)
    assert called.correct.sum() != plain.correct.sum()
    for rule, found in ((model.rule, plain), (tuned, called)):
        page = prediction_export.html(replace(model, rule=rule), results).decode()
        assert f"got {100 * found.correct.mean():.1f} % right" in page and f"Decision rule: {rule.describe()}" in page
    lines = prediction_export.csv(replace(model, rule=tuned), results).decode().splitlines()
    assert {"decision_rule", "operating_point", "confident", "calibrated"} <= set(
        lines[0].split(",")
    ) and "(mine)" in lines[1]


def test_a_name_is_no_formula_in_a_spreadsheet(model: LoadedModel, results: list[Result]) -> None:
    lines = prediction_export.csv(model, results).decode().splitlines()
    assert lines[1].startswith("'=HYPERLINK")


def test_the_page_is_whole_and_a_name_in_it_is_no_script(model: LoadedModel, results: list[Result]) -> None:
    page = prediction_export.html(model, results).decode()
    assert "<script" not in page and "&lt;script&gt;" in page and "http" not in page.replace("data:image", "")
    assert page.count("data:image/jpeg") == 2 and "not a medical device" in page and "It is empty." in page
