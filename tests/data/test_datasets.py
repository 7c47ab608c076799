"""Datasets: the real set has the paper's counts, and an addition is there whole or leaves nothing behind."""

import os
import shutil
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from cxr_core import images, workspace
from cxr_core.data import audit, datasets, decisions, index, packing, sources
from cxr_core.data.progress import read_progress
from cxr_core.errors import AlreadyExists, BadDataset, BadInput, UnknownName, WorkFailed

# The paper's own reports (shared/PAPER.md), normal / viral / bacterial
PAPER = {
    "train": {"normal": 1341, "viral": 1345, "bacterial": 2530},
    "val": {"normal": 8, "viral": 0, "bacterial": 8},
    "test": {"normal": 234, "viral": 148, "bacterial": 242},
}
Tree = Callable[..., Path]


def left_behind() -> list[str]:
    """Content of datasets/, without lock files."""
    root = workspace.datasets()
    found = root.rglob("*") if root.exists() else []
    return sorted(one.relative_to(root).as_posix() for one in found if one.name != ".adding" and one.suffix != ".lock")


def zipped(folder: Path, path: Path, *, below: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for file in sorted(folder.rglob("*.*")):
            opened.write(file, f"{below}{file.relative_to(folder).as_posix()}")
    return path


# --- the real set ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kermany_home(kermany_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the whole real set, added once; never written to."""
    place = tmp_path_factory.mktemp("kermany") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_HOME", str(place))
        datasets.add(str(kermany_zip), "kermany")
    return place


@pytest.fixture
def kermany(kermany_home: Path, monkeypatch: pytest.MonkeyPatch) -> datasets.Dataset:
    monkeypatch.setenv("CXR_HOME", str(kermany_home))
    return datasets.get("kermany")


def test_the_real_set_has_exactly_the_papers_counts(kermany: datasets.Dataset):
    assert kermany.counts == PAPER
    assert kermany.images == 5856
    assert kermany.skipped == ()
    assert kermany.classes == ("normal", "viral", "bacterial")
    assert (kermany.kind, kermany.origin, kermany.synthetic) == ("zip", "chest_xray_224.zip", False)


def test_no_patient_of_the_real_set_is_in_train_and_in_test(kermany: datasets.Dataset):
    table = index.read("kermany")
    in_test = table["split"] == "test"
    assert not set(table.loc[in_test, "patient"]) & set(table.loc[~in_test, "patient"])
    assert kermany.patients == table["patient"].nunique()


def test_no_image_of_the_real_set_is_in_two_splits_and_its_copies_are_known(kermany: datasets.Dataset):
    table = index.read(kermany.name)
    copies = table.groupby("sha256")["split"].agg(["size", "nunique"])
    assert (copies["nunique"] == 1).all()
    assert (copies["size"] > 1).sum() == 30


def test_the_real_index_says_what_each_file_is(kermany: datasets.Dataset):
    table = index.read(kermany.name)
    assert tuple(table.columns) == index.COLUMNS
    assert table["id"].is_unique
    assert set(table["format"]) == {"JPEG"}
    assert set(table["width"]) == set(table["height"]) == {224}
    assert set(table["source"]) == {"zip"}
    for row in table.iloc[::1500].itertuples():
        assert datasets.image_path(kermany.name, row.id).stat().st_size == row.bytes


def test_rows_of_the_real_packed_array_are_the_prepared_images_of_the_index(kermany: datasets.Dataset):
    """Packed in several processes: 5,856 images are more than one takes."""
    packed, table = packing.open_packed(kermany.name), index.read(kermany.name)
    assert packed.shape == (5856, 180, 180)
    for row in range(0, len(table), 97):
        file = datasets.image_path(kermany.name, table["id"][row])
        np.testing.assert_array_equal(packed[row], images.prepare(images.read(file), 180))


def test_the_same_name_again_is_refused_in_words_at_once(kermany: datasets.Dataset, kermany_zip: Path):
    started = time.monotonic()
    with pytest.raises(AlreadyExists, match=r"There is a dataset named 'kermany' already\. Nothing was changed\."):
        datasets.add(str(kermany_zip), "kermany")
    assert time.monotonic() - started < 1
    assert datasets.get("kermany") == kermany


def test_a_second_dataset_of_the_same_source_takes_another_name(xray_tree: Tree):
    first = datasets.add(str(xray_tree()), "one")
    second = datasets.add(str(xray_tree()), "two")
    assert datasets.list_names() == ["one", "two"]
    assert first.counts == second.counts


# --- what an addition makes ------------------------------------------------------------------------------------------


def test_a_folder_is_read_where_it_lies_and_counted(xray_tree: Tree, home: Path):
    root = xray_tree()
    made = datasets.add(str(root), "small")
    assert made.counts == {
        "train": {"normal": 2, "viral": 2, "bacterial": 2},
        "val": {"normal": 1, "viral": 0, "bacterial": 0},
        "test": {"normal": 2, "viral": 2, "bacterial": 2},
    }
    assert (made.images, made.kind, made.root) == (13, "folder", str(root))
    assert made.patients == 12
    assert datasets.get("small") == made
    assert left_behind() == [
        "small",
        "small/dataset.json",
        "small/index.parquet",
        "small/packed",
        "small/packed/180.npy",
    ]
    assert not (home / "datasets/small/images").exists()


def test_a_zip_is_unpacked_into_the_dataset_and_can_be_deleted_afterwards(xray_tree: Tree, tmp_path: Path):
    source = zipped(xray_tree(), tmp_path / "a.zip", below="chest_xray/")
    made = datasets.add(str(source))
    source.unlink()
    assert (made.name, made.images, made.kind) == ("a", 13, "zip")
    table = index.read("a")
    assert all(datasets.image_path("a", one).is_file() for one in table["id"])
    assert packing.open_packed("a", size=40).shape == (13, 40, 40)


def test_the_doubly_nested_tree_of_kaggles_zip_is_read_once(xray_tree: Tree, tmp_path: Path):
    tree = xray_tree()
    double = tmp_path / "double"
    for place in ("chest_xray", "chest_xray/chest_xray", "chest_xray/__MACOSX", "__MACOSX/chest_xray"):
        shutil.copytree(tree, double / place, dirs_exist_ok=True)
    made = datasets.add(str(zipped(double, tmp_path / "a.zip")))
    assert made.images == 13
    assert index.read("a")["id"].is_unique


def test_phantoms_are_a_dataset_that_says_it_is_synthetic():
    made = datasets.add("synthetic", images=60)
    assert (made.name, made.synthetic, made.images, made.kind) == ("synthetic", True, 60, "synthetic")
    assert made.counts["test"] == {"normal": 4, "viral": 4, "bacterial": 4}
    assert "no patient" in made.citation
    table = index.read("synthetic")
    splits = table.groupby("patient")["split"].nunique()
    assert (splits == 1).all()


def test_an_unreadable_image_is_reported_skipped_and_not_counted(xray_tree: Tree):
    root = xray_tree()
    whole = (root / "train/NORMAL/IM-0001-0001.jpeg").read_bytes()
    (root / "train/NORMAL/IM-0001-0001.jpeg").write_bytes(whole[: len(whole) // 2])
    (root / "test/NORMAL/IM-0009-0001.jpeg").touch()
    made = datasets.add(str(root), "small")
    assert made.images == 12
    assert made.counts["train"]["normal"] == 1
    assert {one["file"] for one in made.skipped} == {"train/NORMAL/IM-0001-0001.jpeg", "test/NORMAL/IM-0009-0001.jpeg"}
    assert any("damaged or cut short" in one["reason"] for one in made.skipped)
    assert any("empty" in one["reason"] for one in made.skipped)
    table = index.read("small")
    assert len(table) == len(packing.open_packed("small")) == 12
    for row, one in enumerate(table["id"]):
        np.testing.assert_array_equal(packing.open_packed("small")[row], images.prepare(images.read(root / one), 180))


def test_a_damaged_image_in_a_zip_is_reported_too(xray_tree: Tree, tmp_path: Path):
    root = xray_tree()
    (root / "train/NORMAL/IM-0001-0001.jpeg").write_bytes(b"\xff\xd8\xff no picture")
    made = datasets.add(str(zipped(root, tmp_path / "a.zip")))
    assert made.images == 12
    assert [one["file"] for one in made.skipped] == ["train/NORMAL/IM-0001-0001.jpeg"]


def test_a_pneumonia_of_unknown_kind_is_listed_among_the_skipped(xray_tree: Tree):
    root = xray_tree()
    shutil.copy(root / "train/PNEUMONIA/person1_virus_1.jpeg", root / "train/PNEUMONIA/scan.jpeg")
    made = datasets.add(str(root), "small")
    assert [one["file"] for one in made.skipped] == ["train/PNEUMONIA/scan.jpeg"]
    assert made.images == 13


def test_progress_is_told_and_written_down_for_other_processes(xray_tree: Tree):
    seen: list[tuple[tuple[str, int, int], tuple[str, int, int]]] = []
    assert read_progress(workspace.staging("small")) == ("Starting", 0, 0)
    datasets.add(
        str(xray_tree()),
        "small",
        progress=lambda *told: seen.append((told, read_progress(workspace.staging("small")))),
    )
    assert seen[-1][0] == ("Reading images", 13, 13)
    assert not (workspace.dataset("small") / "progress.json").exists()


# --- what is refused leaves nothing behind ---------------------------------------------------------------------------


def _text(_: Path, path: Path) -> None:
    path.write_text("no zip")


def _outside(tree: Path, path: Path) -> None:
    zipped(tree, path, below="../../")


def _absolute(tree: Path, path: Path) -> None:
    with zipfile.ZipFile(zipped(tree, path), "a") as opened:
        opened.writestr(zipfile.ZipInfo("/etc/evil.jpeg"), b"x")


def _link(tree: Path, path: Path) -> None:
    zipped(tree, path)
    link = zipfile.ZipInfo("train/NORMAL/link.jpeg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as opened:
        opened.writestr(link, "/etc/passwd")


def _encrypted(tree: Path, path: Path) -> None:
    content = bytearray(zipped(tree, path).read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)


def _bomb(tree: Path, path: Path) -> None:
    zipped(tree, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("train/NORMAL/bomb.bmp", bytes(4 * 2**20))


def _no_images(_: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("train/NORMAL/readme.txt", "x")


def _no_splits(tree: Path, path: Path) -> None:
    zipped(tree / "train" / "NORMAL", path)


def _one_class(tree: Path, path: Path) -> None:
    shutil.rmtree(tree / "train/PNEUMONIA")
    shutil.rmtree(tree / "test/PNEUMONIA")
    zipped(tree, path)


def _all_damaged(tree: Path, path: Path) -> None:
    for file in tree.rglob("*.jpeg"):
        file.write_bytes(b"")
    zipped(tree, path)


def _one_class_readable(tree: Path, path: Path) -> None:
    for file in tree.rglob("person*.jpeg"):
        file.write_bytes(b"")
    zipped(tree, path)


REFUSED = {
    "not a zip archive": _text,
    "points outside": _outside,
    "points outside the archive": _absolute,
    "holds a link": _link,
    "is encrypted": _encrypted,
    "a zip bomb": _bomb,
    "No images were found": _no_images,
    "lie in one folder": _no_splits,
    "Only one class, 'normal'": _one_class,
    "only 0 could be read": _all_damaged,
    "which leaves fewer than two classes": _one_class_readable,
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_zip_that_will_not_do_is_refused_in_words_and_leaves_nothing(words: str, xray_tree: Tree, tmp_path: Path):
    REFUSED[words](xray_tree(), tmp_path / "a.zip")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadDataset, match=words):
        datasets.add(str(tmp_path / "a.zip"), "small")
    assert left_behind() == []
    assert datasets.list_names() == []
    assert [one for one in sorted(tmp_path.rglob("*")) if not one.is_relative_to(workspace.home())] == before
    assert datasets.add(str(xray_tree("good")), "small").images == 13  # the name is free again


@pytest.mark.parametrize("words", ["No images were found", "lie in one folder", "Only one class"])
def test_a_folder_that_will_not_do_is_refused_and_stays_as_it_is(words: str, xray_tree: Tree):
    root = xray_tree()
    if words == "Only one class":
        for place in ("train/PNEUMONIA", "test/PNEUMONIA"):
            shutil.rmtree(root / place)
    elif words == "No images were found":
        for file in root.rglob("*.jpeg"):
            file.rename(file.with_suffix(".txt"))
    else:
        root = root / "train" / "NORMAL"
    before = sorted(root.rglob("*"))
    with pytest.raises(BadDataset, match=words):
        datasets.add(str(root), "small")
    assert left_behind() == []
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_of_phantoms_out_of_range_is_refused(seed: int):
    with pytest.raises(BadInput, match=rf"from 0 to 2,147,483,647\. Received: {seed}\."):
        datasets.add("synthetic", images=30, seed=seed)
    assert left_behind() == []


def test_fewer_phantoms_than_fill_every_split_are_refused():
    with pytest.raises(BadInput, match=r"at least 30 images\. Received: 29\."):
        datasets.add("synthetic", images=29)
    assert left_behind() == []


@pytest.mark.parametrize("name", ["../out", "a b", "-a", ".a", "a/b"])
def test_an_unsafe_name_is_refused_before_anything_is_written(xray_tree: Tree, home: Path, name: str):
    with pytest.raises(BadInput, match="A name has"):
        datasets.add(str(xray_tree()), name)
    assert not home.exists()


def test_a_disk_that_is_full_is_told_in_words_and_nothing_is_left(xray_tree: Tree, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packing, "_write_header", full)
    with pytest.raises(WorkFailed, match="No space left on device"):
        datasets.add(str(xray_tree()), "small")
    assert left_behind() == []


def test_an_interrupted_addition_leaves_nothing(xray_tree: Tree):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        datasets.add(str(xray_tree()), "small", progress=interrupt)
    assert left_behind() == []


def test_while_a_name_is_being_added_it_is_refused_and_another_one_works(xray_tree: Tree):
    root, other = str(xray_tree()), []

    def meanwhile(*_: object) -> None:
        with pytest.raises(AlreadyExists, match="'small' is being added at this moment"):
            datasets.add(root, "small")
        if not other:
            other.append(datasets.add(root, "other"))
        assert datasets.list_names() == ["other"]  # what is not whole is not shown

    datasets.add(root, "small", progress=meanwhile)
    assert datasets.list_names() == ["other", "small"]


def test_a_name_that_is_taken_meanwhile_is_not_overwritten(xray_tree: Tree):
    def take(*_: object) -> None:
        workspace.dataset("small").mkdir(exist_ok=True)
        workspace.write_bytes(workspace.dataset("small") / "mine", b"x")

    with pytest.raises(AlreadyExists):
        datasets.add(str(xray_tree()), "small", progress=take)
    assert left_behind() == ["small", "small/mine"]


# --- kill -9 ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[psutil.Process]]]:
    """A workspace in which an addition named `small` was killed while it wrote images, and its worker processes."""
    place = tmp_path_factory.mktemp("killed") / "home"
    environment = {**os.environ, "CXR_HOME": str(place), "PYTHONPATH": str(workspace.PROJECT)}
    arguments = ["data", "add", "synthetic", "--name", "small", "--images", "5000", "--quiet"]
    adding = subprocess.Popen([sys.executable, "-m", "cxr_core", *arguments], env=environment)
    children: list[psutil.Process] = []
    try:
        staged = place / "datasets/.adding/small/images"
        limit = time.monotonic() + 60
        while not any(staged.rglob("*.jpeg")):
            assert adding.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.05)
        children = psutil.Process(adding.pid).children(recursive=True)
        adding.kill()
        adding.wait()
        yield place, children
    finally:
        for one in [process for process in children if process.is_running()]:
            one.kill()
        if adding.poll() is None:
            adding.kill()
            adding.wait()


def test_an_addition_that_was_killed_leaves_no_dataset(
    killed: tuple[Path, list[psutil.Process]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CXR_HOME", str(killed[0]))
    assert datasets.list_names() == []
    assert not workspace.dataset("small").exists()
    with pytest.raises(UnknownName):
        datasets.get("small")


def test_an_addition_that_was_killed_leaves_no_processes(killed: tuple[Path, list[psutil.Process]]):
    _, alive = psutil.wait_procs(killed[1], timeout=3)
    assert alive == []


def test_after_an_addition_was_killed_the_same_name_can_be_added(
    killed: tuple[Path, list[psutil.Process]], monkeypatch: pytest.MonkeyPatch, xray_tree: Tree
):
    monkeypatch.setenv("CXR_HOME", str(killed[0]))
    made = datasets.add(str(xray_tree()), "small")
    assert (made.images, datasets.list_names()) == (13, ["small"])
    assert not any("images" in one for one in left_behind())


# --- list, describe, remove ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("kaggle", "kermany"),
        ("synthetic", "synthetic"),
        ("/a/chest_xray_224.zip", "chest_xray_224"),
        ("/a/My Röntgen.ZIP", "My-R-ntgen"),
        ("/a/b.c/", "b.c"),
        ("/a/" + "x" * 100, "x" * 80),
    ],
)
def test_without_a_name_the_sources_own_is_taken(source: str, name: str):
    assert datasets.default_name(source) == name


@pytest.mark.parametrize("source", ["/a/Ärzte.zip", "/a/_set", "/a/(1) scans.zip"])
def test_the_name_made_of_a_source_is_always_a_good_one(source: str):
    workspace.validate_name(datasets.default_name(source))


def test_an_unknown_dataset_is_answered_with_the_known_ones(xray_tree: Tree):
    datasets.add(str(xray_tree()), "small")
    for ask in (datasets.get, datasets.remove, index.read, index.root, packing.open_packed):
        with pytest.raises(UnknownName, match=r"no dataset named 'smal'\. Did you mean 'small'\? Known: small\."):
            ask("smal")


def test_with_no_workspace_at_all_there_are_no_datasets():
    assert datasets.list_names() == []


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"name": "small"}', '{"classes": [], "skipped": [], "new": 1}'])
def test_a_damaged_description_is_told_in_words(xray_tree: Tree, content: str):
    datasets.add(str(xray_tree()), "small")
    (workspace.dataset("small") / "dataset.json").write_text(content)
    with pytest.raises(WorkFailed, match="damaged"):
        datasets.get("small")


@pytest.mark.parametrize("content", [None, b"", b"PAR1 no parquet"])
def test_a_damaged_or_missing_index_is_told_in_words(xray_tree: Tree, content: bytes | None):
    datasets.add(str(xray_tree()), "small")
    path = workspace.dataset("small") / "index.parquet"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(WorkFailed, match="The index of dataset 'small' is missing or damaged"):
        index.read("small")


def test_removing_forgets_the_dataset_and_spares_the_folder_it_was_made_of(xray_tree: Tree):
    root = xray_tree()
    datasets.add(str(root), "small")
    datasets.remove("small", for_good=True)
    assert datasets.list_names() == []
    assert left_behind() == [".deleted"]
    assert len(list(root.rglob("*.jpeg"))) == 13
    assert datasets.add(str(root), "small").images == 13


def test_removing_for_good_deletes_the_images_that_the_dataset_kept_itself(xray_tree: Tree, tmp_path: Path):
    datasets.add(str(zipped(xray_tree(), tmp_path / "a.zip")), "small")
    datasets.remove("small", for_good=True)
    assert left_behind() == [".deleted"]


@pytest.mark.parametrize("image_id", ["../dataset.json", "/etc/passwd", "train/../../../index.parquet"])
def test_no_image_id_leads_outside_the_dataset(xray_tree: Tree, tmp_path: Path, image_id: str):
    datasets.add(str(zipped(xray_tree(), tmp_path / "a.zip")), "small")
    with pytest.raises(BadDataset, match="is not an image of dataset 'small'"):
        datasets.image_path("small", image_id)


def test_a_dataset_may_be_called_like_an_upload_that_waits(xray_tree: Tree):
    workspace.write_bytes(workspace.background_job("a") / "a.zip", b"the upload of a dataset named a")
    assert datasets.add(str(xray_tree()), "a.zip").images == 13


def test_every_source_is_named_in_the_answer_to_a_wrong_one():
    with pytest.raises(BadDataset) as caught:
        datasets.add("nowhere", "small")
    assert all(name in str(caught.value) for name in sources.SOURCES)
    assert left_behind() == []


def test_a_dataset_that_lost_its_description_can_be_removed_and_added_again(xray_tree: Tree):
    root = xray_tree()
    datasets.add(str(root), "small")
    (workspace.dataset("small") / "dataset.json").unlink()
    with pytest.raises(AlreadyExists, match="remove it first"):
        datasets.add(str(root), "small")
    datasets.remove("small")
    assert datasets.add(str(root), "small").images == 13


def test_what_a_killed_addition_left_is_cleared_by_the_next_of_any_name(xray_tree: Tree):
    left = workspace.staging("dead")
    left.mkdir(parents=True)
    left.with_name(".dead.lock").touch()
    os.utime(left.with_name(".dead.lock"), (0, 0))
    datasets.add(str(xray_tree()), "good")
    assert list(workspace.staging().iterdir()) == []


def test_a_refused_addition_leaves_nothing(tmp_path: Path):
    with pytest.raises(BadDataset):
        datasets.add(str(tmp_path), "empty")
    assert list(workspace.staging().iterdir()) == []


def test_a_copied_dataset_is_called_what_its_folder_is_called(xray_tree: Tree):
    datasets.add(str(xray_tree()), "small")
    shutil.copytree(workspace.dataset("small"), workspace.dataset("twin"))
    assert datasets.list_names() == ["small", "twin"]
    assert datasets.get("twin").name == "twin"
    decisions.decide("twin", "exclude", index.read("twin")["id"].tolist()[:1], who="Ada")
    assert (len(decisions.record("twin")), decisions.record("small")) == (1, [])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def shorten(path: Path) -> None:
    pd.read_parquet(path).iloc[:-1].to_parquet(path, index=False)


@pytest.mark.parametrize("damage", [Path.unlink, cut, shorten])
def test_a_dataset_with_a_damaged_index_is_damaged_wherever_it_is_asked_for(
    xray_tree: Tree, damage: Callable[[Path], None]
):
    datasets.add(str(xray_tree()), "small")
    damage(workspace.dataset("small") / "index.parquet")
    assert datasets.list_names() == []
    assert "The index of dataset 'small' is missing or damaged" in datasets.list_damaged()["small"]
    for ask in (datasets.get, decisions.record, audit.run):
        with pytest.raises(WorkFailed, match=r"The index of dataset 'small' .*data remove small"):
            ask("small")
