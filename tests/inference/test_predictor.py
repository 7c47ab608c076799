"""The predictor: one way from pixels to probabilities, for a whole split and for a live upload."""

import dataclasses
import io
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cxr_core import images, workspace
from cxr_core.errors import BadInput, UnknownName, WorkFailed
from cxr_core.inference.predictor import BATCH, Predictor
from cxr_core.models import registry
from cxr_core.runs import config as settings
from cxr_core.runs import run_store as runs
from cxr_core.runs import status as states
from cxr_core.runs.status import Status

CLASSES = ("normal", "viral", "bacterial")
PIXELS = np.random.default_rng(1).integers(0, 256, (30, 32, 32), dtype=np.uint8)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """An untrained network whose answers differ from image to image."""
    keras.utils.set_random_seed(4)
    return registry.build("custom_cnn", classes=3, size=32, dropout=0.9)


@pytest.fixture(scope="module")
def file(network: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """`network` as it is saved."""
    path = tmp_path_factory.mktemp("network") / "model.keras"
    network.save(path)
    return path.read_bytes()


@pytest.fixture
def run_id() -> str:
    """A run without a model."""
    return runs.create(
        settings.make(
            model="custom_cnn",
            recipe="paper",
            data="small",
            manifest="0" * 12,
            classes=CLASSES,
            settings={"image_size": 32},
        )
    )


@pytest.fixture
def predictor(run_id: str, file: bytes) -> Predictor:
    return loaded(run_id, file)


def loaded(run_id: str, content: bytes) -> Predictor:
    (runs.folder(run_id) / "model.keras").write_bytes(content)
    return Predictor.load(run_id)


def test_a_predictor_knows_its_run_its_classes_and_its_size(predictor: Predictor, run_id: str):
    assert (predictor.run_id, predictor.classes, predictor.size) == (run_id, CLASSES, 32)


def test_probabilities_are_those_of_the_model_in_inference(predictor: Predictor, network: keras.Model):
    found = predictor.probabilities(PIXELS)
    assert (found.shape, found.dtype) == ((30, 3), np.float64)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found, np.asarray(network(images.to_input(PIXELS), training=False)), atol=1e-6)
    assert len({tuple(row) for row in found.round(6)}) == 30


def test_rows_come_in_the_order_in_which_they_are_asked_for(predictor: Predictor):
    every, rows = predictor.probabilities(PIXELS), np.array([7, 2, 29, 2])
    np.testing.assert_allclose(predictor.probabilities(PIXELS, rows=rows), every[rows], atol=1e-6)


def test_no_rows_are_no_probabilities(predictor: Predictor):
    assert predictor.probabilities(PIXELS, rows=np.array([], dtype=np.int64)).shape == (0, 3)
    assert predictor.probabilities(PIXELS[:0]).shape == (0, 3)


def test_a_read_only_memory_mapped_array_does(predictor: Predictor, tmp_path: Path):
    np.save(tmp_path / "packed.npy", PIXELS)
    mapped, rows = np.load(tmp_path / "packed.npy", mmap_mode="r"), np.array([5, 1])
    np.testing.assert_array_equal(
        predictor.probabilities(mapped, rows=rows), predictor.probabilities(PIXELS, rows=rows)
    )


def test_an_answer_does_not_depend_on_the_other_images_of_its_batch(predictor: Predictor):
    many = predictor.probabilities(np.tile(PIXELS, (5, 1, 1)))
    np.testing.assert_allclose(many[-30:], predictor.probabilities(PIXELS), atol=1e-6)


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, []), (1, [1]), (BATCH, [BATCH]), (2 * BATCH + 30, [BATCH, 2 * BATCH, 2 * BATCH + 30])],
)
def test_progress_is_told_after_each_batch_as_the_number_done(predictor: Predictor, count: int, told: list[int]):
    seen: list[int] = []
    predictor.probabilities(PIXELS, rows=np.arange(count) % 30, progress=seen.append)
    assert seen == told


def test_an_unknown_run_lists_the_known_ones(run_id: str):
    with pytest.raises(UnknownName, match=run_id):
        Predictor.load("other")


@pytest.mark.parametrize("state", ["queued", "failed"])
def test_a_run_without_a_model_is_refused_with_its_state(run_id: str, state: states.State):
    states.write(runs.folder(run_id), Status(state))
    with pytest.raises(BadInput, match=rf"has no model yet \({state}\)\. Choose a finished run"):
        Predictor.load(run_id)


def changed(content: bytes, name: str, member: bytes | None) -> bytes:
    """The archive `content` with another (or without the) member `name`."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(out, "w") as after:
        for one in before.namelist():
            if one != name:
                after.writestr(one, before.read(one))
        if member is not None:
            after.writestr(name, member)
    return out.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda good: b"", id="empty"),
        pytest.param(lambda good: b"no model", id="text"),
        pytest.param(lambda good: good[: len(good) // 2], id="cut in half"),
        pytest.param(lambda good: good[:-5], id="last bytes missing"),
        pytest.param(lambda good: changed(good, "config.json", None), id="no config"),
        pytest.param(lambda good: changed(good, "config.json", b"{"), id="torn config"),
        pytest.param(lambda good: changed(good, "model.weights.h5", None), id="no weights"),
        pytest.param(lambda good: changed(good, "model.weights.h5", b"\x89HDF"), id="torn weights"),
    ],
)
def test_a_damaged_model_is_told_in_words(run_id: str, file: bytes, damage: Any):
    with pytest.raises(WorkFailed, match=rf"The model of run '{run_id}' is damaged .*Train it again\."):
        loaded(run_id, damage(file))


@pytest.mark.parametrize("start", [60, 500_000], ids=["between the members", "in the weights"])
def test_a_model_with_flipped_bytes_is_told_in_words(run_id: str, file: bytes, start: int):
    torn = bytearray(file)
    torn[start : start + 400] = bytes(255 - one for one in torn[start : start + 400])
    with pytest.raises(WorkFailed, match="is damaged"):
        loaded(run_id, bytes(torn))


def test_a_shipped_run_answers_as_well(
    run_id: str, file: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
):
    loaded(run_id, file)
    shipped = tmp_path / "pretrained"
    (home / "runs").rename(shipped)
    monkeypatch.setattr(workspace, "pretrained", lambda: shipped)
    assert Predictor.load(run_id).probabilities(PIXELS[:2]).shape == (2, 3)


def test_with_mirroring_the_answer_is_the_mean_over_the_image_and_its_mirror_image(predictor: Predictor):
    plain, mirrored = predictor.probabilities(PIXELS), predictor.probabilities(PIXELS[:, :, ::-1])
    assert not np.allclose(plain, mirrored, atol=1e-4)
    both = dataclasses.replace(predictor, flip=True).probabilities(PIXELS)
    np.testing.assert_allclose(both, (plain + mirrored) / 2, atol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_a_run_mirrors_if_its_settings_say_so(run_id: str, file: bytes, flip: bool):
    document = workspace.read_json(runs.folder(run_id) / "config.json")
    workspace.write_json(runs.folder(run_id) / "config.json", {**document, "test_flip": flip})
    assert loaded(run_id, file).flip is flip


@pytest.mark.parametrize("flip", [False, True])
def test_features_that_are_known_give_the_answers_of_their_images(predictor: Predictor, flip: bool):
    """With a head that is the whole network, the features are the images themselves."""
    values = np.concatenate([images.to_input(PIXELS), images.to_input(PIXELS[:, :, ::-1])])
    places = np.stack([np.arange(30), np.full(30, 59), np.arange(30, 60)], axis=1)  # the one between is not looked at
    asked = dataclasses.replace(predictor, head=predictor.model, flip=flip)
    seen: list[int] = []
    rows = np.array([4, 29, 0])
    found = asked.of_features(values, places[rows], progress=seen.append)
    np.testing.assert_allclose(found, asked.probabilities(PIXELS, rows=rows), atol=1e-6)
    assert seen == [3]
