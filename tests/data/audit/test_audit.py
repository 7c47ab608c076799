"""The audit: each kind of finding planted once is found, nothing is on a clean set, and the second time is free."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr_core import images, workspace
from cxr_core.data import audit, datasets, decisions, image_stats, index, query
from cxr_core.errors import WorkFailed

Plant = Callable[[Path], None]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 36 phantoms, two a patient, without a finding."""
    from cxr_core.data.sources import synthetic

    place = tmp_path_factory.mktemp("clean") / "set"
    synthetic.write(place, images=36, seed=1, progress=lambda *_: None)
    return place


def film(name: str = "train/normal/synthetic-p0000-0.jpeg") -> Callable[[Path], np.ndarray]:
    return lambda root: images.read(root / name)


def save(root: Path, name: str, pixels: np.ndarray, mode: str = "L") -> None:
    Image.fromarray(pixels).convert(mode).save(root / name, quality=90)


def copied(source: str, target: str) -> Plant:
    return lambda root: shutil.copy(root / source, root / target)


FIRST = "train/normal/synthetic-p0000-0.jpeg"
PLANTS: dict[str, tuple[int, int, Plant]] = {
    "exact_duplicates": (2, 1, copied(FIRST, "train/normal/synthetic-p0090-0.jpeg")),
    "same_image_in_two_splits": (2, 1, copied(FIRST, "test/normal/synthetic-p0090-0.jpeg")),
    "duplicates_with_different_labels": (2, 1, copied(FIRST, "train/viral/synthetic-p0090-0.jpeg")),
    "near_duplicates": (
        2,
        1,
        lambda root: save(root, "train/normal/synthetic-p0090-0.jpeg", images.prepare(film()(root), 200)),
    ),
    "near_duplicates_in_two_splits": (
        2,
        1,
        lambda root: save(root, "test/normal/synthetic-p0090-0.jpeg", images.prepare(film()(root), 200)),
    ),
    "near_duplicates_with_different_labels": (
        2,
        1,
        lambda root: save(root, "train/viral/synthetic-p0090-0.jpeg", images.prepare(film()(root), 200)),
    ),
    "smaller_than_input": (1, 1, lambda root: save(root, "train/viral/small.jpeg", images.prepare(film()(root), 100))),
    "dark": (1, 1, lambda root: save(root, "train/viral/dark.jpeg", film()(root) // 5)),
    "bright": (1, 1, lambda root: save(root, "train/viral/bright.jpeg", 255 - film()(root) // 5)),
    "low_information": (1, 1, lambda root: save(root, "train/viral/blank.jpeg", np.full((224, 224), 128, np.uint8))),
    "blurry": (
        1,
        1,
        lambda root: save(root, "train/viral/blur.jpeg", images.prepare(images.prepare(film()(root), 12), 224)),
    ),
    "odd_size": (1, 1, lambda root: save(root, "train/viral/large.jpeg", images.prepare(film()(root), 900))),
    "odd_shape": (1, 1, lambda root: save(root, "train/viral/wide.jpeg", np.tile(film()(root), (1, 3)))),
    "other_colour_mode": (1, 1, lambda root: save(root, "train/viral/colour.jpeg", film()(root), "RGB")),
    "unreadable": (1, 1, lambda root: (root / "train/viral/cut.jpeg").write_bytes(b"\xff\xd8\xff")),
}


def audited(root: Path) -> dict[str, audit.AuditFinding]:
    datasets.add(str(root), "set")
    return {one.kind: one for one in audit.run("set").findings}


def test_a_clean_set_has_no_finding_and_every_kind_is_planted_below(clean: Path):
    assert audited(clean) == {}
    assert set(PLANTS) | {"same_patient_in_two_splits"} == set(audit.CHECKS) | {"unreadable"}


@pytest.mark.parametrize("kind", PLANTS)
def test_what_is_planted_is_found(clean: Path, tmp_path: Path, kind: str):
    root = tmp_path / "set"
    shutil.copytree(clean, root)
    count, groups, plant = PLANTS[kind]
    plant(root)
    found = audited(root)
    assert (found[kind].images, found[kind].groups) == (count, groups)
    assert len(found[kind].examples) == groups
    if kind != "unreadable":
        rows = audit.finding_rows("set", kind)
        named = index.read("set")["id"].to_numpy()[rows["row"]].tolist()
        assert named == [one for group in found[kind].examples for one in group]
        assert rows["group"].tolist() == [0] * count


def test_a_patient_in_two_splits_is_found(tmp_path: Path):
    for number, place in enumerate(
        ("train/a/00000001_000", "test/a/00000001_001", "train/b/00000002_000", "test/b/00000003_000")
    ):
        (tmp_path / "set" / place).parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(number)
        save(tmp_path / "set", place + ".png", rng.integers(0, 256, (200, 200), dtype=np.uint8))
    found = audited(tmp_path / "set")["same_patient_in_two_splits"]
    assert (found.images, found.groups, found.severity) == (2, 1, "high")
    assert found.examples == [["train/a/00000001_000.png", "test/a/00000001_001.png"]]


def test_the_second_time_nothing_is_looked_at(clean: Path, monkeypatch: pytest.MonkeyPatch):
    datasets.add(str(clean), "set")
    assert audit.latest("set") is None
    first = audit.run("set")
    monkeypatch.setattr(image_stats, "dataset_stats", lambda *_, **__: pytest.fail("measured again"))
    assert audit.run("set") == first == audit.latest("set")


def test_an_audit_of_another_version_of_the_set_does_not_count(clean: Path):
    datasets.add(str(clean), "set")
    audit.run("set")
    path = workspace.dataset("set") / "dataset.json"
    workspace.write_json(path, {**workspace.read_json(path), "created": "2030-01-01T00:00:00+00:00"})
    assert audit.latest("set") is None


def test_images_of_a_finding_without_an_audit_are_told_in_words(clean: Path):
    datasets.add(str(clean), "set")
    with pytest.raises(WorkFailed, match="Run it again: data audit set"):
        audit.finding_rows("set", "dark")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "no document": lambda path: path.write_bytes(b"[]"),
    "emptied": lambda path: path.write_bytes(b"{}"),
    "other columns": lambda path: pd.DataFrame({"kind": ["dark"]}).to_parquet(path),
    "no rows": lambda path: pd.DataFrame({"kind": [], "group": [], "row": []}).to_parquet(path),
    "rows beyond the index": lambda path: pd.DataFrame({"kind": ["dark"], "group": 0, "row": 10**6}).to_parquet(path),
}


@pytest.mark.parametrize("file", ["audit.json", "audit.parquet", "measures.parquet"])
def test_an_audit_whose_files_are_damaged_is_mended_by_running_it_again(clean: Path, tmp_path: Path, file: str):
    root = tmp_path / "set"
    shutil.copytree(clean, root)
    PLANTS["dark"][2](root)
    datasets.add(str(root), "set")
    before, rows = audit.run("set"), audit.finding_rows("set", "dark")
    left = audit.undecided("set", query.curated_index("set"))
    for name, damage in DAMAGES.items():
        damage(workspace.dataset("set") / file)
        if file == "measures.parquet":
            (workspace.dataset("set") / "audit.json").unlink()
        assert audit.latest("set") is None, name
        again = audit.run("set")
        assert replace(again, made=before.made) == before, name
        pd.testing.assert_frame_equal(audit.finding_rows("set", "dark"), rows)
        assert audit.undecided("set", query.curated_index("set")) == left, name
        assert audit.latest("set") == again, name


def test_findings_come_most_severe_first_and_survive_json(clean: Path, tmp_path: Path):
    root = tmp_path / "set"
    shutil.copytree(clean, root)
    for kind in ("other_colour_mode", "dark", "same_image_in_two_splits"):
        PLANTS[kind][2](root)
    datasets.add(str(root), "set")
    made = audit.run("set")
    order = [("high", "medium", "low").index(one.severity) for one in made.findings]
    assert order == sorted(order)
    assert audit.latest("set") == made


def test_what_is_left_of_a_finding_is_what_decisions_have_not_settled(clean: Path, tmp_path: Path):
    root = tmp_path / "set"
    shutil.copytree(clean, root)
    twin, across = "train/normal/synthetic-p0090-0.jpeg", "test/normal/synthetic-p0091-0.jpeg"
    for target in (twin, across):
        shutil.copy(root / FIRST, root / target)
    PLANTS["dark"][2](root)
    datasets.add(str(root), "set")
    audit.run("set")

    def left(kind: str) -> tuple[int, int]:
        found = audit.undecided("set", query.curated_index("set"))[kind]
        return found.images, found.groups

    assert [left(kind) for kind in ("exact_duplicates", "same_image_in_two_splits", "dark")] == [(3, 1), (3, 1), (1, 1)]
    decisions.decide("set", "exclude", [across, "train/viral/dark.jpeg"], who="Ada")
    assert [left(kind) for kind in ("exact_duplicates", "same_image_in_two_splits", "dark")] == [(2, 1), (0, 0), (0, 0)]
    decisions.decide("set", "exclude", [twin], who="Ada")
    assert left("exact_duplicates") == (0, 0)
    decisions.undo("set", 1, who="Ada")
    assert left("same_image_in_two_splits") == (2, 1)


@pytest.mark.slow
def test_the_real_set_has_30_groups_of_duplicates_none_across_splits_and_no_patient_in_two(kermany_zip: Path):
    datasets.add(str(kermany_zip), "kermany")
    made = audit.run("kermany")
    found = {one.kind: (one.images, one.groups) for one in made.findings}
    assert found["exact_duplicates"] == (62, 30)
    for kind in ("same_image_in_two_splits", "same_patient_in_two_splits", "duplicates_with_different_labels"):
        assert kind not in found
    strongest = made.shortcuts[0]
    assert (strongest.trait, strongest.split, strongest.label) == ("bytes_per_pixel", "train", "normal")
    assert strongest.auc == pytest.approx(0.900, abs=0.001)
