"""More images for a dataset: only what is new is decoded, what is there keeps its row, and a kill leaves one or the other."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cxr_core import images, workspace
from cxr_core.data import append, audit, datasets, decisions, image_stats, index, manifest, packing
from cxr_core.errors import BadInput, UnknownName, WorkFailed
from tests.data.test_datasets import left_behind, zipped

Tree = Callable[..., Path]
NEW = ("train/NORMAL/IM-0050-0001.jpeg", "train/PNEUMONIA/person60_virus_1.jpeg", "val/NORMAL/IM-0051-0001.jpeg")


def draw(root: Path, *names: str, seed: int = 9) -> Path:
    rng = np.random.default_rng(seed)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(images.encode(rng.integers(0, 256, (90, 80), dtype=np.uint8)))
    return root


@pytest.fixture
def root(xray_tree: Tree) -> Path:
    """The folder that the dataset `small` points to."""
    place = xray_tree()
    datasets.add(str(place), "small")
    return place


@pytest.fixture
def own(xray_tree: Tree, tmp_path: Path) -> datasets.Dataset:
    """The dataset `small`, which keeps its own images."""
    return datasets.add(str(zipped(xray_tree(), tmp_path / "small.zip", below="chest/")), "small")


def test_new_images_of_a_folder_are_appended_and_only_they_are_decoded(root: Path, monkeypatch: pytest.MonkeyPatch):
    before, pixels = index.read("small"), np.array(packing.open_packed("small"))
    draw(root, *NEW)
    decoded: list[str] = []
    real = packing._decode_chunk
    monkeypatch.setattr(
        packing, "_decode_chunk", lambda files, size: (decoded.extend(map(str, files)), real(files, size))[1]
    )
    made = append.append_images("small", str(root))
    assert (made.added, made.already_there, made.skipped) == (3, 13, ())
    assert sorted(decoded) == sorted(str(root / name) for name in NEW)
    table, packed = index.read("small"), packing.open_packed("small")
    assert table["id"].tolist() == [*before["id"], *NEW[:2], NEW[2]]
    np.testing.assert_array_equal(packed[:13], pixels)
    for row in range(13, 16):
        np.testing.assert_array_equal(packed[row], images.prepare(images.read(root / table["id"][row]), 180))
    assert datasets.get("small") == made.dataset
    assert (made.dataset.images, made.dataset.counts["train"]["normal"]) == (16, 3)
    assert [one["images"] for one in made.dataset.additions] == [3]
    assert not (workspace.dataset("small") / "extended.json").exists()


def test_manifests_and_decisions_of_before_stay_valid(root: Path):
    decisions.decide("small", "exclude", index.read("small")["id"].tolist()[:1], who="Ada")
    built = manifest.build("small")
    rows = manifest.rows(built)
    append.append_images("small", str(draw(root, *NEW)))
    assert manifest.rows(manifest.get("small", built.id)).equals(rows)
    assert len(decisions.in_force("small")) == 1
    assert sum(map(sum, (row.values() for row in manifest.build("small").counts.values()))) == 15


@pytest.mark.parametrize("balance", ["none", "undersample", "augment"])
def test_a_dataset_that_grew_gives_the_manifest_of_one_that_was_added_at_once(root: Path, balance: str):
    append.append_images("small", str(draw(root, *NEW)))
    datasets.add(str(root), "whole")
    assert manifest.build("small", balance=balance).id == manifest.build("whole", balance=balance).id


def test_the_audit_measures_only_what_is_new(root: Path, monkeypatch: pytest.MonkeyPatch):
    audit.run("small")
    append.append_images("small", str(draw(root, *NEW)))
    assert audit.latest("small") is None
    measured: list[int] = []
    real = image_stats.pixel_stats
    monkeypatch.setattr(image_stats, "pixel_stats", lambda pixels: (measured.append(len(pixels)), real(pixels))[1])
    assert audit.run("small").images == 16
    assert measured == [3]


def test_a_dataset_that_keeps_its_own_takes_images_of_a_folder_and_of_a_zip(own: datasets.Dataset, tmp_path: Path):
    first = append.append_images("small", str(draw(tmp_path / "more", NEW[0])))
    second = append.append_images(
        "small", str(zipped(draw(tmp_path / "again", *NEW), tmp_path / "again.zip", below="x/"))
    )
    assert (first.added, first.already_there, second.added, second.already_there) == (1, 0, 2, 1)
    shutil.rmtree(tmp_path / "more")
    assert all(datasets.image_path("small", one).is_file() for one in index.read("small")["id"])
    assert len(packing.open_packed("small", size=40)) == 16


def test_what_is_there_by_content_or_by_name_is_passed_over_and_told(own: datasets.Dataset, tmp_path: Path):
    there = datasets.image_path("small", "train/NORMAL/IM-0001-0001.jpeg").read_bytes()
    more = draw(tmp_path / "more", "train/NORMAL/IM-0002-0001.jpeg", "train/CAT/a.jpeg", NEW[0])
    for name in ("train/NORMAL/other-name.jpeg", "train/NORMAL/IM-0001-0001.jpeg"):
        (more / name).write_bytes(there)
    shutil.copy(more / NEW[0], more / "train/NORMAL/IM-0099-0001.jpeg")
    made = append.append_images("small", str(more))
    assert (made.added, made.already_there) == (1, 3)
    assert dict(made.skipped) == {
        "train/NORMAL/IM-0002-0001.jpeg": "Another image of this name is in the dataset already. Rename it to take it in.",
        "train/CAT/a.jpeg": "'cat' is none of the dataset's classes: normal, viral, bacterial.",
    }


def test_nothing_new_changes_nothing(root: Path):
    before = {path: path.stat().st_mtime_ns for path in workspace.dataset("small").rglob("*") if path.is_file()}
    made = append.append_images("small", str(root))
    assert (made.added, made.already_there) == (0, 13)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_an_unreadable_new_image_is_reported_and_has_no_row(root: Path):
    draw(root, *NEW)
    (root / NEW[0]).write_bytes(b"\xff\xd8\xff")
    made = append.append_images("small", str(root))
    assert made.added == 2
    assert [file for file, _ in made.skipped] == [NEW[0]]
    assert [one["file"] for one in datasets.get("small").skipped] == [NEW[0]]
    assert len(packing.open_packed("small")) == len(index.read("small")) == 15


def test_another_folder_for_a_dataset_that_points_to_one_is_refused(root: Path, tmp_path: Path):
    with pytest.raises(BadInput, match=r"Put the new ones there, and add that folder again: data add .* --more\."):
        append.append_images("small", str(draw(tmp_path / "more", *NEW)))
    with pytest.raises(UnknownName):
        append.append_images("smal", str(root))


def test_other_sizes_grow_when_they_are_next_asked_for(root: Path):
    first = np.array(packing.open_packed("small", size=40))
    append.append_images("small", str(draw(root, *NEW)))
    grown = packing.open_packed("small", size=40)
    np.testing.assert_array_equal(grown[:13], first)
    np.testing.assert_array_equal(grown[15], images.prepare(images.read(root / NEW[2]), 40))


@pytest.mark.parametrize("when", ["pack", "describe", "index", "rename"])
def test_a_kill_at_any_moment_leaves_the_dataset_as_it_was_or_as_it_should_be(
    root: Path, when: str, monkeypatch: pytest.MonkeyPatch
):
    """A kill is an exception that nothing catches, at the moment before the step; what it left is then read afresh."""
    before = datasets.get("small")
    draw(root, *NEW)
    real = workspace.write_json

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        if when == "pack":
            during.setattr(packing.np.lib.format, "write_array_header_1_0", killed)
        elif when == "index":
            during.setattr(index, "write", killed)
        else:
            last = "extended.json" if when == "describe" else "dataset.json"
            during.setattr(workspace, "write_json", lambda p, d: killed() if p.name == last else real(p, d))
        with pytest.raises(KeyboardInterrupt):
            append.append_images("small", str(root))
    assert datasets.get("small").images == len(index.read("small")) == len(packing.open_packed("small"))
    assert datasets.get("small").images == (16 if when == "rename" else 13)
    assert (datasets.get("small") == before) == (when != "rename")
    append.append_images("small", str(root))
    assert datasets.get("small").images == len(packing.open_packed("small")) == 16
    assert "small/packed/180.npy" in left_behind()


def test_a_disk_that_is_full_leaves_the_dataset_as_it_was(root: Path, monkeypatch: pytest.MonkeyPatch):
    before = datasets.get("small")
    draw(root, *NEW)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as during:
        during.setattr(packing, "_write_header", full)
        with pytest.raises(WorkFailed, match="No space left on device"):
            append.append_images("small", str(root))
    assert datasets.get("small") == before
    assert len(packing.open_packed("small")) == 13
