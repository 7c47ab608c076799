"""Progress: shown and written, and never in the way of the work."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cxr_core import workspace
from cxr_core.data import datasets
from cxr_core.data.progress import harmless, read_progress, recorded_progress
from cxr_core.errors import WorkFailed


def test_what_is_written_is_read_by_another_process(tmp_path: Path):
    assert read_progress(tmp_path) == ("Starting", 0, 0)
    seen: list[tuple] = []
    recorded_progress(tmp_path, lambda *step: seen.append(step))("Reading images", 3, 9)
    assert seen == [("Reading images", 3, 9)]
    assert read_progress(tmp_path) == ("Reading images", 3, 9)


@pytest.mark.parametrize("content", ["", "[]", "3", '["Reading", "many", null]', "{}"])
def test_a_damaged_file_reads_as_a_start(tmp_path: Path, content: str):
    (tmp_path / "progress.json").write_text(content)
    assert read_progress(tmp_path) == ("Starting", 0, 0)


def test_a_failing_progress_is_logged_once_and_tried_again(caplog: pytest.LogCaptureFixture):
    calls: list[int] = []

    def broken(stage: str, done: int, total: int) -> None:
        calls.append(done)
        raise OSError("no terminal")

    report = harmless(broken)
    for done in range(3):
        report("Reading", done, 3)
    assert calls == [0, 1, 2]
    assert caplog.text.count("Progress cannot be shown; the work continues.") == 1


def test_an_interrupt_is_no_failure_of_the_progress():
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        harmless(interrupt)("Reading", 0, 1)


def test_a_full_disk_for_the_progress_alone_does_not_stop_an_addition(
    xray_tree: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    write = workspace.write_json

    def full(path: Path, document: object) -> None:
        if path.name == "progress.json":
            raise WorkFailed("The disk is full.")
        write(path, document)

    monkeypatch.setattr(workspace, "write_json", full)
    assert datasets.add(str(xray_tree()), "small").images == 13
