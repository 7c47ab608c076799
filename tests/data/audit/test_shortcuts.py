"""Shortcuts: areas under the curve with their intervals, and the trait that gives a class away."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from cxr_core.data.audit import shortcuts


def tables(count: int = 300) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "split": pd.Categorical(rng.choice(["train", "test"], count)),
            "class": pd.Categorical(rng.choice(["normal", "viral", "bacterial"], count)),
            "width": 200,
            "height": 200,
            "bytes": rng.integers(5000, 9000, count),
            "quality": 90,
        }
    )
    noise = rng.normal(size=(count, 3))
    return table, pd.DataFrame(noise, columns=["mean", "border", "sharpness"])


def test_the_area_is_that_of_scikit_learn_ties_included():
    rng = np.random.default_rng(1)
    for _ in range(20):
        values, positive = rng.integers(0, 6, 50), rng.random(50) < 0.4
        assert shortcuts.auc(rankdata(values), positive) == pytest.approx(roc_auc_score(positive, values))


def test_the_interval_is_that_of_hanley_and_mcneil():
    # Their formula by hand: A = 0.8, 20 against 30: Q1 = 2/3, Q2 = 32/45, variance = (0.16 + 19·0.026667 + 29·0.071111) / 600
    half = 1.96 * ((0.16 + 19 * (2 / 3 - 0.64) + 29 * (32 / 45 - 0.64)) / 600) ** 0.5
    assert shortcuts.interval(0.8, 20, 30) == pytest.approx((0.8 - half, 0.8 + half))
    assert shortcuts.interval(1.0, 20, 30) == (1.0, 1.0)


@pytest.mark.parametrize("higher", [True, False])
def test_a_planted_trait_is_found_with_its_class_and_direction(higher: bool):
    table, measures = tables()
    table.loc[table["class"] == "viral", "quality"] = 95 if higher else 75
    found = shortcuts.find(table, measures)
    strongest = found[0]
    assert (strongest.trait, strongest.label, strongest.auc, strongest.higher) == ("quality", "viral", 1.0, higher)
    assert {one.split for one in found} == {"train", "test"}
    assert "JPEG quality alone nearly gives the class away" in strongest.sentence
    assert f"viral images have {'higher' if higher else 'lower'} values" in strongest.sentence


def test_traits_that_do_not_vary_are_chance_and_noise_is_near_it():
    found = shortcuts.find(*tables())
    assert {one.auc for one in found if one.trait in ("width", "height", "shape", "quality")} == {0.5}
    assert all(one.auc < 0.65 and "says little" in one.sentence for one in found)
    assert all(one.ci95[0] <= one.auc <= one.ci95[1] for one in found)


def test_a_split_of_one_class_is_left_out():
    table, measures = tables()
    table.loc[table["split"] == "test", "class"] = "normal"
    assert {one.split for one in shortcuts.find(table, measures)} == {"train"}


def test_what_may_be_chance_is_no_warning():
    few = shortcuts.Shortcut("mean", "val", "normal", 0.75, (0.5, 1.0), True)
    many = shortcuts.Shortcut("mean", "train", "normal", 0.75, (0.73, 0.77), True)
    assert not few.notable and "too few images to tell" in few.sentence
    assert many.notable and "hints at the class" in many.sentence
