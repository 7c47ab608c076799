"""Duplicates: groups of equal files, and of images that look the same."""

import numpy as np
import pytest

from cxr_core import images
from cxr_core.data import image_stats
from cxr_core.data.audit import duplicates
from cxr_core.data.phantoms import draw_body, phantom


def hashes(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 18), dtype=np.uint8)


def hexed(rows: np.ndarray) -> list[str]:
    return [row.tobytes().hex() for row in rows]


def flipped(row: np.ndarray, bits: int, seed: int = 1) -> np.ndarray:
    places = np.random.default_rng(seed).choice(row.size * 8, bits, replace=False)
    mask = np.zeros(row.size * 8, np.uint8)
    mask[places] = 1
    return row ^ np.packbits(mask)


def test_equal_files_are_numbered_in_the_order_of_their_first():
    import pandas as pd

    assert duplicates.exact_groups(pd.Series(list("abcbdcc"))).tolist() == [-1, 0, 1, 0, -1, 1, 1]
    assert duplicates.exact_groups(pd.Series([], dtype=str)).tolist() == []


@pytest.mark.parametrize("bits", range(13))
def test_hashes_are_near_up_to_eight_bits_apart(bits: int):
    rows = hashes(50)
    rows[37] = flipped(rows[5], bits)
    groups = duplicates.near_groups(hexed(rows))
    assert (groups[5] == groups[37] == 0) if bits <= duplicates.MAX_HASH_DISTANCE else (groups == -1).all()


def test_it_finds_what_comparing_every_pair_finds():
    rows = hashes(300)
    for number in range(60):  # neighbours of neighbours too
        rows[150 + number] = flipped(rows[100 + number], 1 + number % 12, seed=number)
    groups = duplicates.near_groups(hexed(rows))
    apart = np.bitwise_count(rows[:, None] ^ rows[None]).sum(axis=2)
    for one in range(300):
        linked = set(np.flatnonzero(apart[one] <= duplicates.MAX_HASH_DISTANCE)) - {one}
        assert (groups[one] == -1) == (not linked)
        assert all(groups[other] == groups[one] for other in linked)


def test_a_chain_is_one_group_and_equal_hashes_are_too():
    first = hashes(1)[0]
    second = flipped(first, 8, seed=1)
    third = flipped(second, 8, seed=2)
    assert duplicates.near_groups(hexed(np.stack([first, third, second, first]))).tolist() == [0, 0, 0, 0]
    assert duplicates.near_groups([]).tolist() == []
    assert duplicates.near_groups(hexed(hashes(1))).tolist() == [-1]


def hash_of(pixels: np.ndarray) -> str:
    return image_stats.pixel_stats(images.prepare(pixels, 180)[None])[0][-1]


def test_resized_saved_again_or_brightened_is_near_and_another_patient_is_not():
    drawn = [
        phantom("normal", np.random.default_rng([3, n]), body=draw_body(np.random.default_rng(n))) for n in range(8)
    ]
    one = drawn[0]
    changed = [
        images.read(images.encode(one, quality=30)),
        images.prepare(one, 140),
        np.clip(one * 1.1 + 8, 0, 255).astype(np.uint8),
    ]
    groups = duplicates.near_groups([hash_of(image) for image in [*drawn, *changed]])
    assert groups.tolist() == [0, *[-1] * 7, 0, 0, 0]
