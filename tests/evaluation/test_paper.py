"""The published figures are those of PAPER.md and agree with each other."""

import pytest

from cxr_core.errors import UnknownName
from cxr_core.evaluation import paper
from cxr_core.models import catalogue


def test_table_4_1() -> None:
    table = paper.table_4_1()
    assert table.columns.tolist() == ["train", "test", "val"]
    assert table.loc["custom_cnn"].tolist() == [0.7602, 0.5817, 0.875]
    assert table.loc["vgg16"].tolist() == [0.8932, 0.6474, 0.875]
    assert table.loc["resnet152"].tolist() == [0.7876, 0.6763, 0.875]


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


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(UnknownName, match="custom_cnn, vgg16, resnet152"):
        paper.accuracy_interval("alexnet", "test")
    with pytest.raises(UnknownName, match="train, test, val"):
        paper.accuracy_interval("vgg16", "dev")
    with pytest.raises(UnknownName, match="test, train"):
        paper.report("vgg16", "val")
    with pytest.raises(UnknownName, match="vgg16"):
        paper.report("alexnet", "test")
