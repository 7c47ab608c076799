"""Groups of equal and of nearly equal images, by file hash and by perceptual hash."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

MAX_HASH_DISTANCE = (
    8  # of 143 bits. On the Kermany set strangers differ in 12 or more; re-encoding or resizing changes 0 to 6.
)
_BANDS = MAX_HASH_DISTANCE + 1  # two hashes that differ in so many bits agree in at least one of one band more

Groups = npt.NDArray[np.int64]


def exact_groups(sha256: pd.Series) -> Groups:
    """Number of the group of equal files that each row is in, int (n,); -1 for files that occur once."""
    return _numbered(pd.factorize(sha256)[0])


def near_groups(phash: Sequence[str]) -> Groups:
    """As `exact_groups`, for images whose perceptual hashes are at most MAX_HASH_DISTANCE apart, directly or in a chain.

    Args:
        phash: hexadecimal, of equal length.
    """
    from scipy.sparse import coo_matrix  # takes longer to import than a kept audit takes to read
    from scipy.sparse.csgraph import connected_components

    codes, distinct = pd.factorize(np.asarray(phash, dtype=object))
    if not len(distinct):
        return np.empty(0, np.int64)
    hashes = np.stack([np.frombuffer(bytes.fromhex(code), np.uint8) for code in distinct])
    pairs = [_close_pairs(hashes, band) for band in np.array_split(np.arange(hashes.shape[1]), _BANDS)]
    left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
    graph = coo_matrix((np.ones(len(left)), (left, right)), shape=(len(distinct), len(distinct)))
    return _numbered(connected_components(graph, directed=False)[1][codes])


def _close_pairs(
    hashes: npt.NDArray[np.uint8], band: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pairs of distinct hashes that agree in the bytes `band` and differ in at most MAX_HASH_DISTANCE bits."""
    keys = np.unique(hashes[:, band], axis=0, return_inverse=True)[1].ravel()
    order = np.argsort(keys, kind="stable")
    ordered, codes = keys[order], hashes[order]
    first, second = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    candidates = np.arange(len(order) - 1)
    for step in range(1, len(order)):  # each position against its next, second next, … neighbour of equal key
        candidates = candidates[candidates < len(order) - step]
        candidates = candidates[ordered[candidates] == ordered[candidates + step]]
        if not len(candidates):
            break
        apart = np.bitwise_count(codes[candidates] ^ codes[candidates + step]).sum(axis=1)
        close = candidates[apart <= MAX_HASH_DISTANCE]
        first.append(order[close])
        second.append(order[close + step])
    return np.concatenate(first), np.concatenate(second)


def _numbered(codes: npt.NDArray[np.int64]) -> Groups:
    """Groups of at least two rows, numbered from 0 in the order of their first row; -1 for the rest."""
    counts = np.bincount(codes, minlength=1)
    alone = counts[codes] < 2
    numbers = np.full(len(codes), -1, np.int64)
    numbers[~alone] = pd.factorize(codes[~alone])[0]
    return numbers
