"""Files that ship of a run: metrics, tables and network, but nothing of the machine that trained it."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cxr_core import cli
from cxr_core.errors import AlreadyExists, BadInput, DamagedFile, UnknownName
from cxr_core.inference.litert_model import Graph, LiteRTModel
from cxr_core.runs import bundle
from cxr_core.runs import run_store as runs


@pytest.fixture(autouse=True)
def pretrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "pretrained"
    monkeypatch.setenv("CXR_PRETRAINED", str(place))
    return place


def test_a_shipped_run_answers_from_its_new_place(trained_home: Path, pretrained: Path):
    run_id = runs.list_ids()[0]
    before = runs.get(run_id)
    target = bundle.add_to_bundle(run_id, "Ours")
    (trained_home / "runs" / run_id / "status.json").unlink()
    run = runs.get(run_id)
    assert run.folder == target == pretrained / run_id
    assert (run.name, run.metrics, run.config) == ("Ours", before.metrics, before.config)
    assert run.status.state == "finished" and run.status.owner is None
    assert run.has_model and runs.predictions_path(run_id, "test").is_file()
    assert not (target / "log.txt").exists() and not (target / "checkpoint").exists()
    assert json.loads((target / "export" / "about.json").read_bytes())


@pytest.mark.usefixtures("trained_home")
def test_its_exported_network_ships_compressed_answers_the_same_and_is_verified():
    run_id = runs.list_ids()[0]
    own = runs.get(run_id)
    pixels = np.random.default_rng(0).integers(
        0, 256, (3, own.config.image_size, own.config.image_size), dtype=np.uint8
    )
    expected = LiteRTModel.load(own).probabilities(pixels)
    target = bundle.add_to_bundle(run_id, "Ours")
    shutil.rmtree(own.folder)
    packed = target / "export" / "part.tflite.gz"
    assert packed.is_file() and not packed.with_suffix("").exists()
    np.testing.assert_array_equal(LiteRTModel.load(runs.get(run_id)).probabilities(pixels), expected)
    whole = packed.read_bytes()
    for damaged in (whole[:-9], whole[:500] + b"!" + whole[501:], b"no gzip"):
        packed.write_bytes(damaged)
        with pytest.raises(DamagedFile, match=r"part\.tflite\.gz is damaged"):
            LiteRTModel.load(runs.get(run_id))


def test_a_graph_that_is_compressed_badly_is_damaged(tmp_path: Path):
    path = tmp_path / "part.tflite.gz"
    for content in (b"", b"no gzip", gzip.compress(b"no graph"), gzip.compress(bytes(10_000))[:-4]):
        path.write_bytes(content)
        with pytest.raises(DamagedFile, match=r"part\.tflite\.gz is damaged"):
            Graph(path)


def test_it_ships_once(trained_home: Path, pretrained: Path):
    run_id = runs.list_ids()[0]
    bundle.add_to_bundle(run_id, "Ours")
    with pytest.raises(AlreadyExists, match="ships already"):
        bundle.add_to_bundle(run_id, "Ours")
    assert [one.name for one in pretrained.iterdir()] == [run_id]


def test_what_is_not_finished_does_not_ship(trained_home: Path, pretrained: Path):
    run_id = runs.list_ids()[0]
    place = trained_home / "runs" / run_id / "status.json"
    place.write_text(place.read_text().replace('"finished"', '"stopped"'))
    with pytest.raises(BadInput, match="is stopped"):
        bundle.add_to_bundle(run_id, "Ours")
    with pytest.raises(UnknownName):
        bundle.add_to_bundle("nobody", "Ours")
    assert not pretrained.exists()


@pytest.mark.usefixtures("trained_home")
def test_by_command(pretrained: Path, capsys: pytest.CaptureFixture[str]):
    run_id = runs.list_ids()[0]
    assert cli.main(["runs", "ship", run_id, "--name", "Ours"]) == 0
    assert (pretrained / run_id / "config.json").is_file()
    assert str(pretrained) in capsys.readouterr().err
