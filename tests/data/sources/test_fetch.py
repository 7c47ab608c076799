"""Sources: what a person names is brought onto the disk, or refused with what is there."""

from pathlib import Path

import pytest

from cxr_core.data import sources
from cxr_core.data.progress import no_progress
from cxr_core.errors import BadDataset


def fetch(source: str, folder: Path) -> sources.SourceFolder:
    return sources.fetch(source, folder, images=30, seed=0, progress=no_progress)


def test_a_folder_is_taken_where_it_is(tmp_path: Path):
    material = fetch(str(tmp_path), tmp_path / "own")
    assert (material.root, material.kind, material.synthetic) == (tmp_path.resolve(), "folder", False)
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize("source", ["/no/such/place", "kagle", "a.zip"])
def test_a_source_that_is_not_there_is_refused_with_the_known_ones(tmp_path: Path, source: str):
    with pytest.raises(BadDataset, match=f"There is nothing at '{source}'. Expected: kaggle, synthetic, a folder"):
        fetch(source, tmp_path)


def test_the_home_of_nobody_is_refused_in_words(tmp_path: Path):
    with pytest.raises(BadDataset):
        fetch("~nobody-of-this-name/xrays", tmp_path)


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path):
    (tmp_path / "a.jpeg").write_bytes(b"x")
    with pytest.raises(BadDataset, match="not a zip archive"):
        fetch(str(tmp_path / "a.jpeg"), tmp_path / "own")
