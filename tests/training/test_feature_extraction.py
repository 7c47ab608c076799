"""Features of a frozen trunk: right for every image and view, and never computed twice."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from cxr_core import images, workspace
from cxr_core.data import datasets, features, manifest, packing
from cxr_core.data.augment import AugmentationLimits, augmented_view
from cxr_core.errors import WorkFailed
from cxr_core.inference import export, litert_model
from cxr_core.models import weights
from cxr_core.runs import config as settings
from cxr_core.runs.config import RunConfig
from cxr_core.training import feature_extraction
from cxr_core.training.callbacks import StopRequested
from cxr_core.training.feature_extraction import ExtractedFeatures

SIZE, COUNT = 32, 13


@pytest.fixture(autouse=True)
def small(xray_tree: Any) -> None:
    """A dataset of 13 images, named `small`."""
    datasets.add(str(xray_tree()), "small")


class Counted:
    """A trunk that notes how many images each of its calls has seen."""

    def __init__(self, seed: int = 1):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((SIZE, SIZE, 3))
        x = keras.layers.Rescaling(1 / 255)(inputs)
        x = keras.layers.Conv2D(4, 5, strides=8, activation="relu")(x)
        self.model = keras.Model(inputs, x)
        self.calls: list[int] = []
        real = self.model.predict_on_batch

        def noting(batch: npt.NDArray[np.float32]) -> Any:
            self.calls.append(len(batch))
            return real(batch)

        self.model.predict_on_batch = noting

    def of(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Straight through, without any store."""
        return np.asarray(self.model(images.to_input(pixels)))


@pytest.fixture
def backbone(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """It computes itself, so that its calls can be counted."""
    monkeypatch.setattr(feature_extraction._Backbone, "_exported", lambda *_: None)
    return Counted()


def config(**changes: Any) -> RunConfig:
    return settings.make(
        model="vgg16",
        recipe="paper",
        data="small",
        manifest="0" * 12,
        classes=("normal", "viral", "bacterial"),
        settings={"image_size": SIZE, "weights": "none", "trained": "head", **changes},
    )


def table() -> tuple[packing.StackedPixels, pd.DataFrame]:
    """Pixels and rows of a manifest, as a run's work prepares them."""
    rows = manifest.rows(manifest.build("small"))
    pixels = packing.open_stacked(rows["data"].unique(), size=SIZE)
    rows["place"] = pixels.places(rows["data"], rows["row"])
    return pixels, rows


def silent(done: int, total: int) -> None:
    pass


def known(backbone: Counted, rows: pd.DataFrame | None = None, tell: Any = silent, **changes: Any) -> ExtractedFeatures:
    pixels, every = table()
    return feature_extraction.extract(
        config(**changes),
        backbone.model,
        weights.content_digest(backbone.model),
        pixels,
        every if rows is None else rows,
        tell,
    )


def seen(pixels: packing.StackedPixels, rows: pd.DataFrame) -> npt.NDArray[np.uint8]:
    return pixels[rows["place"].to_numpy()]


def check(found: ExtractedFeatures, column: int, expected: npt.NDArray[np.float32]) -> None:
    np.testing.assert_allclose(found.values[found.places[:, column]], expected, atol=1e-6)


def test_features_are_those_of_a_direct_pass_and_each_image_its_own(backbone: Counted):
    pixels, rows = table()
    found = known(backbone)
    assert found.places.shape == (COUNT, 1)
    direct = backbone.of(seen(pixels, rows))
    check(found, 0, direct)
    assert len({one.tobytes() for one in direct}) == COUNT


def test_on_a_processor_the_export_of_a_backbone_does_the_work_and_says_the_same():
    backbone = Counted()
    found = known(backbone)
    assert backbone.calls == [1, 1]  # an empty image before the export, a real one to see that both say the same
    pixels, rows = table()
    check(found, 0, backbone.of(seen(pixels, rows)))
    assert litert_model.backbone_of(config(), weights.content_digest(backbone.model)).is_file()


def test_an_export_that_says_something_else_is_not_used():
    backbone, other = Counted(), Counted(seed=2)
    export.write(other.model, litert_model.backbone_of(config(), weights.content_digest(backbone.model)))
    found = known(backbone)
    pixels, rows = table()
    check(found, 0, backbone.of(seen(pixels, rows)))


def test_a_second_run_computes_nothing(backbone: Counted):
    first = known(backbone)
    assert sum(backbone.calls) == COUNT
    again = Counted()
    second = known(again)
    assert again.calls == []
    check(second, 0, first.values[first.places[:, 0]])


@pytest.mark.parametrize("seed", [1, 2])
def test_another_split_of_the_same_images_computes_nothing(backbone: Counted, seed: int):
    known(backbone)
    backbone.calls.clear()
    pixels, rows = table()
    rng = np.random.default_rng(seed)
    rows = rows.sample(frac=1, random_state=seed).reset_index(drop=True)
    rows["split"] = rng.choice(["train", "val", "test"], COUNT)
    check(known(backbone, rows), 0, backbone.of(seen(pixels, rows)))
    assert backbone.calls == []


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 7},
        {"learning_rate": 0.01},
        {"epochs": 3},
        {"batch_size": 7},
        {"head": "average"},
        {"dropout": 0.5},
        {"rotation": 30},
        {"test_flip": False},
    ],
)
def test_settings_that_do_not_reach_the_backbone_compute_nothing(backbone: Counted, changes: dict[str, Any]):
    known(backbone)
    backbone.calls.clear()
    known(backbone, **changes)
    assert backbone.calls == []


def test_another_backbone_has_features_of_its_own(backbone: Counted):
    known(backbone)
    other = Counted(seed=2)
    pixels, rows = table()
    check(known(other), 0, other.of(seen(pixels, rows)))
    assert sum(other.calls) == COUNT
    assert len(features.list_stores()) == 2


def test_only_images_that_are_new_are_computed(backbone: Counted):
    pixels, rows = table()
    known(backbone, rows.iloc[3:9].reset_index(drop=True))
    assert backbone.calls == [6]
    backbone.calls.clear()
    check(known(backbone), 0, backbone.of(seen(pixels, rows)))
    assert backbone.calls == [COUNT - 6]


def test_an_image_that_is_there_twice_is_computed_once(backbone: Counted):
    pixels, rows = table()
    twice = pd.concat([rows, rows.iloc[::-1]], ignore_index=True)
    found = known(backbone, twice)
    assert backbone.calls == [COUNT]
    check(found, 0, backbone.of(seen(pixels, twice)))


def test_a_batch_is_no_larger_than_it_should_be(backbone: Counted, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feature_extraction, "BATCH", 5)
    known(backbone)
    assert backbone.calls == [5, 5, 3]


def test_a_stop_in_the_middle_keeps_what_was_made(backbone: Counted, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feature_extraction, "BATCH", 4)

    def stopping(done: int, total: int) -> None:
        if done >= 8:
            raise StopRequested

    with pytest.raises(StopRequested):
        known(backbone, tell=stopping)
    assert backbone.calls == [4, 4]
    assert [one.images for one in features.list_stores()] == [8]
    backbone.calls.clear()
    pixels, rows = table()
    check(known(backbone), 0, backbone.of(seen(pixels, rows)))
    assert backbone.calls == [4, 1]


def test_progress_counts_images_up_to_all_of_them(backbone: Counted, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feature_extraction, "BATCH", 5)
    told: list[tuple[int, int]] = []
    known(backbone, table()[1].iloc[:4].reset_index(drop=True))
    known(backbone, tell=lambda done, total: told.append((done, total)))
    assert told == [(0, COUNT), (4, COUNT), (9, COUNT), (COUNT, COUNT)]  # checked what was there, then made the rest


def test_changed_views_are_made_of_training_images_only(backbone: Counted):
    pixels, rows = table()
    found = known(backbone, views=2)
    training = (rows["split"] == "train").to_numpy()
    assert 0 < training.sum() < COUNT
    assert found.places.shape == (COUNT, 3)
    check(found, 0, backbone.of(seen(pixels, rows)))
    assert (found.places[~training] == found.places[~training, :1]).all()
    assert sum(backbone.calls) == COUNT + 2 * training.sum()
    limits = AugmentationLimits.of(config())
    sha256 = rows["sha256"].tolist()
    for row in np.flatnonzero(training):
        for number, seed in enumerate(features.view_seeds(sha256[row], 2), start=1):
            changed = augmented_view(seen(pixels, rows)[row], seed, limits)
            own = found.values[found.places[row, number]]
            np.testing.assert_allclose(own, backbone.of(changed[None])[0], atol=1e-6)
            assert not np.allclose(own, found.values[found.places[row, 0]], atol=1e-3)


def test_more_views_compute_only_the_new_ones_and_other_limits_only_the_changed_ones(backbone: Counted):
    training = int((table()[1]["split"] == "train").sum())
    known(backbone, views=1)
    backbone.calls.clear()
    known(backbone, views=3)
    assert sum(backbone.calls) == 2 * training
    backbone.calls.clear()
    pixels, rows = table()
    found = known(backbone, views=3, rotation=30)
    assert sum(backbone.calls) == 3 * training
    row = int(np.flatnonzero(rows["split"] == "train")[0])
    seed = features.view_seeds(rows["sha256"].iloc[row], 1)[0]
    changed = augmented_view(seen(pixels, rows)[row], seed, replace(AugmentationLimits.of(config()), rotation=30.0))
    np.testing.assert_allclose(found.values[found.places[row, 1]], backbone.of(changed[None])[0], atol=1e-6)


def test_with_test_flip_the_last_view_is_the_mirrored_image(backbone: Counted):
    pixels, rows = table()
    found = known(backbone, test_flip=True)
    assert found.places.shape == (COUNT, 2)
    check(found, 0, backbone.of(seen(pixels, rows)))
    check(found, 1, backbone.of(seen(pixels, rows)[:, :, ::-1]))
    both = known(backbone, test_flip=True, views=2)
    assert both.places.shape == (COUNT, 4)
    np.testing.assert_array_equal(both.places[:, 3], found.places[:, 1])


def test_a_view_that_the_manifest_asks_for_is_the_first_with_its_usual_limits(backbone: Counted):
    pixels, rows = table()
    rows.loc[2, "view"] = 77
    found = known(backbone, rows, rotation=40, views=1)
    expected = seen(pixels, rows)
    expected[2] = augmented_view(expected[2], 77)
    check(found, 0, backbone.of(expected))


def test_two_trainings_at_once_compute_everything_once(backbone: Counted, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feature_extraction, "BATCH", 2)
    other = Counted()
    pixels, rows = table()
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(known, one) for one in (backbone, other)]
    for one in made:
        check(one.result(), 0, backbone.of(seen(pixels, rows)))
    assert sum(backbone.calls) + sum(other.calls) == COUNT


def test_a_full_disk_is_told_before_the_first_image(backbone: Counted, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(features.shutil, "disk_usage", lambda place: SimpleNamespace(free=0))
    with pytest.raises(WorkFailed, match="The features of 13 images need"):
        known(backbone)
    assert backbone.calls == []


def test_what_is_there_needs_no_free_disk(backbone: Counted, monkeypatch: pytest.MonkeyPatch):
    known(backbone)
    monkeypatch.setattr(features.shutil, "disk_usage", lambda place: SimpleNamespace(free=0))
    known(backbone)


def test_a_backbone_is_laid_down_under_the_name_of_its_content(backbone: Counted, home: Path):
    name = feature_extraction.save_backbone(backbone.model)
    path = workspace.backbone(name)
    assert path == home / "trunks" / f"{name}.weights.h5"
    other = Counted(seed=2)
    assert feature_extraction.save_backbone(other.model) != name
    assert len(list((home / "trunks").iterdir())) == 2
    other.model.load_weights(path)
    assert weights.content_digest(other.model) == name


def test_a_damaged_backbone_is_laid_down_anew(backbone: Counted, home: Path):
    path = workspace.backbone(feature_extraction.save_backbone(backbone.model))
    path.write_bytes(b"damaged")
    name = feature_extraction.save_backbone(Counted().model)
    assert [one.name for one in (home / "trunks").iterdir()] == [path.name]
    other = Counted(seed=2)
    other.model.load_weights(path)
    assert weights.content_digest(other.model) == name


def test_a_backbone_that_breaks_off_while_it_is_laid_down_is_not_taken_for_whole(
    backbone: Counted, monkeypatch: pytest.MonkeyPatch
):
    def half(path: Path) -> None:
        path.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as during:
        during.setattr(backbone.model, "save_weights", half)
        with pytest.raises(WorkFailed, match="No space left"):
            feature_extraction.save_backbone(backbone.model)
    assert not workspace.backbone(weights.content_digest(backbone.model)).exists()
    again = Counted(seed=2)
    again.model.load_weights(workspace.backbone(feature_extraction.save_backbone(backbone.model)))
    assert weights.content_digest(again.model) == weights.content_digest(backbone.model)


@pytest.mark.parametrize(
    "changes", [{"trained": "last_block"}, {"scaling": "unit"}, {"image_size": 64}], ids=lambda one: next(iter(one))
)
def test_what_features_depend_on_is_written_beside_them(backbone: Counted, changes: dict[str, Any]):
    digest = weights.content_digest(backbone.model)
    plain, other = litert_model.about_backbone(config(), digest), litert_model.about_backbone(config(**changes), digest)
    assert plain != other
    assert plain == {
        "model": "vgg16",
        "digest": digest,
        "trained": "head",
        "scaling": "own",
        "size": SIZE,
    }


def test_the_same_weights_from_another_place_find_their_features(backbone: Counted, tmp_path: Path):
    """The store knows a trunk by its content, and notes where the weights came from for people."""
    known(backbone)
    copy = tmp_path / "copy.weights.h5"
    copy.touch()
    backbone.calls.clear()
    known(backbone, weights=str(copy))
    assert backbone.calls == []
    (kept,) = features.list_stores()
    assert kept.about["weights"] == "none"
