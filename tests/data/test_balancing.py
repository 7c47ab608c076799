"""Balance of the training rows; what is not trained on stays as it is."""

import pandas as pd
import pytest

from cxr_core.data import balancing

SIZES = {"normal": 3, "viral": 7, "bacterial": 12}


def table() -> pd.DataFrame:
    rows = [("train", label, f"t/{label}/{number}") for label, size in SIZES.items() for number in range(size)]
    rows += [("val", "normal", "v/1"), ("test", "viral", "e/1"), ("test", "viral", "e/2")]
    made = pd.DataFrame(rows, columns=["split", "class", "id"])
    return made.assign(path=made["id"], copy=0, view=0, weight=1.0)


def train(strategy: str, seed: int = 0) -> pd.DataFrame:
    found = balancing.balance(table(), strategy, seed)
    rest = found[found["split"] != "train"]
    pd.testing.assert_frame_equal(
        rest.reset_index(drop=True), table()[table()["split"] != "train"].reset_index(drop=True)
    )
    return found[found["split"] == "train"]


@pytest.mark.parametrize(
    ("strategy", "sizes"),
    [
        ("none", SIZES),
        ("undersample", dict.fromkeys(SIZES, 3)),
        ("oversample", dict.fromkeys(SIZES, 12)),
        ("augment", dict.fromkeys(SIZES, 12)),
        ("class_weights", SIZES),
    ],
)
def test_each_strategy_gives_its_numbers(strategy: str, sizes: dict[str, int]):
    assert set(balancing.STRATEGIES) == {"none", "undersample", "oversample", "augment", "class_weights"}
    assert train(strategy)["class"].value_counts().to_dict() == sizes


def test_undersampling_keeps_every_image_at_most_once_and_draws_by_seed():
    drawn = [train("undersample", seed)["id"].tolist() for seed in (0, 0, 1)]
    assert len(set(drawn[0])) == 9
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("strategy", ["oversample", "augment"])
def test_repeats_are_numbered_and_use_all_images_alike(strategy: str):
    found = train(strategy)
    normal = found[found["class"] == "normal"]
    assert normal.groupby("id")["copy"].apply(sorted).tolist() == [[0, 1, 2, 3]] * 3
    viral = found[found["class"] == "viral"]
    assert viral["id"].value_counts().between(1, 2).all()
    assert (found[found["class"] == "bacterial"]["copy"] == 0).all()


def test_only_the_repeats_of_augment_are_changed_views_each_of_its_own():
    found = train("augment")
    assert (found.loc[found["copy"] == 0, "view"] == 0).all()
    views = found.loc[found["copy"] > 0, "view"]
    assert (views > 0).all()
    assert views.is_unique
    assert (train("oversample")["view"] == 0).all()
    assert train("augment")["view"].tolist() == found["view"].tolist()
    assert train("augment", seed=5)["view"].tolist() != found["view"].tolist()


def test_weighed_classes_weigh_the_same_and_an_image_one_on_average():
    found = train("class_weights")
    totals = found.groupby("class")["weight"].sum()
    assert totals.round(9).nunique() == 1
    assert found["weight"].mean() == pytest.approx(1)


def test_without_training_rows_nothing_happens():
    rest = table()[table()["split"] != "train"].reset_index(drop=True)
    for strategy in balancing.STRATEGIES:
        pd.testing.assert_frame_equal(balancing.balance(rest, strategy, 0), rest)
