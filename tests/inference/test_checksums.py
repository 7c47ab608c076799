"""A file that a model answers by and that is not what was written: a sentence, never another answer."""

import io
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxr_core import checksums, images, workspace
from cxr_core.errors import BadInput, CxrError, DamagedFile, WorkFailed
from cxr_core.evaluation import ensembles, rule_store
from cxr_core.inference import litert_model, model_cache, predict
from cxr_core.inference.head import Head
from cxr_core.inference.input_check.checks import InputCheck
from cxr_core.inference.litert_model import LiteRTModel
from cxr_core.runs import bundle
from cxr_core.runs import run_store as runs
from tests.conftest import PROJECT

SHIPPED = next((PROJECT / "artifacts" / "pretrained").glob("custom_cnn-*"))
RUN = SHIPPED.name
PIXELS = images.prepare(np.random.default_rng(0).integers(0, 256, (9, 9), dtype=np.uint8), 128)[None]


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shipped run that the test may change; returns its folder."""
    monkeypatch.setattr(model_cache, "_CACHE", model_cache.ModelCache())
    monkeypatch.setenv("CXR_PRETRAINED", str(tmp_path / "pretrained"))
    return shutil.copytree(SHIPPED, tmp_path / "pretrained" / RUN)


@pytest.fixture
def own(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same as a run of a person's home."""
    monkeypatch.setattr(model_cache, "_CACHE", model_cache.ModelCache())
    return shutil.copytree(SHIPPED, home / "runs" / RUN)


def change_json(path: Path, change: Callable[[dict], object]) -> None:
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))


def change_arrays(path: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """As no damage of a disk could: whole archives with other values, and the checksum that they had."""
    with np.load(path) as file:
        arrays = {name: file[name].copy() for name in file.files}
    change(arrays)
    out = io.BytesIO()
    np.savez(out, **arrays)
    path.write_bytes(out.getvalue())


def without_checksums(folder: Path) -> None:
    """As an earlier version has written them."""
    for name in ("export/about.json", "decision_rule.json"):
        change_json(
            folder / name, lambda document: [document.pop(key, None) for key in (checksums.KEY, "files", "answers")]
        )
    for name in ("export/head.npz", "input_check.npz"):
        change_arrays(folder / name, lambda arrays: arrays.pop(checksums.KEY))


def test_of_25_networks_with_20_changed_bytes_none_answers(shipped: Path) -> None:
    path, rng = shipped / "export" / "part.tflite", random.Random(2110)
    whole = path.read_bytes()
    assert np.isfinite(LiteRTModel.load(runs.get(RUN)).probabilities(PIXELS)).all()
    for _ in range(25):
        content = bytearray(whole)
        for position in rng.sample(range(len(whole)), 20):
            content[position] ^= rng.randrange(1, 256)
        path.write_bytes(content)
        with pytest.raises(DamagedFile, match=r"part.tflite is damaged .* restore it from there"):
            predict.load(RUN)
    path.write_bytes(whole)
    predict.load(RUN)  # at once


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("export/head.npz", lambda arrays: arrays["weights0"].__setitem__((0, 0), arrays["weights0"][0, 0] + 1)),
        ("export/head.npz", lambda arrays: arrays.__setitem__("averaged", ~arrays["averaged"])),
        ("export/about.json", lambda document: document.__setitem__("part", False)),
        ("decision_rule.json", lambda document: document.__setitem__("threshold", document["threshold"] / 2)),
        ("decision_rule.json", lambda document: document.__setitem__("temperature", 1.0)),
    ],
)
def test_no_changed_value_changes_an_answer(shipped: Path, name: str, change: Callable[[dict], object]) -> None:
    (change_json if name.endswith("json") else change_arrays)(shipped / name, change)
    with pytest.raises(DamagedFile, match="damaged"):
        predict.load(RUN)


def test_a_changed_input_check_is_told_and_checks_nothing(shipped: Path) -> None:
    change_arrays(
        shipped / "input_check.npz", lambda arrays: arrays["limits"].__setitem__(0, arrays["limits"][0] + 0.1)
    )
    model = predict.load(RUN)
    assert model.checks == () and "is missing or damaged" in model.notice


@pytest.mark.parametrize(
    ("key", "value"),
    [("classes", ["bacterial", "viral", "normal"]), ("image_size", 96), ("test_flip", False)],
)
def test_another_configuration_gives_no_answer(own: Path, key: str, value: object) -> None:
    change_json(own / "config.json", lambda document: document.__setitem__(key, value))
    with pytest.raises(WorkFailed, match=r"config.json has changed since .* is meant: python -m cxr_core export"):
        model_cache.get(runs.get(RUN))
    assert (own / "export" / "part.tflite").is_file()


def test_what_is_damaged_of_ones_own_is_made_again_and_what_cannot_be_read_is_not_deleted(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own / "export" / "part.tflite"
    whole = path.read_bytes()
    path.write_bytes(bytes(100) + whole[100:])

    def export(run: runs.Run) -> None:
        assert not path.exists()
        shutil.copytree(SHIPPED / "export", own / "export", dirs_exist_ok=True)

    monkeypatch.setattr(model_cache, "_export", export)
    assert model_cache.get(runs.get(RUN)).probabilities(PIXELS).shape == (1, 3)
    model_cache.clear()

    def out_of_descriptors(_: Path) -> bytes:
        raise WorkFailed("It could not be read (Too many open files).")

    monkeypatch.setattr(workspace, "read_bytes", out_of_descriptors)
    with pytest.raises(WorkFailed, match="Too many open files"):
        model_cache.get(runs.get(RUN))
    assert path.read_bytes() == whole


def test_a_run_of_an_earlier_version_answers_as_it_did(own: Path) -> None:
    expected = predict.load(RUN)
    without_checksums(own)
    model_cache.clear()
    model = predict.load(RUN)
    given, before = (each.members[0].probabilities(PIXELS) for each in (model, expected))
    np.testing.assert_array_equal(given, before)
    assert (model.rule, model.notice) == (expected.rule, expected.notice)


def test_what_has_no_checksum_does_not_ship(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_PRETRAINED", str(tmp_path / "pretrained"))
    rule_store.seal(RUN)
    sealed = (own / "decision_rule.json").read_bytes()
    without_checksums(own)
    with pytest.raises(BadInput, match=r"about.json has none.*`export`"):
        bundle.add_to_bundle(RUN, "Ours")
    rule_store.seal(RUN)
    assert (own / "decision_rule.json").read_bytes() == sealed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_no_answer(shipped: Path, value: float) -> None:
    model = LiteRTModel.load(runs.get(RUN))
    weights = (np.full_like(model.head.weights[0], value), *model.head.weights[1:])
    broken = replace(model, head=Head(model.head.averaged, weights, model.head.biases))
    with np.errstate(all="ignore"):
        for ask in (lambda: broken.probabilities(PIXELS), lambda: broken.attribution(PIXELS[0], 0)):
            with pytest.raises(WorkFailed, match="gives no number for an image"):
                ask()


def test_an_ensemble_answers_by_the_members_it_was_made_of(own: Path) -> None:
    other = own.with_name(f"{RUN[:-3]}fff")
    shutil.copytree(own, other)
    made = ensembles.create([RUN, other.name])
    path = runs.folder(made) / "ensemble.json"
    assert checksums.is_sealed(path) and len(predict.load(made).members) == 2
    whole = path.read_bytes()
    change_json(path, lambda document: document.__setitem__("weights", [0.4, 0.6]))
    with pytest.raises(DamagedFile, match=r"ensemble.json is damaged"):
        predict.load(made)
    path.write_bytes(whole)
    model = other / "model.keras"
    model.write_bytes(model.read_bytes() + b"trained again")
    with pytest.raises(WorkFailed, match=f"'{other.name}' has another model than when the ensemble"):
        predict.load(made)
    document = {name: value for name, value in json.loads(whole).items() if name not in ("models", checksums.KEY)}
    path.write_text(json.dumps(document))  # of an earlier version
    assert ensembles.of_run(made) is not None


def test_a_backbone_has_its_checksum_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "trunks" / "a-b.tflite"
    path.parent.mkdir()
    shutil.copyfile(SHIPPED / "export" / "part.tflite", path)
    assert not litert_model.is_sound(path)
    litert_model.checksum_path(path).write_text(checksums.of_bytes(path.read_bytes()))
    assert litert_model.is_sound(path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert not litert_model.is_sound(path)


@pytest.mark.parametrize("run", sorted(SHIPPED.parent.glob("*/config.json")), ids=lambda path: path.parent.name)
def test_all_that_ships_is_sealed_and_sound(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails: `python -m cxr_core export RUN` the run that was shipped, `calibrate` it, and ship it again."""
    monkeypatch.setenv("CXR_PRETRAINED", str(SHIPPED.parent))
    folder = run.parent
    about = folder / "export" / "about.json"
    for path in (about, *folder.glob("export/*.npz"), *folder.glob("*.npz"), *folder.glob("decision_rule.json")):
        assert checksums.is_sealed(path), path
    for path in folder.glob("ensemble.json"):
        assert checksums.is_sealed(path), path
    if not (folder / "ensemble.json").is_file():
        document = checksums.unseal(workspace.read_json(about))
        for path in folder.glob("export/*.tflite*"):
            assert document["files"][path.name] == checksums.of_bytes(path.read_bytes())
        assert document["answers"] == litert_model.answers_by(runs.get(folder.name).config)
        Head.load(folder / "export" / "head.npz")
        InputCheck.load(folder / "input_check.npz")
    assert rule_store.saved(folder.name) is not None


def test_a_checksum_covers_names_shapes_and_order() -> None:
    document = checksums.seal({"b": [1, 2.5, "x"], "a": None})
    assert checksums.unseal(json.loads(json.dumps(document))) == {"b": [1, 2.5, "x"], "a": None}
    assert checksums.seal(document) == document and checksums.unseal({"a": 1}) == {"a": 1}
    with pytest.raises(ValueError, match="not what was written"):
        checksums.unseal({**document, "c": 1})
    arrays = {"x": np.arange(6).reshape(2, 3)}
    content = checksums.write_archive(arrays, compressed=True)
    np.testing.assert_array_equal(checksums.read_archive(content)["x"], arrays["x"])
    with np.load(io.BytesIO(content)) as file:
        reshaped = {checksums.KEY: file[checksums.KEY], "x": file["x"].reshape(3, 2)}
    out = io.BytesIO()
    np.savez(out, **reshaped)
    with pytest.raises(ValueError, match="not what was written"):
        checksums.read_archive(out.getvalue())
    assert issubclass(DamagedFile, CxrError)
