"""The download from Kaggle, with its meter and its failures; nothing here calls the network."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cxr_core.data import sources
from cxr_core.data.progress import no_progress
from cxr_core.errors import WorkFailed


def fetch(source: str, folder: Path) -> sources.SourceFolder:
    return sources.fetch(source, folder, images=30, seed=0, progress=no_progress)


def test_without_a_connection_kaggle_is_told_in_words_with_the_way_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import kagglehub
    import requests

    def unreachable(*_: Any, **__: Any) -> str:
        raise requests.exceptions.ConnectionError("no route")

    monkeypatch.setattr(kagglehub, "dataset_download", unreachable)
    with pytest.raises(WorkFailed, match=r"Kaggle could not be reached .* add\s+the zip"):
        fetch("kaggle", tmp_path)


def test_the_kaggle_set_is_cited_and_pinned_to_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import kagglehub

    asked: list[str] = []
    monkeypatch.setattr(kagglehub, "dataset_download", lambda handle: asked.append(handle) or str(tmp_path))
    material = fetch("kaggle", tmp_path / "own")
    assert asked == ["paultimothymooney/chest-xray-pneumonia/versions/2"]
    assert "Kermany" in material.citation
    assert material.root == tmp_path


def test_a_download_from_kaggle_tells_how_much_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import kagglehub
    from kagglehub.cache import get_cached_archive_path
    from kagglehub.handle import parse_dataset_handle

    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))

    def slow(handle: str) -> str:
        part = Path(get_cached_archive_path(parse_dataset_handle(handle)))
        part.parent.mkdir(parents=True)
        part.write_bytes(bytes(3_000_000))
        time.sleep(1.5)
        return str(tmp_path)

    monkeypatch.setattr(kagglehub, "dataset_download", slow)
    told: list[tuple] = []
    sources.fetch("kaggle", tmp_path / "own", images=0, seed=0, progress=lambda *one: told.append(one))
    assert ("Downloading from Kaggle, MB", 3, 1229) in told


def test_a_failing_meter_neither_kills_nor_hides_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    import kagglehub

    arrived: list[int] = []

    def slow(handle: str) -> str:
        time.sleep(1.2)
        arrived.append(1)
        return str(tmp_path)

    def broken(*_: object) -> None:
        raise BrokenPipeError("no terminal")

    monkeypatch.setattr(kagglehub, "dataset_download", slow)
    material = sources.fetch("kaggle", tmp_path / "own", images=0, seed=0, progress=broken)
    assert (material.root, arrived) == (tmp_path, [1])
    assert caplog.text.count("Progress cannot be shown") == 1


@pytest.mark.parametrize("error", [ImportError("moved"), AttributeError("renamed"), OSError("gone")])
def test_a_size_that_kagglehub_does_not_tell_does_not_stop_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    import kagglehub
    import kagglehub.cache

    def unknown(*_: object) -> str:
        raise error

    monkeypatch.setattr(kagglehub, "dataset_download", lambda handle: time.sleep(0.1) or str(tmp_path))
    monkeypatch.setattr(kagglehub.cache, "get_cached_archive_path", unknown)
    assert fetch("kaggle", tmp_path / "own").root == tmp_path


def test_an_interrupt_does_not_wait_for_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import kagglehub

    end = threading.Event()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(kagglehub, "dataset_download", lambda handle: end.wait(60) and str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        sources.fetch("kaggle", tmp_path / "own", images=0, seed=0, progress=interrupt)
    assert not end.is_set()
    end.set()


def test_a_full_disk_while_downloading_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import kagglehub

    def full(handle: str) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kagglehub, "dataset_download", full)
    with pytest.raises(WorkFailed, match=r"No space left on device\. Free some space"):
        fetch("kaggle", tmp_path / "own")
