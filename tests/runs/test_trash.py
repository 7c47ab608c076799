"""Deleting runs, and bringing them back."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr_core import process, workspace
from cxr_core.errors import AlreadyExists, BadInput, UnknownName
from cxr_core.runs import config, run_store, trash
from cxr_core.runs import status as states
from cxr_core.runs.status import Status

ONE, OTHER = "custom_cnn-z-20250101-120000-fff", "vgg16-a-20251231-235959-000"


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(workspace, "pretrained", lambda: tmp_path / "pretrained")
    return tmp_path / "pretrained"


def placed(run_id: str, *, root: Path | None = None, digest: str = "", **status: object) -> Path:
    place = (root or workspace.runs()) / run_id
    made = config.make(model="custom_cnn", recipe="paper", data="d", manifest="0" * 12, classes=("a", "b"))
    workspace.write_json(place / "config.json", config.to_document(made))
    if digest:
        workspace.write_json(place / "trunk.json", {"digest": digest})
        workspace.write_bytes(workspace.backbone(digest), b"weights")
        workspace.write_bytes(workspace.exported_backbone(f"{digest}-12345678"), b"graph")
    states.write(place, Status(**status))  # type: ignore[arg-type]
    return place


@pytest.mark.parametrize("state", [*states.ENDED, "queued"])
def test_a_run_that_is_not_running_is_deleted_and_comes_back_whole(state: states.State):
    place = placed(ONE, state=state)
    placed(OTHER)
    (place / "model.keras").write_bytes(b"x")
    trash.delete(ONE)
    assert (run_store.list_ids(), trash.list_deleted()) == ([OTHER], [ONE])
    trash.restore(ONE)
    assert (sorted(run_store.list_ids()), trash.list_deleted()) == (sorted([ONE, OTHER]), [])
    assert (place / "model.keras").read_bytes() == b"x"


def test_a_running_run_is_not_deleted():
    placed(ONE, state="running", owner=process.process_id())
    with pytest.raises(BadInput, match=f"is running. Stop it first: runs stop {ONE}"):
        trash.delete(ONE)
    assert run_store.list_ids() == [ONE]


def test_a_run_whose_process_died_is_deleted():
    placed(ONE, state="running", owner={**process.process_id(), "born": 1.0, "started": ""})
    trash.delete(ONE)
    assert run_store.list_ids() == []


def test_a_shipped_run_is_not_deleted(shipped: Path):
    place = placed(ONE, root=shipped, state="finished")
    with pytest.raises(BadInput, match="ships with the project"):
        trash.delete(ONE)
    assert (place / "status.json").is_file()


def test_what_was_never_deleted_is_not_brought_back_and_nothing_is_overwritten():
    placed(ONE, state="finished")
    with pytest.raises(UnknownName, match="deleted run"):
        trash.restore(ONE)
    with pytest.raises(UnknownName, match=f"Known: {ONE}"):
        trash.delete(OTHER)
    trash.delete(ONE)
    placed(ONE, state="failed")
    with pytest.raises(AlreadyExists):
        trash.restore(ONE)
    assert run_store.get(ONE).status.state == "failed"


def test_after_a_week_it_is_gone_for_good():
    placed(ONE, state="finished")
    trash.delete(ONE)
    old = time.time() - (trash.RETENTION_DAYS + 1) * 86400
    os.utime(workspace.deleted_run(ONE), (old, old))
    trash.purge()
    assert trash.list_deleted() == []


def test_a_backbone_goes_with_the_last_run_that_stands_on_it():
    placed(ONE, state="finished", digest="a" * 16)
    placed(OTHER, state="finished", digest="b" * 16)
    trash.delete(ONE)
    assert workspace.backbone("a" * 16).is_file()  # the run can still come back
    trash.purge(days=0)
    assert not workspace.backbone("a" * 16).exists()
    assert workspace.backbone("b" * 16).is_file()
    assert [one.stem for one in workspace.backbone("x").parent.glob("*.tflite")] == [f"{'b' * 16}-12345678"]
    assert json.loads((workspace.run(OTHER) / "trunk.json").read_bytes())["digest"] == "b" * 16


def damage_backbone_json(folder: Path) -> None:
    (folder / "trunk.json").write_bytes(b'{"digest": "aaaa')


def empty_digest(folder: Path) -> None:
    (folder / "trunk.json").write_text('{"digest": null}')


def lose_backbone_json(folder: Path) -> None:
    (folder / "trunk.json").unlink()
    (folder / "head.keras").write_bytes(b"x")


def damage_status(folder: Path) -> None:
    """It may be running, and being prepared: then its trunk is there and trunk.json is not yet."""
    (folder / "trunk.json").unlink()
    (folder / "status.json").write_bytes(b"{")


def damage_config(folder: Path) -> None:
    (folder / "trunk.json").unlink()
    (folder / "config.json").write_bytes(b"{}")


def forbid(folder: Path) -> None:
    (folder / "trunk.json").unlink()
    (folder / "trunk.json").symlink_to(folder / "trunk.json")  # a loop: reading fails, root or not
    (folder / "head.keras").write_bytes(b"x")


@pytest.mark.parametrize("where", ["kept", "deleted", "shipped"])
@pytest.mark.parametrize("harm", [damage_backbone_json, empty_digest, lose_backbone_json, forbid])
def test_no_backbone_is_deleted_while_a_run_cannot_say_which_one_it_uses(
    shipped: Path, where: str, harm: Callable[[Path], None]
):
    run = placed(ONE, root=shipped if where == "shipped" else None, state="finished", digest="a" * 16)
    unused = workspace.backbone("c" * 16)
    workspace.write_bytes(unused, b"weights")
    if where == "deleted":
        trash.delete(ONE)
        run = workspace.deleted_run(ONE)
    harm(run)
    os.utime(run, (time.time() + 60, time.time() + 60))  # deleted too short a time ago to be gone for good
    trash.purge(days=0)
    assert workspace.backbone("a" * 16).is_file()
    assert unused.is_file()


@pytest.mark.parametrize("harm", [damage_status, damage_config])
def test_no_backbone_is_deleted_while_a_run_cannot_be_read(harm: Callable[[Path], None]):
    harm(placed(ONE, state="running", owner=process.process_id(), digest="a" * 16))
    trash.purge(days=0)
    assert workspace.backbone("a" * 16).is_file()


def test_once_the_damaged_run_is_gone_for_good_its_backbone_goes_too():
    damage_backbone_json(placed(ONE, state="finished", digest="a" * 16))
    trash.delete(ONE)
    assert workspace.backbone("a" * 16).is_file()
    trash.purge(days=0)
    assert not workspace.backbone("a" * 16).exists()


def test_a_backbone_that_was_written_a_moment_ago_stays():
    """Another machine, whose clock is off, may be preparing the run that uses it."""
    workspace.write_bytes(workspace.backbone("a" * 16), b"weights")
    trash.purge()
    assert workspace.backbone("a" * 16).is_file()
    old = time.time() - (trash.RETENTION_DAYS + 1) * 86400
    os.utime(workspace.backbone("a" * 16), (old, old))
    trash.purge()
    assert not workspace.backbone("a" * 16).exists()


def test_what_a_killed_writer_left_among_the_backbones_goes_after_a_week():
    part = workspace.backbone("a" * 16).with_name(f".part-12345678.{'a' * 16}.weights.h5")
    workspace.write_bytes(part, b"half")
    trash.purge()
    assert part.is_file()  # it may be being written
    trash.purge(days=0)
    assert not part.exists()


def test_a_purge_that_meets_a_run_as_it_is_moved_away_leaves_it(monkeypatch: pytest.MonkeyPatch):
    old = time.time() - (trash.RETENTION_DAYS + 1) * 86400
    os.utime(placed(ONE, state="finished"), (old, old))
    replace = Path.replace

    def move_then_purge(path: Path, target: Path) -> Path:
        moved = replace(path, target)
        trash.purge()
        return moved

    monkeypatch.setattr(Path, "replace", move_then_purge)
    trash.delete(ONE)
    assert trash.list_deleted() == [ONE]
