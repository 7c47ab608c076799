"""Packing: row i of the array is image i of the index, prepared as anywhere else, however many processes do it."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_core import images, process, workspace
from cxr_core.data import datasets, index, packing
from cxr_core.errors import WorkFailed

Tree = Callable[..., Path]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """140 images of different sizes and formats, three chunks; the 4th, 70th and last cannot be read."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(2)
    made = []
    for number in range(140):
        kind = ("PNG", "JPEG", "BMP")[number % 3]
        path = folder / f"{number}.{kind.lower()}"
        shape = (20 + number % 7, 30 - number % 5)
        path.write_bytes(images.encode(rng.integers(0, 256, shape, dtype=np.uint8), format=kind))
        made.append(path)
    made[3].write_bytes(b"")
    made[69].write_bytes(made[69].read_bytes()[:60])
    made[139].unlink()
    return made


@pytest.fixture(params=[1, 2], ids=["one process", "several processes"])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(packing, "_ALONE", 0)
    monkeypatch.setattr(process, "cpu_count", lambda: request.param)
    return int(request.param)


@pytest.mark.usefixtures("cores")
def test_rows_are_the_prepared_readable_images_in_their_order(files: list[Path], tmp_path: Path):
    target = tmp_path / "below" / "packed.npy"
    told: list[tuple[str, int, int]] = []
    facts = packing.pack(files, target, size=24, progress=lambda *one: told.append(one))
    array = np.load(target)
    readable = [file for number, file in enumerate(files) if number not in (3, 69, 139)]
    assert (array.dtype, array.shape) == (np.uint8, (137, 24, 24))
    for row, file in enumerate(readable):
        np.testing.assert_array_equal(array[row], images.prepare(images.read(file), 24))
    assert [number for number, fact in enumerate(facts) if fact.problem] == [3, 69, 139]
    assert told == [("Reading images", done, 140) for done in (64, 128, 140)]
    assert [one.name for one in target.parent.iterdir()] == ["packed.npy"]


@pytest.mark.usefixtures("cores")
def test_facts_say_what_each_file_is_or_why_there_are_no_pixels(files: list[Path], tmp_path: Path):
    facts = packing.pack(files, tmp_path / "packed.npy", size=8)
    content = files[0].read_bytes()
    assert facts[0] == packing.FileFacts("PNG", "L", 30, 20, len(content), hashlib.sha256(content).hexdigest())
    assert "empty" in facts[3].problem
    assert facts[69].problem.endswith(".")
    assert facts[139].problem == "The file could not be read (No such file or directory)."
    assert (facts[3].sha256, facts[3].width) == ("", 0)


def test_of_no_readable_image_at_all_an_empty_array_is_made(tmp_path: Path):
    (tmp_path / "a.png").touch()
    packing.pack([tmp_path / "a.png"], tmp_path / "packed.npy", size=8)
    assert np.load(tmp_path / "packed.npy").shape == (0, 8, 8)


def test_packing_that_breaks_off_leaves_no_array_and_no_part(files: list[Path], tmp_path: Path):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        packing.pack(files, tmp_path / "out" / "packed.npy", size=8, progress=interrupt)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_that_cannot_be_written_is_told_in_words(files: list[Path], tmp_path: Path):
    (tmp_path / "out").touch()
    with pytest.raises(WorkFailed, match="Could not write"):
        packing.pack(files[:1], tmp_path / "out" / "packed.npy")


def test_rows_of_a_dataset_are_rows_of_its_index_at_every_size(xray_tree: Tree):
    root = xray_tree()
    datasets.add(str(root), "small")
    table = index.read("small")
    for size in (180, 33):
        array = packing.open_packed("small", size=size)
        assert (array.dtype, array.shape) == (np.uint8, (13, size, size))
        for row, one in enumerate(table["id"]):
            np.testing.assert_array_equal(array[row], images.prepare(images.read(root / one), size))


def test_an_image_that_was_skipped_when_added_shifts_no_row(xray_tree: Tree):
    root = xray_tree()
    (root / "train/NORMAL/IM-0002-0001.jpeg").write_bytes(b"")
    datasets.add(str(root), "small")
    table, array = index.read("small"), packing.open_packed("small", size=21)
    assert len(table) == len(array) == 12
    for row, one in enumerate(table["id"]):
        np.testing.assert_array_equal(array[row], images.prepare(images.read(root / one), 21))


def test_a_size_is_packed_once_and_read_from_then_on(xray_tree: Tree):
    root = xray_tree()
    datasets.add(str(root), "small")
    first = np.array(packing.open_packed("small", size=20))
    for file in root.rglob("*.jpeg"):
        file.unlink()
    np.testing.assert_array_equal(packing.open_packed("small", size=20), first)


def test_the_array_of_a_dataset_cannot_be_written_to(xray_tree: Tree):
    datasets.add(str(xray_tree()), "small")
    with pytest.raises(ValueError, match="read-only"):
        packing.open_packed("small")[0, 0, 0] = 1


def test_an_image_that_has_gone_is_named_and_no_array_is_left(xray_tree: Tree):
    root = xray_tree()
    datasets.add(str(root), "small")
    gone = root / "test/NORMAL/IM-0001-0001.jpeg"
    content = gone.read_bytes()
    gone.unlink()
    with pytest.raises(WorkFailed, match=f"1 images of 'small' can no longer be read, the first is {gone}"):
        packing.open_packed("small", size=20)
    gone.write_bytes(content)
    assert packing.open_packed("small", size=20).shape == (13, 20, 20)


def test_an_image_that_has_changed_is_told_in_words(xray_tree: Tree):
    root = xray_tree()
    datasets.add(str(root), "small")
    (root / "test/NORMAL/IM-0001-0001.jpeg").write_bytes(images.encode(np.zeros((50, 50), np.uint8)))
    with pytest.raises(WorkFailed):
        packing.open_packed("small", size=20)


def shortened(target: Path) -> None:
    np.save(target, np.load(target)[:-1])


def of_another_size(target: Path) -> None:
    np.save(target, np.zeros((13, 30, 30), np.uint8))


def of_floats(target: Path) -> None:
    np.save(target, np.load(target).astype(np.float32))


def cut(keep: int) -> Callable[[Path], object]:
    return lambda target: target.write_bytes(target.read_bytes()[:keep])


DAMAGES = {"missing": Path.unlink, "empty": cut(0), "header cut": cut(50), "pixels cut": cut(5000),
           "a row short": shortened, "another size": of_another_size, "floats": of_floats}  # fmt: skip


@pytest.mark.parametrize("size", [180, 20])
def test_an_array_that_is_missing_or_damaged_is_packed_again(xray_tree: Tree, size: int):
    datasets.add(str(xray_tree()), "small")
    target = workspace.dataset("small") / "packed" / f"{size}.npy"
    before = np.array(packing.open_packed("small", size=size))
    for name, damage in DAMAGES.items():
        damage(target)
        np.testing.assert_array_equal(packing.open_packed("small", size=size), before, err_msg=name)
        np.testing.assert_array_equal(np.load(target), before, err_msg=name)


def test_a_damaged_array_whose_images_have_gone_is_told_in_words(xray_tree: Tree):
    root = xray_tree()
    datasets.add(str(root), "small")
    (workspace.dataset("small") / "packed" / "180.npy").write_bytes(b"")
    (root / "test/NORMAL/IM-0001-0001.jpeg").unlink()
    with pytest.raises(WorkFailed, match="1 images of 'small' can no longer be read"):
        packing.open_packed("small")


def test_two_processes_may_pack_the_same_size_at_once(files: list[Path], tmp_path: Path):
    """The second one runs, start to end, while the first is at work."""
    target, others = tmp_path / "packed.npy", []

    def meanwhile(*_: object) -> None:
        if not others:
            others.append(packing.pack(files, target, size=8))

    packing.pack(files, target, size=8, progress=meanwhile)
    assert np.load(target).shape == (137, 8, 8)


def test_datasets_are_read_as_one_stack(xray_tree: Tree):
    datasets.add(str(xray_tree("one")), "one")
    datasets.add(str(xray_tree("two", size=(40, 50))), "two")
    stack = packing.open_stacked(["two", "one"], size=20)
    assert (stack.shape, len(stack)) == ((26, 20, 20), 26)
    data, rows = pd.Series(["one", "two", "one", "two"]), pd.Series([3, 12, 0, 0])
    found = stack[stack.places(data, rows)]
    for image, name, row in zip(found, data, rows, strict=True):
        np.testing.assert_array_equal(image, packing.open_packed(name, size=20)[row])


def test_what_a_killed_packing_left_is_cleared_by_the_next(xray_tree: Tree):
    datasets.add(str(xray_tree()), "small")
    left = workspace.dataset("small") / "packed" / ".part-12345678.20.npy"
    left.write_bytes(b"half")
    assert packing.open_packed("small", size=20).shape == (13, 20, 20)
    assert not left.exists()
