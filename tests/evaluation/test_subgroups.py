"""Results by group: a shortcut that was put in shows, what is not there is not invented."""

from pathlib import Path

import numpy as np
import pandas as pd

from cxr_core.data import audit, datasets, manifest
from cxr_core.evaluation import image_metadata, prediction_set, subgroups
from cxr_core.evaluation.prediction_set import PredictionSet
from tests import synthetic_runs


def told(n: int, **columns: object) -> pd.DataFrame:
    plain = {"data": "d", "row": np.arange(n), "patient": "p", "source": "s", "format": "JPEG", "mode": "L"}
    return pd.DataFrame({**plain, "width": 100, "height": 100, "bytes": 1000, "quality": 75, **columns})


def test_a_shortcut_shows() -> None:
    """Everything of the bad scanner is wrong, all else right."""
    bad = np.arange(200) % 4 == 0
    true = np.arange(200) % 2
    called = np.where(bad, 1 - true, true)
    given = np.where(called[:, None] == np.arange(2), 0.9, 0.1)
    found = PredictionSet(np.arange(200).astype(object), true, given, ("a", "b"))
    table = subgroups.subgroup_table(found, told(200, source=np.where(bad, "bad", "good"))).set_index(
        ["trait", "group"]
    )
    row = table.loc[("Source", "bad")]
    assert (row["n"], row["accuracy"], row["difference"]) == (50, 0.0, -1.0)
    assert row["difference_high"] < 0
    assert table.loc[("Source", "good"), "recall a"] == 1.0
    assert table.loc[("True class", "a"), "n"] == 100 and np.isnan(table.loc[("True class", "a"), "recall b"])
    assert set(table.index.get_level_values("trait")) == {"True class", "Source"}  # all else is the same for all


def test_sizes_are_thirds_and_small_groups_are_left_out() -> None:
    true = np.arange(90) % 2
    found = PredictionSet(np.arange(90).astype(object), true, synthetic_runs.probabilities(true, 2), ("a", "b"))
    about = told(90, width=np.arange(100, 190), mode=["RGB"] * 5 + ["L"] * 85)
    table = subgroups.subgroup_table(found, about)
    assert table[table["trait"] == "Image size"]["n"].tolist() == [30, 30, 30]
    assert "RGB" not in set(table["group"])


def test_what_the_dataset_knows_is_joined_by_id_across_datasets(trained_home: Path) -> None:
    other = synthetic_runs.paper_set("second")
    assert other
    rows = manifest.rows(manifest.list_manifests("phantoms")[0])
    ids = [*rows["id"].iloc[[5, 2, 9]], "second:test/normal/0003.jpeg"]
    true = np.zeros(4, np.intp)
    found = PredictionSet(np.array(ids, dtype=object), true, np.full((4, 3), 1 / 3), synthetic_runs.CLASSES)
    about = image_metadata.read(found, "phantoms")
    assert about["data"].tolist() == ["phantoms"] * 3 + ["second"]
    assert about["patient"].iloc[3] == "second:test-normal-1"
    assert about["patient"].tolist()[:3] == rows["patient"].iloc[[5, 2, 9]].tolist()
    datasets.remove("second")
    assert image_metadata.read(found, "phantoms") is None
    assert image_metadata.read(found, "nothing") is None


def test_findings_of_the_audit_are_groups(trained_home: Path) -> None:
    audit.run("phantoms")
    made = synthetic_runs.on("phantoms", manifest.list_manifests("phantoms")[0].id)
    found = prediction_set.read(made, "train")
    about = image_metadata.read(found, "phantoms")
    for kind in audit.CHECKS:
        flags = image_metadata.flagged(about, kind)
        rows = set(audit.finding_rows("phantoms", kind)["row"])
        assert flags.sum() == sum(one in rows for one in about["row"])
    assert len(subgroups.subgroup_table(found, about))
