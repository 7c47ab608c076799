"""Paths below the folders that visitors may open, and all others."""

import os
from pathlib import Path

import pytest

from cxr_core.data import allowed_paths
from cxr_core.errors import BadInput


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root that is named by a link."""
    folder = tmp_path / "real"
    folder.mkdir()
    (tmp_path / "root").symlink_to(folder)
    monkeypatch.setenv(allowed_paths.ROOTS, os.pathsep.join([str(tmp_path / "root"), " ", str(tmp_path / "no folder")]))
    return tmp_path / "root"


def refusal(path: str) -> str:
    with pytest.raises(BadInput) as refused:
        allowed_paths.resolve(path)
    return str(refused.value).replace(path, "PATH")


def test_roots_are_none_without_the_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(allowed_paths.ROOTS, raising=False)
    assert allowed_paths.roots() is None
    monkeypatch.setenv(allowed_paths.ROOTS, "")
    assert allowed_paths.roots() == ()


def test_what_is_below_a_root_is_resolved_whether_it_is_there_or_not(root: Path, tmp_path: Path):
    assert allowed_paths.roots() == (tmp_path / "real", tmp_path / "no folder")
    assert allowed_paths.resolve(str(root)) == tmp_path / "real"
    assert allowed_paths.resolve(f"{root}/a/../b.csv") == tmp_path / "real" / "b.csv"


def test_all_other_paths_get_the_same_sentence(root: Path, tmp_path: Path):
    (root / "circle").symlink_to(root / "circle")
    (root / "out").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    paths = (
        "/proc/self/environ",
        "/no/such/file",
        str(tmp_path / "file"),
        f"{root}/out/file",
        f"{root}/out/missing",
        f"{root}/../file",
        f"{root}/missing/../../file",
        f"{tmp_path}/real-beside",
        "~nobody-of-this-name/file",
        "file\0",
        "",
        "synthetic",
    )
    sentences = {refusal(path) for path in paths if path}
    assert sentences == {"'PATH' is not below a folder that this server opens for visitors (CXR_DATA_ROOTS)."}


def test_only_a_job_of_a_page_is_kept_from_links(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (root / "out").symlink_to(tmp_path)
    (root / "in").symlink_to(root / "missing")
    assert not allowed_paths.leads_out(root / "out")
    monkeypatch.setenv(allowed_paths.FROM_PAGE, "1")
    assert allowed_paths.leads_out(root / "out") and not allowed_paths.leads_out(root / "in")
    monkeypatch.delenv(allowed_paths.ROOTS)
    assert not allowed_paths.leads_out(root / "out")
