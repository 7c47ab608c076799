"""The workspace: where things live, which names are safe, and files that are written whole or not at all."""

import json
import os
from pathlib import Path

import pytest

from cxr_core import process, workspace
from cxr_core.errors import BadInput, WorkFailed


def test_everything_lives_below_cxr_home(home: Path):
    assert workspace.home() == home.resolve()
    assert workspace.dataset("a") == home / "datasets" / "a"
    assert workspace.staging("a") == home / "datasets" / ".adding" / "a"
    assert workspace.staging() == home / "datasets" / ".adding"
    assert workspace.run("r") == home / "runs" / "r"


def test_without_cxr_home_the_workspace_is_artifacts_beside_the_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CXR_HOME")
    assert workspace.home() == Path(workspace.__file__).resolve().parent.parent / "artifacts"


def test_installed_by_pip_the_workspace_is_the_users_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(workspace, "_is_clone", lambda: False)
    for variable in ("CXR_HOME", "CXR_PRETRAINED", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert workspace.home() == tmp_path / ".local" / "share" / "cxr-workbench"
    assert workspace.pretrained() == Path(workspace.__file__).parent / "pretrained"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert workspace.home() == tmp_path / "data" / "cxr-workbench"


def test_cxr_home_may_start_with_a_tilde_or_be_relative(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CXR_HOME", "~/there")
    assert workspace.home() == tmp_path.resolve() / "there"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXR_HOME", "here")
    assert workspace.home() == tmp_path.resolve() / "here"


def test_shipped_runs_stay_in_the_project_wherever_cxr_home_points(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CXR_PRETRAINED")
    assert workspace.pretrained() == workspace.PROJECT / "artifacts" / "pretrained"


def test_asking_for_a_place_makes_nothing(home: Path):
    workspace.dataset("a"), workspace.staging(), workspace.runs(), workspace.list_dirs(workspace.datasets())
    assert not home.exists()


@pytest.mark.parametrize("name", ["a", "A", "0", "chest_xray-224.v2", "a" * 80])
def test_safe_names_are_taken(name: str):
    assert workspace.validate_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "-a", "_a", "a/b", "a\\b", "a b", "ä", "a\n", "a\0", "../a", "/a", "C:", "a" * 81],
)
def test_names_that_are_no_safe_folder_are_refused_with_the_rule_and_the_name(name: str):
    with pytest.raises(BadInput, match=r"1 to 80 letters, digits, dots, dashes or underscores .* Received: ") as caught:
        workspace.validate_name(name)
    assert name[:80] in str(caught.value)


@pytest.mark.parametrize("place", [workspace.dataset, workspace.run, workspace.staging])
def test_no_place_lies_outside_the_workspace(place):
    with pytest.raises(BadInput):
        place("../../etc")


def test_written_bytes_are_there_whole_with_the_folders_above_them(tmp_path: Path):
    target = tmp_path / "a" / "b" / "c.bin"
    workspace.write_bytes(target, b"one")
    workspace.write_bytes(target, b"two")
    assert target.read_bytes() == b"two"
    assert [one.name for one in target.parent.iterdir()] == ["c.bin"]


def test_a_write_that_fails_keeps_the_old_content_and_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = tmp_path / "c.bin"
    workspace.write_bytes(target, b"old")

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as out:
            out.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(WorkFailed, match=r"Could not write .*c\.bin: No space left on device\."):
        workspace.write_bytes(target, b"new")
    assert target.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["c.bin"]


def test_a_folder_that_cannot_be_made_is_told_in_words(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WorkFailed, match="Could not write"):
        workspace.write_bytes(tmp_path / "file" / "below", b"x")


@pytest.mark.parametrize("only_writer", [True, False])
def test_what_is_being_written_is_hidden_and_keeps_its_suffixes(tmp_path: Path, only_writer: bool):
    target = tmp_path / "below" / "a.weights.h5"
    with workspace.replacing(target, only_writer=only_writer) as part:
        part.write_bytes(b"new")
        assert part.parent == target.parent
        assert part.name.startswith(".")
        assert part.name.endswith(".a.weights.h5")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert [path.name for path in target.parent.iterdir()] == ["a.weights.h5"]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path):
    with workspace.replacing(tmp_path / "a") as first, workspace.replacing(tmp_path / "a") as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert (tmp_path / "a").read_bytes() == b"first"  # the last one to be done
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_only_writer_overwrites_what_a_killed_one_left(tmp_path: Path):
    with workspace.replacing(tmp_path / "a", only_writer=True) as part:
        left = part
        part.write_bytes(b"whole")
    left.write_bytes(b"half")
    with workspace.replacing(tmp_path / "a", only_writer=True) as part:
        part.write_bytes(b"next")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("error", [KeyError("bug"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_error_while_writing_leaves_the_old_content_and_nothing_else(tmp_path: Path, error: BaseException):
    target = tmp_path / "a"
    target.write_bytes(b"old")
    expected = WorkFailed if isinstance(error, OSError) else type(error)
    with pytest.raises(expected) as caught, workspace.replacing(target) as part:
        part.write_bytes(b"half")
        raise error
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert error in (caught.value, caught.value.__cause__)  # whoever handles it can tell a full disk


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path):
    def write(content: bytes | None) -> None:
        with workspace.replacing(tmp_path / "folder") as part:
            part.mkdir()
            (part / "a").write_bytes(b"a")
            if content is None:
                raise OSError(28, "No space left on device")
            (part / "b").write_bytes(content)

    with pytest.raises(WorkFailed, match="No space left"):
        write(None)
    assert list(tmp_path.iterdir()) == []
    write(b"b")
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["a", "b"]


def test_with_sync_the_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append((tmp_path / "a").exists()))
    with workspace.replacing(tmp_path / "a", sync=True) as part:
        part.write_bytes(b"x")
    assert seen == [False]


def test_the_fingerprint_changes_with_every_change_of_the_files_and_only_then(tmp_path: Path):
    path, other = tmp_path / "a", tmp_path / "b"
    states = [workspace.fingerprint(path, other)]
    assert states == [(None, None)]

    def changed() -> bool:
        states.append(workspace.fingerprint(path, str(other)))
        return states[-1] not in states[:-1]

    for content in (b"1", b"2", b"12"):
        workspace.write_bytes(path, content)
        assert changed()
    with path.open("ab") as out:
        out.write(b"3")
    assert changed()
    other.write_bytes(b"")
    assert changed()
    path.unlink()
    assert changed()
    assert not changed()
    assert workspace.fingerprint(other / "below") == (None,)
    hash(states[-1])


def test_json_comes_back_as_it_was_written(tmp_path: Path):
    document = {"a": [1, 2.5, None, True], "b": "Röntgen"}
    workspace.write_json(tmp_path / "d.json", document)
    assert workspace.read_json(tmp_path / "d.json") == document


def test_nan_is_refused_since_it_is_no_json_and_nothing_is_written(tmp_path: Path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        workspace.write_json(tmp_path / "d.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"\x00" * 40, b"\xff\xfe", b'{"a": 1}}'])
def test_damaged_json_is_told_in_words_with_its_path(tmp_path: Path, content: bytes):
    (tmp_path / "d.json").write_bytes(content)
    with pytest.raises(WorkFailed, match=r"d\.json is damaged: it is not valid JSON\. Restore it from a backup\."):
        workspace.read_json(tmp_path / "d.json")


def test_a_missing_json_file_is_file_not_found(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        workspace.read_json(tmp_path / "none.json")


def test_names_in_a_folder_are_its_visible_subfolders_sorted(tmp_path: Path):
    for name in ("b", "a", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text(json.dumps(1))
    assert workspace.list_dirs(tmp_path) == ["a", "b"]
    assert workspace.list_dirs(tmp_path / "none") == []


def test_there_is_at_least_one_core():
    assert process.cpu_count() >= 1
