"""Table 4.1 beside the runs of here: only those by the paper's recipe on the official split count."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from cxr_core.data import manifest
from cxr_core.evaluation import paper, reproduction
from cxr_core.runs import folder as runs


def test_only_runs_of_the_papers_recipe_on_its_split_count_and_the_newest_wins(trained_home: Path):
    (run,) = runs.every()
    patient = manifest.build("phantoms", split="patient")
    others = [
        replace(run, id="other-split", config=replace(run.config, manifest=patient.id)),
        replace(run, id="other-recipe", config=replace(run.config, recipe="tuned")),
        replace(run, id="other-model", config=replace(run.config, model="ann")),
        replace(run, id="gone", config=replace(run.config, manifest="0" * 12)),
    ]
    assert reproduction.latest([*others, run], "phantoms") == {"custom_cnn": run}
    newer = replace(run, id="newer")
    assert reproduction.latest([newer, run], "phantoms") == {"custom_cnn": newer}
    assert reproduction.latest([run], "another") == {}


def test_the_table_has_the_papers_figures_and_the_difference_with_its_interval(trained_home: Path):
    (run,) = runs.every()
    table = reproduction.table({"custom_cnn": run}).set_index(["model", "split"])
    assert list(table.loc[("vgg16", "test"), ["paper", "here"]]) == [
        pytest.approx(0.6474),
        pytest.approx(float("nan"), nan_ok=True),
    ]
    row = table.loc[("custom_cnn", "test")]
    figures = run.metrics["test"]
    assert row["difference"] == pytest.approx(figures["accuracy"] - paper.ACCURACY["custom_cnn"]["test"])
    assert [row["low"], row["high"]] == pytest.approx(figures["ci95"]["accuracy"])
    assert row["within"] == (row["low"] <= row["paper"] <= row["high"])
    assert len(table) == 9 and pd.notna(table["paper"]).all()
