"""The public figures: their shape, their agreement with scikit-learn and with the paper's printed reports."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from cxr_core.evaluation import confusion, metrics, paper, prediction_set, predictions

CLASSES = ["normal", "viral", "bacterial"]
# Whole numbers of images that give every figure the paper printed for its test split (found by search; shared columns).
AS_PRINTED = {
    "custom_cnn": [[110, 2, 122], [1, 12, 135], [0, 1, 241]],
    "vgg16": [[89, 67, 78], [1, 75, 72], [0, 2, 240]],
    "resnet152": [[119, 32, 83], [16, 65, 67], [0, 4, 238]],
}


def table_of(counts: list[list[int]], classes: list[str] = CLASSES) -> pd.DataFrame:
    """A predictions table with this confusion matrix."""
    size = len(classes)
    cells = [(row, column) for row in range(size) for column in range(size) for _ in range(counts[row][column])]
    rows = np.full((len(cells), size), 0.2 / max(size - 1, 1))
    rows[np.arange(len(cells)), [column for _, column in cells]] = 0.8 if size > 1 else 1.0
    return predictions.prediction_table(
        [f"{n}.png" for n in range(len(cells))], [classes[row] for row, _ in cells], rows, classes
    )


def report(table: pd.DataFrame) -> pd.DataFrame:
    """The classification report of a predictions table."""
    matrix = prediction_set.from_table(table).confusion
    return confusion.classification_report(predictions.classes(table), matrix)


def random_table(seed: int, n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return predictions.prediction_table(
        map(str, range(n)), rng.choice(CLASSES, n), rng.dirichlet([1, 1, 1], n), CLASSES
    )


@pytest.mark.parametrize("model", AS_PRINTED)
def test_paper_test_reports_are_reproduced(model: str) -> None:
    table = table_of(AS_PRINTED[model])
    found, figures = report(table), metrics.evaluate(table)
    printed = paper.report(model, "test")
    columns = ["precision", "recall", "f1-score"]
    pd.testing.assert_frame_equal(
        found.loc[CLASSES, columns].round(2), printed.loc[CLASSES, columns], check_dtype=False
    )
    assert found.loc[CLASSES, "support"].tolist() == [234, 148, 242]
    assert round(figures["accuracy"], 4) == paper.ACCURACY[model]["test"]
    assert round(figures["macro_f1"], 2) == paper.MACRO_F1[model]


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scikit_learn(seed: int) -> None:
    table = random_table(seed)
    true, predicted = table["true"].tolist(), predictions.predicted(table).tolist()
    found = metrics.evaluate(table)
    assert found["n"] == 400
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(true, predicted), abs=1e-9)
    assert found["macro_f1"] == pytest.approx(reference.f1_score(true, predicted, average="macro"), abs=1e-9)
    assert found["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(true, predicted), abs=1e-9)
    assert found["confusion"] == reference.confusion_matrix(true, predicted, labels=CLASSES).tolist()
    theirs = pd.DataFrame(reference.classification_report(true, predicted, labels=CLASSES, output_dict=True)).T
    ours = report(table)
    rows = [*CLASSES, "macro avg", "weighted avg"]
    pd.testing.assert_frame_equal(
        ours.loc[rows], theirs.loc[rows], check_dtype=False, check_index_type=False, atol=1e-9, rtol=0
    )
    for name in CLASSES:
        kept = found["per_class"][name]
        assert [kept["precision"], kept["recall"], kept["f1"], kept["support"]] == pytest.approx(
            theirs.loc[name].tolist(), abs=1e-9
        )


def test_report_layout() -> None:
    found = report(random_table(0))
    assert found.index.tolist() == [*CLASSES, "accuracy", "macro avg", "weighted avg"]
    assert found.columns.tolist() == ["precision", "recall", "f1-score", "support"]
    assert found["support"].dtype == np.int64 and found.loc["accuracy", "support"] == 400
    assert found.loc["accuracy", ["precision", "recall"]].isna().all()


def test_public_shape_is_json_with_plain_values() -> None:
    found = metrics.evaluate(table_of(AS_PRINTED["custom_cnn"]))
    assert set(found) == {"n", "accuracy", "macro_f1", "balanced_accuracy", "per_class", "confusion", "ci95"}
    assert set(found["ci95"]) == {"accuracy", "macro_f1", "balanced_accuracy", "recall", "precision", "f1"}
    assert list(found["per_class"]) == CLASSES
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert type(found["n"]) is int and type(found["per_class"]["viral"]["support"]) is int
    for name in ("accuracy", "macro_f1", "balanced_accuracy"):
        low, high = found["ci95"][name]
        assert 0 <= low < found[name] < high <= 1
    for name in CLASSES:
        for kind in ("recall", "precision"):
            low, high = found["ci95"][kind][name]
            assert low <= found["per_class"][name][kind] <= high


def test_val_split_without_viral() -> None:
    table = table_of([[7, 1, 0], [0, 0, 0], [0, 1, 7]])
    found = metrics.evaluate(table)
    json.dumps(found, allow_nan=False)
    assert found["accuracy"] == 0.875
    viral = found["per_class"]["viral"]
    assert viral == {"precision": 0.0, "recall": None, "f1": 0.0, "support": 0}
    assert found["ci95"]["recall"]["viral"] == [0.0, 1.0]
    true, predicted = table["true"].tolist(), predictions.predicted(table).tolist()
    theirs = reference.f1_score(true, predicted, average="macro", labels=["normal", "bacterial"])
    assert found["macro_f1"] == pytest.approx(theirs, abs=1e-9)
    assert found["balanced_accuracy"] == pytest.approx(0.875)
    assert report(table).loc["macro avg", "f1-score"] == pytest.approx(theirs, abs=1e-9)
    assert np.isnan(report(table).loc["viral", "recall"])


def test_never_predicted_class() -> None:
    found = metrics.evaluate(table_of([[5, 0, 0], [5, 0, 0], [0, 0, 5]]))
    assert found["per_class"]["viral"] == {"precision": None, "recall": 0.0, "f1": 0.0, "support": 5}
    assert found["ci95"]["precision"]["viral"] == [0.0, 1.0]
    table = report(table_of([[5, 0, 0], [5, 0, 0], [0, 0, 5]]))
    assert table.loc["macro avg", "precision"] == pytest.approx(0.5)


def test_single_class_and_no_image() -> None:
    assert metrics.evaluate(table_of([[4]], ["normal"]))["macro_f1"] == 1.0
    empty = predictions.prediction_table([], [], np.empty((0, 3)), CLASSES)
    found = metrics.evaluate(empty)
    json.dumps(found, allow_nan=False)
    assert found["n"] == 0 and found["accuracy"] is None and found["ci95"]["accuracy"] == [0.0, 1.0]
    assert report(empty)["support"].tolist() == [0] * 6


def test_summary_maps_each_split() -> None:
    tables = {"train": random_table(1), "test": random_table(2)}
    assert metrics.summary(tables, "gone") == {split: metrics.evaluate(table) for split, table in tables.items()}


def test_intervals_are_those_of_the_card_by_patients_where_they_are_known() -> None:
    table = random_table(3)
    patients = np.arange(len(table)) // 4
    card = metrics.estimate(prediction_set.from_table(table), patients)
    found = metrics.evaluate(table, patients)
    assert found["ci95"]["macro_f1"] == list(card["macro_f1"].interval) != metrics.evaluate(table)["ci95"]["macro_f1"]
    assert found["ci95"]["recall"]["viral"] == list(card["recall:viral"].interval)
    assert found["ci95"]["f1"]["viral"] == list(card["f1:viral"].interval)
