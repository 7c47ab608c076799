"""Measures: of hand-made images, taken once per file, in the rows of the index."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_core import images, workspace
from cxr_core.data import datasets, image_stats, index

Tree = Callable[..., Path]
NAMES = image_stats.COLUMNS[1:]


def of(pixels: np.ndarray) -> dict[str, float | str]:
    return dict(zip(NAMES, image_stats.pixel_stats(pixels[None])[0], strict=True))


def test_a_plain_image_has_no_content():
    plain = of(np.full((180, 180), 77, np.uint8))
    assert [plain[name] for name in NAMES[:-1]] == [77, 77, 77, 0, 0, 77]


def test_two_halves_carry_one_bit():
    halves = np.zeros((180, 180), np.uint8)
    halves[:, 90:] = 200
    found = of(halves)
    assert (found["mean"], found["entropy"], found["low"], found["high"]) == (100, 1, 0, 200)


def test_percentiles_are_those_of_numpy():
    ramp = np.arange(32400).reshape(180, 180) * 256 // 32400
    found = of(ramp.astype(np.uint8))
    for name, share in (("low", 5), ("high", 95)):
        assert found[name] == pytest.approx(np.percentile(ramp, share), abs=1)


def test_the_border_is_the_outermost_twentieth():
    framed = np.full((180, 180), 100, np.uint8)
    framed[9:-9, 9:-9] = 0
    assert of(framed)["border"] == 100
    assert of(255 - framed)["border"] == 155


def test_blur_lowers_sharpness():
    noise = np.random.default_rng(0).integers(0, 256, (180, 180), dtype=np.uint8)
    blurred = images.prepare(images.prepare(noise, 60), 180)
    assert of(blurred)["sharpness"] < of(noise)["sharpness"] / 5


def test_rows_are_those_of_the_index_and_equal_files_share_theirs(xray_tree: Tree):
    root = xray_tree()
    (root / "train/NORMAL/IM-0009-0001.jpeg").write_bytes((root / "train/NORMAL/IM-0001-0001.jpeg").read_bytes())
    datasets.add(str(root), "small")
    table, found = index.read("small"), image_stats.dataset_stats("small")
    assert tuple(found.columns) == NAMES
    for row, one in enumerate(table["id"]):
        assert found.loc[row].to_dict() == of(images.prepare(images.read(root / one), 180))


def test_only_new_files_are_measured(xray_tree: Tree, monkeypatch: pytest.MonkeyPatch):
    datasets.add(str(xray_tree()), "small")
    counted: list[int] = []
    real = image_stats.pixel_stats
    monkeypatch.setattr(image_stats, "pixel_stats", lambda pixels: counted.append(len(pixels)) or real(pixels))
    first = image_stats.dataset_stats("small")
    second = image_stats.dataset_stats("small")
    assert counted == [13]
    assert first.equals(second)
    path = workspace.dataset("small") / "measures.parquet"
    workspace.write_bytes(path, image_stats._read(path).iloc[:10].to_parquet(index=False))
    assert image_stats.dataset_stats("small").equals(first)
    assert counted == [13, 3]


def test_several_processes_measure_the_same(xray_tree: Tree, monkeypatch: pytest.MonkeyPatch):
    datasets.add(str(xray_tree()), "small")
    alone = image_stats.dataset_stats("small")
    (workspace.dataset("small") / "measures.parquet").unlink()
    monkeypatch.setattr(image_stats, "_ONE_PROCESS", 0)
    monkeypatch.setattr(image_stats, "_CHUNK", 4)
    assert image_stats.dataset_stats("small").equals(alone)


@pytest.mark.parametrize("content", [None, b"", b"PAR1", "other columns", "twice the rows"])
def test_a_damaged_file_is_measured_again(xray_tree: Tree, content: bytes | str | None):
    datasets.add(str(xray_tree()), "small")
    before, path = image_stats.dataset_stats("small"), workspace.dataset("small") / "measures.parquet"
    table = pd.read_parquet(path)
    if content is None:
        path.unlink()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        changed = table[["sha256"]] if content == "other columns" else pd.concat([table, table])
        changed.to_parquet(path, index=False)
    pd.testing.assert_frame_equal(image_stats.dataset_stats("small"), before)
