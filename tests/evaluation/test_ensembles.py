"""Ensembles of runs: the arithmetic, the weights from validation, and the run that comes of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as reference

from cxr_core.data import manifest
from cxr_core.errors import BadInput, UnknownName, WorkFailed
from cxr_core.evaluation import ensembles, prediction_set, rule_store
from cxr_core.runs import run_store as runs
from tests import synthetic_runs

MEMBERS = [
    np.array([[0.6, 0.4, 0.0], [0.2, 0.5, 0.3]]),
    np.array([[0.5, 0.1, 0.4], [0.1, 0.3, 0.6]]),
    np.array([[0.1, 0.8, 0.1], [0.4, 0.2, 0.4]]),
]


def test_mean_weighted_and_vote() -> None:
    np.testing.assert_allclose(ensembles.combine(MEMBERS, "mean"), np.mean(MEMBERS, axis=0))
    weighted = ensembles.combine(MEMBERS, "weighted", (0.5, 0.25, 0.25))
    np.testing.assert_allclose(weighted, 0.5 * MEMBERS[0] + 0.25 * MEMBERS[1] + 0.25 * MEMBERS[2])
    vote = ensembles.combine(MEMBERS, "vote")
    np.testing.assert_allclose(vote, [[2 / 3, 1 / 3, 0], [1 / 3, 1 / 3, 1 / 3]], atol=1e-5)
    assert vote.argmax(axis=1).tolist() == [0, 2]  # a tie goes to the more probable
    np.testing.assert_allclose(ensembles.combine([one[0] for one in MEMBERS], "mean"), np.mean(MEMBERS, axis=0)[0])
    for way in ensembles.METHODS:
        np.testing.assert_allclose(ensembles.combine(MEMBERS, way).sum(axis=1), 1)
    with pytest.raises(UnknownName, match="mean, weighted, vote"):
        ensembles.combine(MEMBERS, "best")


def test_weights_have_the_least_log_loss() -> None:
    true = np.arange(600) % 3
    members = [synthetic_runs.probabilities(true, 3, skill=skill, seed=seed) for seed, skill in ((1, 2.2), (2, 1.2))]
    found = ensembles.fit_weights(true, members)
    assert sum(found) == pytest.approx(1) and min(found) >= 0
    grid = np.linspace(0, 1, 1001)
    losses = [reference.log_loss(true, share * members[0] + (1 - share) * members[1]) for share in grid]
    assert found[0] == pytest.approx(grid[int(np.argmin(losses))], abs=0.003)
    useless = np.full((600, 3), 1 / 3)
    assert ensembles.fit_weights(true, [np.eye(3)[true] * 0.97 + 0.01, useless])[1] < 0.01


@pytest.fixture
def two(home: Path) -> list[str]:
    synthetic_runs.paper_set()
    patient = manifest.build("kermany", split="patient").id
    return [synthetic_runs.on("kermany", patient, seed=seed, skill=1.4 + seed / 2, age=9 * seed) for seed in (1, 2)]


@pytest.mark.parametrize("way", ensembles.METHODS)
def test_an_ensemble_is_a_run_with_predictions_of_its_own(two: list[str], way: str) -> None:
    made = ensembles.create(two, way)
    run, kept = runs.get(made), ensembles.of_run(made)
    assert run.has_predictions and run.status.state == "finished" and run.config.model == ensembles.MODEL
    assert kept.members == tuple(two) and kept.way == way and sum(kept.weights) == pytest.approx(1)
    for split in ("train", "val", "test"):
        members = [prediction_set.read(one, split) for one in two]
        expected = ensembles.combine([one.probabilities for one in members], way, kept.weights)
        np.testing.assert_allclose(prediction_set.read(made, split).probabilities, expected, atol=1e-12)
    assert run.metrics["test"]["accuracy"] == pytest.approx(prediction_set.read(made, "test").correct.mean())
    rule_store.save(made, rule_store.fit(made))  # as any run
    assert rule_store.of_run(made).temperature != 1
    assert ensembles.of_run(two[0]) is None


def test_weights_come_from_validation_and_never_from_test(two: list[str]) -> None:
    val = [prediction_set.read(one, "val") for one in two]
    expected = ensembles.fit_weights(val[0].true, [one.probabilities for one in val])
    assert ensembles.of_run(ensembles.create(two, "weighted")).weights == pytest.approx(expected)


def test_what_cannot_be_one_is_refused_in_words(two: list[str]) -> None:
    with pytest.raises(BadInput, match="at least two"):
        ensembles.create([two[0], two[0]])
    made = ensembles.create(two)
    with pytest.raises(BadInput, match="not of ensembles"):
        ensembles.create([made, two[0]])
    stranger = synthetic_runs.run({"test": (["a"], ["normal"])}, data="elsewhere", age=99)
    with pytest.raises(BadInput, match="same dataset"):
        ensembles.create([two[0], stranger])
    without = synthetic_runs.run({"test": (["test/normal/0000.jpeg"], ["normal"])}, data="kermany", age=99)
    with pytest.raises(BadInput, match="validation"):
        ensembles.create([two[0], without], "weighted")
    before = runs.list_ids()
    with pytest.raises(UnknownName):
        ensembles.create([two[0], "nobody"])
    assert runs.list_ids() == before
    (runs.folder(made) / "ensemble.json").write_text("{}")
    with pytest.raises(WorkFailed, match="damaged"):
        ensembles.of_run(made)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": [1.0]},
        {"weights": [0.9, 0.9]},
        {"weights": [float("nan"), 1.0]},
        {"weights": [2, -1]},
        {"weights": ["0.5", "0.5"]},
        {"weights": [10**400, 1]},
        {"members": [], "weights": []},
        {"members": ["a", "a"]},
        {"members": ["../a", "b"]},
        {"members": [1, 2]},
        {"members": "ab"},
        {"way": "sum"},
        {"way": None},
    ],
)
def test_a_file_with_values_that_do_not_fit_is_damaged(two: list[str], change: dict[str, object]) -> None:
    path = runs.folder(ensemble := ensembles.create(two)) / "ensemble.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(WorkFailed, match=r"ensemble\.json is damaged. Delete the ensemble and create it again"):
        ensembles.of_run(ensemble)


def test_folds_are_combined_on_the_images_that_they_share(home: Path) -> None:
    rows = {split: [f"{split}/{number}.jpeg" for number in range(30)] for split in ("one", "other", "test")}
    true = [("normal", "viral", "bacterial")[number % 3] for number in range(30)]
    made = [
        synthetic_runs.run({"test": (rows["test"], true), "val": (rows[part], true)}, seed=seed, age=seed)
        for seed, part in enumerate(("one", "other"))
    ]
    found = runs.get(ensembles.create(made))
    assert set(found.metrics) == {"test"}
    with pytest.raises(BadInput, match="none in common"):
        ensembles.create(made, "weighted")
