"""Lack of memory, of descriptors or of a working disk stops the work: it never calls a file damaged, nor leaves it out."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cxr_core import images, workspace
from cxr_core.data import append, audit, datasets, decisions, image_files, index, manifest, packing
from cxr_core.errors import AlreadyExists, UnknownName, UnreadableImage, WorkFailed, is_shortage, sentence

Tree = Callable[..., Path]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


SHORTAGES = [MemoryError(), OSError(errno.EMFILE, "Too many open files"), OSError(errno.EIO, "Input/output error")]


def failing_at(number: int, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the decoder fail at an image as it does: the cause behind a sentence about the file."""
    decode, count = images.decode, 0

    def fail(*given: object, **named: object) -> object:
        nonlocal count
        count += 1
        if count == number:
            raise UnreadableImage("The file is damaged or cut short and could not be decoded.") from error
        return decode(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(images, "decode", fail)


@pytest.mark.parametrize("error", SHORTAGES, ids=lambda error: type(error).__name__)
def test_no_image_is_left_out_for_want_of_memory_or_of_a_disk(
    xray_tree: Tree, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with monkeypatch.context() as context:
        failing_at(3, error, context)
        with pytest.raises(WorkFailed, match="could not be read, and nothing was changed") as caught:
            datasets.add(str(xray_tree()), "small")
        assert sentence(error) in str(caught.value)
    assert datasets.list_names() == [] and datasets.add(str(xray_tree()), "small").images == 13


def test_a_damaged_file_is_still_left_out_and_told(xray_tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    failing_at(3, ValueError("bad"), monkeypatch)
    dataset = datasets.add(str(xray_tree()), "small")
    assert dataset.images == 12 and "damaged" in dataset.skipped[0]["reason"]


def test_an_addition_of_more_stops_as_well_and_can_be_repeated(
    xray_tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = xray_tree()
    datasets.add(str(root), "small")
    (root / "train" / "NORMAL" / "new.jpeg").write_bytes(images.encode(packing.open_packed("small")[0]))
    with monkeypatch.context() as context:
        failing_at(1, SHORTAGES[1], context)
        with pytest.raises(WorkFailed, match="too many files open"):
            append.append_images("small", str(root))
    assert datasets.get("small").images == 13 and append.append_images("small", str(root)).added == 1


@pytest.mark.parametrize("error", SHORTAGES[1:], ids=lambda error: str(error.errno))
def test_no_index_manifest_or_audit_is_called_damaged(
    xray_tree: Tree, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    datasets.add(str(xray_tree()), "small")
    frozen = manifest.build("small")
    audit.run("small")

    def fail(*_: object, **__: object) -> object:
        raise error

    monkeypatch.setattr(pd, "read_parquet", fail)
    for ask in (lambda: index.read("small"), lambda: manifest.rows(frozen)):
        with pytest.raises(WorkFailed) as caught:
            ask()
        assert "damaged" not in str(caught.value) and sentence(error) in str(caught.value)


def test_a_folder_that_cannot_be_listed_takes_no_images_out_of_a_dataset(
    xray_tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, scan = xray_tree(), os.scandir

    def fail(path: object = ".") -> object:
        if str(path).endswith("PNEUMONIA"):
            raise OSError(errno.EMFILE, "Too many open files", str(path))
        return scan(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(WorkFailed, match="could not be listed, so none were taken"):
        list(image_files.walk(root))


def test_what_is_a_shortage() -> None:
    assert all(map(is_shortage, SHORTAGES))
    assert not is_shortage(OSError("image file is truncated")) and not is_shortage(FileNotFoundError(2, "none"))
    assert not is_shortage(PermissionError(13, "no")) and not is_shortage(ValueError())


def test_a_removed_dataset_comes_back_with_all_that_was_in_it(xray_tree: Tree) -> None:
    dataset = datasets.add(str(xray_tree()), "small")
    image = index.read("small")["id"].iloc[0]
    decisions.decide("small", "exclude", [image], who="Ada")
    kept = datasets.remove("small")
    assert kept is not None and datasets.list_names() == [] and datasets.list_removed() == ["small"]
    assert datasets.restore("small") == dataset and not kept.exists()
    assert [line.who for line in decisions.record("small")] == ["Ada"]
    with pytest.raises(UnknownName, match="There is no removed dataset named 'small'"):
        datasets.restore("small")


def test_several_of_one_name_wait_and_the_latest_comes_back(xray_tree: Tree) -> None:
    for size in (90, 80), (50, 60):
        datasets.add(str(xray_tree(f"tree{size[0]}", size=size)), "small")
        datasets.remove("small")
    assert len(list(workspace.deleted_dataset().iterdir())) == 2
    datasets.restore("small")
    assert index.read("small")["height"].iloc[0] == 50
    with pytest.raises(AlreadyExists):
        datasets.restore("small")
    datasets.remove("small", for_good=True)
    assert datasets.list_removed() == [] and not list(workspace.deleted_dataset().iterdir())


def test_after_a_week_a_removed_dataset_is_gone(xray_tree: Tree) -> None:
    root = str(xray_tree())
    datasets.add(root, "old")
    datasets.remove("old")
    (entry,) = workspace.deleted_dataset().iterdir()
    os.utime(entry, (0, 0))
    datasets.add(root, "new")
    datasets.remove("new")
    assert datasets.list_removed() == ["new"]


def test_whoever_still_writes_to_a_removed_dataset_makes_no_ghost(xray_tree: Tree) -> None:
    root = str(xray_tree())
    datasets.add(root, "small")
    folder = workspace.dataset("small")
    datasets.remove("small")
    for path in (folder / "audit.json", folder / "manifests" / "a.json"):
        with pytest.raises(WorkFailed, match="The dataset 'small' is not there, or was removed meanwhile"):
            workspace.write_json(path, {})
    assert not folder.exists()
    assert datasets.add(root, "small").images == 13


def test_what_the_workspace_makes_is_the_users_own(home: Path, xray_tree: Tree) -> None:
    datasets.add(str(xray_tree()), "small")
    assert mode(home) == mode(home / "datasets") == 0o700


def test_a_shared_home_stays_shared(home: Path, xray_tree: Tree) -> None:
    home.mkdir()
    home.chmod(0o2775)
    datasets.add(str(xray_tree()), "small")
    assert mode(home / "datasets") & 0o050 == 0o050
