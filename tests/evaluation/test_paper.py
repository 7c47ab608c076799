"""The numbers of the paper agree with each other."""

import pytest

from cxr_core.evaluation import paper
from cxr_core.models import catalogue


def test_table_4_1() -> None:
    assert list(paper.ACCURACY["custom_cnn"].items()) == [("train", 0.7602), ("test", 0.5817), ("val", 0.875)]
    assert list(paper.ACCURACY["vgg16"].items()) == [("train", 0.8932), ("test", 0.6474), ("val", 0.875)]
    assert list(paper.ACCURACY["resnet152"].items()) == [("train", 0.7876), ("test", 0.6763), ("val", 0.875)]


def test_supports() -> None:
    assert {split: sum(counts.values()) for split, counts in paper.SUPPORTS.items()} == {
        "train": 5216,
        "test": 624,
        "val": 16,
    }


@pytest.mark.parametrize("model", paper.ACCURACY)
@pytest.mark.parametrize("split", paper.REPORTS)
def test_reports_agree_with_themselves_and_with_table_4_1(model: str, split: str) -> None:
    table = paper.report(model, split)
    body = table.loc[list(paper.CLASSES)]
    harmonic = 2 * body["precision"] * body["recall"] / (body["precision"] + body["recall"])
    assert (harmonic - body["f1-score"]).abs().max() < 0.02
    recalled = (body["recall"] * body["support"]).sum() / body["support"].sum()
    assert recalled == pytest.approx(table.loc["accuracy", "f1-score"], abs=0.0075)
    if split == "test":
        assert body["f1-score"].mean() == pytest.approx(paper.MACRO_F1[model], abs=0.01)


@pytest.mark.parametrize("model", paper.ACCURACY)
@pytest.mark.parametrize("split", paper.SUPPORTS)
def test_accuracy_is_a_whole_number_of_images_within_its_interval(model: str, split: str) -> None:
    n, accuracy = sum(paper.SUPPORTS[split].values()), paper.ACCURACY[model][split]
    assert round(accuracy * n) / n == pytest.approx(accuracy, abs=5e-5)
    low, high = paper.accuracy_interval(model, split)
    assert low < accuracy < high


def test_val_of_sixteen_images_tells_little() -> None:
    low, high = paper.accuracy_interval("vgg16", "val")
    assert (low, high) == pytest.approx((0.6398, 0.9650), abs=5e-4)


def test_custom_cnn_is_keyed_as_in_the_catalogue() -> None:
    assert "custom_cnn" in catalogue.MODELS and "custom_cnn" in paper.ACCURACY


def test_a_report_is_laid_out_as_that_of_a_run() -> None:
    table = paper.report("vgg16", "test")
    assert table.columns.tolist() == ["precision", "recall", "f1-score", "support"]
    assert table.index.tolist() == [*paper.CLASSES, "accuracy", "macro avg"]
    assert table["support"].tolist() == [234, 148, 242, 624, 624] and table.loc["macro avg", "f1-score"] == 0.61
    assert paper.report("vgg16", "train").index.tolist() == [*paper.CLASSES, "accuracy"]
