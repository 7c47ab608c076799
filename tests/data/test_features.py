"""The store of features: it only grows, survives what a kill leaves half, and is shared by all that ask for the same."""

import multiprocessing
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cxr_core import workspace
from cxr_core.data import features
from cxr_core.data.augment import AugmentationLimits, augmented_view
from cxr_core.data.features import AS_IT_IS, MIRRORED, FeatureStore, Keys, Values
from cxr_core.errors import WorkFailed

ABOUT = {"model": "vgg16", "digest": "0" * 16, "size": 32}
SHAPE = (2, 2, 3)
ITEM = 4 * 2 * 2 * 3


def names(numbers: Sequence[int]) -> list[str]:
    return [sha256(str(one).encode()).hexdigest() for one in numbers]


def keys(*numbers: int) -> Keys:
    return features.keys(names(numbers), [AS_IT_IS] * len(numbers))


def maps(*numbers: int) -> Values:
    """float32 (n, 2, 2, 3): the features of image i are i and more."""
    made = [np.arange(12, dtype=np.float32).reshape(SHAPE) + 100 * one for one in numbers]
    return np.stack(made) if made else np.empty((0, *SHAPE), np.float32)


@pytest.fixture
def store() -> FeatureStore:
    return FeatureStore.of(ABOUT, SHAPE)


def fill(store: FeatureStore, *numbers: int) -> None:
    with store.turn():
        store.append(keys(*numbers), maps(*numbers))


def check(store: FeatureStore, *numbers: int) -> None:
    """The store holds the right features for all these, and nothing else."""
    assert len(store) == len(numbers)
    places = store.places(keys(*numbers))
    assert sorted(places) == list(range(len(numbers)))
    np.testing.assert_array_equal(store.values()[places], maps(*numbers))


def test_an_empty_store_has_nothing(store: FeatureStore):
    assert len(store) == 0
    assert store.places(keys(1, 2)).tolist() == [-1, -1]
    assert store.values().shape == (0, *SHAPE)


def test_what_was_added_is_found_by_its_key_in_any_order(store: FeatureStore):
    fill(store, 5, 6, 7)
    fill(store, 8)
    check(store, 5, 6, 7, 8)
    assert store.places(keys(8, 1, 5)).tolist() == [3, -1, 0]
    assert (store.values().dtype, store.values().shape) == (np.float32, (4, *SHAPE))


def test_values_are_mapped_and_cannot_be_written_to(store: FeatureStore):
    fill(store, 1)
    values = store.values()
    assert isinstance(values, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 0


def test_features_in_another_memory_order_are_written_as_they_are(store: FeatureStore):
    with store.turn():
        store.append(keys(1, 2)[::-1], np.asfortranarray(maps(2, 1)))
    check(store, 1, 2)


def test_the_same_description_is_the_same_store_and_another_is_not(store: FeatureStore):
    fill(store, 1)
    check(FeatureStore.of(dict(reversed(ABOUT.items())), list(SHAPE)), 1)
    for other in (FeatureStore.of({**ABOUT, "size": 64}, SHAPE), FeatureStore.of(ABOUT, (2, 2, 4))):
        assert other.folder != store.folder
        assert len(other) == 0
    assert workspace.read_json(store.folder / "about.json") == {**ABOUT, "shape": list(SHAPE)}


@pytest.mark.parametrize(
    ("name", "left", "whole"),
    [
        ("values.f32", 3 * ITEM - 1, 2),  # the last map lacks a byte
        ("values.f32", 2 * ITEM + 7, 2),
        ("values.f32", 1 * ITEM, 1),
        ("values.f32", 0, 0),
        ("entries.bin", 3 * 44 - 1, 2),
        ("entries.bin", 2 * 44 + 13, 2),
        ("entries.bin", 5, 0),
        ("entries.bin", 0, 0),
    ],
)
def test_a_torn_file_loses_only_what_was_torn_and_is_mended_by_the_next(
    store: FeatureStore, name: str, left: int, whole: int
):
    fill(store, 1, 2, 3)
    os.truncate(store.folder / name, left)
    check(store, *(1, 2, 3)[:whole])
    assert store.places(keys(1, 2, 3)).tolist() == [0, 1, 2][:whole] + [-1] * (3 - whole)
    fill(store, 9, 3)
    check(store, *(1, 2, 3)[:whole], 9, 3)
    assert (store.folder / "values.f32").stat().st_size == (whole + 2) * ITEM
    assert (store.folder / "entries.bin").stat().st_size == (whole + 2) * 44


def test_values_that_are_not_what_was_written_are_made_again_and_then_taken(store: FeatureStore):
    fill(store, 1, 2, 3)
    with (store.folder / "values.f32").open("r+b") as out:
        out.seek(ITEM + 4)
        out.write(b"!!!!")
    assert store.sound(keys(1, 2, 3)).tolist() == [0, -1, 2]
    store.append(keys(2), maps(2))
    assert store.sound(keys(1, 2, 3)).tolist() == [0, 3, 2]


def test_features_that_are_no_numbers_are_refused(store: FeatureStore):
    with pytest.raises(WorkFailed, match="no numbers"):
        store.append(keys(1), np.full((1, *SHAPE), np.nan, np.float32))
    check(store)


@pytest.mark.parametrize("name", ["values.f32", "entries.bin"])
def test_a_file_that_has_gone_empties_the_store(store: FeatureStore, name: str):
    fill(store, 1, 2)
    (store.folder / name).unlink()
    check(store)
    fill(store, 3)
    check(store, 3)


def test_a_kill_between_values_and_keys_leaves_what_was_whole(store: FeatureStore):
    fill(store, 1)
    with (store.folder / "values.f32").open("ab") as out:
        out.write(maps(7).tobytes())
    check(store, 1)
    fill(store, 2)
    check(store, 1, 2)


def test_values_are_written_before_the_keys_that_promise_them(store: FeatureStore, monkeypatch: pytest.MonkeyPatch):
    opened: list[str] = []
    real = Path.open

    def note(path: Path, *given: Any, **named: Any) -> Any:
        opened.append(path.name)
        return real(path, *given, **named)

    monkeypatch.setattr(Path, "open", note)
    store.append(keys(1), maps(1))
    assert opened == ["values.f32", "entries.bin"]


def test_a_map_taken_before_the_store_grew_stays_right(store: FeatureStore):
    fill(store, 1, 2)
    before = store.values()
    fill(store, 3)
    np.testing.assert_array_equal(before, maps(1, 2))


def grow(place: str, first: int) -> int:
    """Adds 40 images, one by one, as two trainings at once would: what the other has made is not made again."""
    os.environ["CXR_HOME"] = place
    store, made = FeatureStore.of(ABOUT, SHAPE), 0
    for number in range(first, first + 40):
        with store.turn():
            if store.places(keys(number))[0] < 0:
                store.append(keys(number), maps(number))
                made += 1
    return made


@pytest.mark.parametrize("processes", [True, False], ids=["processes", "threads"])
def test_two_at_once_lose_and_repeat_nothing(home: Path, store: FeatureStore, processes: bool):
    pool: Any = (
        ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) if processes else ThreadPoolExecutor(2)
    )
    with pool:
        made = list(pool.map(grow, [str(home)] * 2, [0, 20]))
    assert sum(made) == 60
    check(store, *range(60))


def test_what_does_not_fit_on_the_disk_is_refused_before_the_work(store: FeatureStore, monkeypatch: pytest.MonkeyPatch):
    free = 2**28 + 10 * ITEM
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=free))
    store.check_space(10)
    with pytest.raises(WorkFailed, match=r"^The features of 11 images need .* GB .*features clear.*\.$") as caught:
        store.check_space(11)
    assert "\n" not in str(caught.value)
    with pytest.raises(WorkFailed, match=r"features of 100,000,000 images need 4\.5 GB .*, and 0\.3 GB are free"):
        store.check_space(10**8)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' always full device")
@pytest.mark.parametrize("name", ["values.f32", "entries.bin"])
def test_a_disk_that_is_full_while_writing_is_told_and_breaks_nothing(
    store: FeatureStore, name: str, monkeypatch: pytest.MonkeyPatch
):
    fill(store, 1)
    real = Path.open

    class Opened:
        """A file that keeps its length and takes no more bytes."""

        def __init__(self, path: Path):
            self._file, self._device = real(path, "ab"), real(Path("/dev/full"), "wb", buffering=0)

        def __enter__(self) -> "Opened":
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()
            self._device.close()

        def truncate(self, size: int) -> None:
            self._file.truncate(size)

        def write(self, content: Any) -> None:
            self._device.write(content)

    def some_full(path: Path, *given: Any, **named: Any) -> Any:
        return Opened(path) if path.name == name else real(path, *given, **named)

    with monkeypatch.context() as during:
        during.setattr(Path, "open", some_full)
        with pytest.raises(WorkFailed, match=r"Features could not be written to .*: No space left on device\."):
            fill(store, 2)
    check(store, 1)
    fill(store, 2)
    check(store, 1, 2)


def test_kept_lists_every_store_the_largest_first_with_what_made_it(store: FeatureStore):
    other = FeatureStore.of({**ABOUT, "model": "resnet50"}, (1, 1, 2))
    fill(store, 1, 2)
    with other.turn():
        other.append(keys(1), np.ones((1, 1, 1, 2), np.float32))
    big, small = features.list_stores()
    assert (big.key, big.about["model"], big.images) == (store.folder.name, "vgg16", 2)
    assert (small.key, small.about["model"], small.images) == (other.folder.name, "resnet50", 1)
    assert big.bytes == sum(one.stat().st_size for one in store.folder.iterdir()) > 2 * ITEM + 2 * 40


@pytest.mark.parametrize("content", ["{", "{}", "[]", '"text"'])
def test_a_store_without_its_description_is_still_listed_and_cleared(store: FeatureStore, content: str):
    fill(store, 1)
    (store.folder / "about.json").write_text(content)
    (only,) = features.list_stores()
    assert (only.about, only.images) == ({}, 0)
    assert only.bytes > ITEM
    assert features.delete_stores() == only.bytes
    assert features.list_stores() == []


def test_reading_what_is_there_is_told_and_can_be_given_up(store: FeatureStore, monkeypatch: pytest.MonkeyPatch):
    fill(store, *range(5))
    monkeypatch.setattr(features, "_CHECKED_AT_ONCE", 2)
    told: list[tuple[int, int]] = []
    assert (store.sound(keys(*range(5)), lambda *state: told.append(state)) >= 0).all()
    assert told == [(0, 5), (2, 5), (4, 5)]

    def enough(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        store.sound(keys(1), enough)


def test_clear_counts_only_what_is_gone(store: FeatureStore, monkeypatch: pytest.MonkeyPatch):
    fill(store, 1, 2)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # as where files may not be deleted
    assert features.delete_stores() == 0


def test_clear_frees_all_and_the_next_starts_anew(store: FeatureStore, home: Path):
    fill(store, 1, 2)
    size = sum(one.stat().st_size for one in store.folder.iterdir())
    assert features.delete_stores() == size
    assert not (home / "features").exists()
    assert features.delete_stores() == 0
    again = FeatureStore.of(ABOUT, SHAPE)
    check(again)
    fill(again, 3)
    check(again, 3)


def test_a_key_is_image_view_and_limits():
    def key(image: int = 1, view_: int = AS_IT_IS, limits: AugmentationLimits | None = None) -> bytes:
        return features.keys(names([image]), [view_], limits)[0].tobytes()

    wide = replace(AugmentationLimits(), rotation=20.0)
    different = [
        *(key(), key(image=2), key(view_=MIRRORED), key(view_=5), key(view_=6)),
        *(key(view_=5, limits=wide), key(view_=6, limits=wide)),
    ]
    assert len(set(different)) == len(different)
    assert len(key()) == 40
    assert key(view_=5) == key(view_=5, limits=AugmentationLimits())
    for plain in (AS_IT_IS, MIRRORED):  # nothing is changed, so limits do not matter
        assert key(view_=plain, limits=wide) == key(view_=plain)


def test_an_image_that_ends_in_zero_bytes_keeps_its_key(store: FeatureStore):
    made = features.keys(["ab" * 31 + "00", "ab" * 31 + "01"], [AS_IT_IS, AS_IT_IS])
    with store.turn():
        store.append(made, maps(1, 2))
    assert store.places(made).tolist() == [0, 1]


def test_seeds_of_an_image_are_its_own_and_always_the_same():
    first, second = (features.view_seeds(one, 3) for one in names([1, 2]))
    assert features.view_seeds(names([1])[0], 3) == first
    assert features.view_seeds(names([1])[0], 5)[:3] == first  # more views are made, those known stay
    assert len({*first, *second}) == 6
    assert not {AS_IT_IS, MIRRORED} & {*first, *second}
    assert all(0 < one < 2**63 for one in features.view_seeds("f" * 64, 20))


def test_a_view_shows_the_image_as_it_is_mirrored_or_changed():
    image = np.random.default_rng(1).integers(0, 256, (16, 16), dtype=np.uint8)
    np.testing.assert_array_equal(features.augmented_image(image, AS_IT_IS), image)
    np.testing.assert_array_equal(features.augmented_image(image, MIRRORED), image[:, ::-1])
    wide = replace(AugmentationLimits(), rotation=40.0)
    np.testing.assert_array_equal(features.augmented_image(image, 7), augmented_view(image, 7))
    np.testing.assert_array_equal(features.augmented_image(image, 7, wide), augmented_view(image, 7, wide))
    assert not np.array_equal(features.augmented_image(image, 7, wide), features.augmented_image(image, 7))
