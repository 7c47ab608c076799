"""How much an image looks like the upright X-rays that a network has learned from, whatever its exposure.

    uint8 (n, S, S) ── reduced ──► (n, 64, 64) ── equalised ──► edges by place and direction, a thumbnail, grain
                                                                   │
                    distance from the training images  ◄── main axes ──►  a small network: upright, turned, or other

Grey values count by their rank only, so that any exposure gives the same answer until it clips. The network learns against
synthetic_negatives.py and hard_negatives.py; the distance also finds what no decoy stands for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cxr_core.inference.input_check import hard_negatives, synthetic_negatives
from cxr_core.inference.input_check.synthetic_negatives import SIDE, Greys, Random

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

LEARNED = 1500  # training images are drawn up to so many: more take time and change nothing
_POSITIVES = 3000
_STRANGERS = 1200
_DISFIGURED = 1400
_STOOD = 1200
_BATCH = 300
_CELLS = 7
_THUMB = 16
_AXES = 64
_HIDDEN = 64
_NETWORKS = 2
_ROUNDS = 25
_EDGES_WEIGH, _THUMB_WEIGHS = 0.35, 2.0  # both halves then spread about alike


def reduced(pixels: Pixels, to: int = SIDE) -> Greys:
    """Resize with an antialiased bilinear filter, as `images.prepare` does: uint8 (n, S, S) to float32 (n, to, to)."""
    size = pixels.shape[1]
    middles = (np.arange(to) + 0.5) * size / to - 0.5
    weights = np.clip(1 - np.abs(np.arange(size) - middles[:, None]) / max(size / to, 1.0), 0, None)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    found: Greys = np.matmul(np.matmul(weights, pixels.astype(np.float32)), weights.T)
    return found


def drawn(pixels: Pixels, most: int, rng: Random) -> Greys:
    """At most so many of the images, read in order and in parts since they may lie on disk: float32 (n, SIDE, SIDE)."""
    places = np.sort(rng.permutation(len(pixels))[:most])
    parts = [reduced(pixels[places[start : start + _BATCH]]) for start in range(0, len(places), _BATCH)]
    return np.concatenate(parts) if parts else np.empty((0, SIDE, SIDE), np.float32)


def retaken(greys: Greys, rng: Random, *, angle: float = 8, zoom: float = 0.25, shift: float = 0.06) -> Greys:
    """The same bodies as another machine, another day or another hand may have taken them."""
    found = hard_negatives.moved(greys, rng, angle=angle, zoom=(1 - zoom, 1 + zoom), shift=shift, stretch=0.8 * zoom)
    each = (len(found), 1, 1)
    found = np.clip(found * np.exp(rng.uniform(-0.43, 0.34, each)) + rng.uniform(-15, 15, each), 0, 255).astype(
        np.float32
    )
    for place in np.flatnonzero(rng.random(len(found)) < 0.35):
        found[place] = ndimage.gaussian_filter(found[place], rng.uniform(0.3, 1.2))
    grain = np.where(rng.random(each) < 0.3, rng.uniform(0, 5, each), 0).astype(np.float32)
    found = np.clip(found + grain * rng.standard_normal(found.shape, np.float32), 0, 255)
    mirror = rng.random(len(found)) < 0.5
    found[mirror] = found[mirror][..., ::-1]
    return found


@dataclass(frozen=True)
class OODDetector:
    """What was learned.

    Attributes:
        middle, axes, spread: float (F,), (F, K), (K,) the main axes of the training images' features.
        grain_middle, grain_spread: float (G,) of the figures of grain.
        rest: float (2,) mean and deviation of the logarithm of what the axes leave.
        first, first_bias, second, second_bias: float (E, D, H), (E, 1, H), (E, H, 3), (E, 1, 3) of E small networks.
    """

    middle: Floats
    axes: Floats
    spread: Floats
    grain_middle: Floats
    grain_spread: Floats
    rest: Floats
    first: Floats
    first_bias: Floats
    second: Floats
    second_bias: Floats

    @classmethod
    def fit(cls, greys: Greys, rng: Random) -> "OODDetector":
        """Learn from training images, float32 (n, SIDE, SIDE) in 0..255, and from decoys."""
        copies = max(1, -(-(_POSITIVES - len(greys)) // len(greys)))
        taken = np.concatenate([retaken(greys, rng) for _ in range(copies)])[: max(_POSITIVES - len(greys), len(greys))]
        some = taken[rng.permutation(len(taken))]
        sets = [
            np.concatenate([greys, taken]),
            synthetic_negatives.strangers(_STRANGERS, rng),
            hard_negatives.disfigured(some[:_DISFIGURED], rng),
            hard_negatives.stood(some[-_STOOD:], rng),
        ]
        described = [features(one) for one in sets]
        blank = cls(*_axes(described[0]), *(np.zeros((0, 0, 0), np.float32),) * 4)
        inputs = np.concatenate([blank._inputs(*one) for one in described])
        answers = np.repeat([0, 1, 1, 2], [len(one) for one in sets])
        learned = [_learned(inputs, answers, rng) for _ in range(_NETWORKS)]
        layers = [np.stack(part) for part in zip(*learned, strict=True)]
        return cls(**{**blank.arrays(), **dict(zip(_LAYERS, layers, strict=True))})

    def scores(self, greys: Greys) -> tuple[Floats, Floats]:
        """Of float32 (n, SIDE, SIDE) in 0..255.

        Returns:
            likeness: (n,) logarithm of the odds that it is an upright X-ray like those of the training.
            distance: (n,) from the training images; about 1 for one of them.
        """
        return self._scores(*features(greys))

    def views(self, greys: Greys) -> tuple[Floats, Floats]:
        """The `scores` of images as they are, in three quarter turns to the left, and as negatives: (5, n) each."""
        likeness, distance = self._scores(*_in_parts(greys, _seen_five_ways))
        return likeness.reshape(5, -1), distance.reshape(5, -1)

    def _scores(self, shape: Floats, grain: Floats) -> tuple[Floats, Floats]:
        described = shape, grain
        inputs = self._inputs(*described)
        hidden = np.maximum(np.matmul(inputs, self.first) + self.first_bias, 0)
        shares = _shares(np.matmul(hidden, self.second) + self.second_bias)[..., 0]
        likeness = np.log(np.clip(shares, 1e-7, 1)) - np.log(np.clip(1 - shares, 1e-7, 1))
        along, rest, _ = self._standard(*described)
        distance = np.sqrt(((along**2).sum(axis=1) + 4 * np.maximum(rest, 0) ** 2) / along.shape[1])
        return likeness.mean(axis=0), distance

    def arrays(self) -> dict[str, Floats]:
        """By the names of the attributes."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> "OODDetector":
        """The opposite of `arrays`, whatever the width of the floats.

        Raises:
            KeyError: one is missing.
            ValueError: they do not fit one another, or are not finite.
        """
        found = cls(**{one.name: np.asarray(arrays[one.name]).astype(np.float32) for one in fields(cls)})
        if not all(np.isfinite(one).all() for one in found.arrays().values()):
            raise ValueError("not finite")
        found.scores(np.zeros((1, SIDE, SIDE), np.float32))
        return found

    def _standard(self, shape: Floats, grain: Floats) -> tuple[Floats, Floats, Floats]:
        """(n, K) along the axes, (n,) what they leave, (n, G) grain: each about 0 ± 1 for training images."""
        off = shape - self.middle
        along = off @ self.axes
        rest = np.log(np.maximum((off**2).sum(axis=1) - (along**2).sum(axis=1), 1e-6))
        found = (
            along / self.spread,
            (rest - self.rest[0]) / self.rest[1],
            (grain - self.grain_middle) / self.grain_spread,
        )
        first, second, third = (np.asarray(one, np.float32) for one in found)
        return first, second, third

    def _inputs(self, shape: Floats, grain: Floats) -> Floats:
        along, rest, grain = self._standard(shape, grain)
        return np.clip(np.concatenate([along, grain, rest[:, None]], axis=1), -6, 6)


_LAYERS = ("first", "first_bias", "second", "second_bias")


def features(greys: Greys) -> tuple[Floats, Floats]:
    """Of float32 (n, SIDE, SIDE) in 0..255.

    Returns:
        shape: (n, F) edges in 7 × 7 cells and 8 directions (after Dalal and Triggs, "Histograms of Oriented Gradients for
            Human Detection", 2005), and a thumbnail, both of ranks.
        grain: (n, G) contrast at five scales, sparseness of edges, entropy, even places, likeness to its mirror images.
    """
    shape, grain = _in_parts(greys, lambda some: [_described(some).features()])
    return shape, grain


def _in_parts(greys: Greys, ways: Callable[[Greys], list[tuple[Floats, Floats]]]) -> tuple[Floats, Floats]:
    """Features of all images in the first way, then of all in the second, …"""
    parts = [ways(greys[start : start + _BATCH]) for start in range(0, max(len(greys), 1), _BATCH)]
    by_way = [one for way in zip(*parts, strict=True) for one in way]
    return np.concatenate([shape for shape, _ in by_way]), np.concatenate([grain for _, grain in by_way])


@dataclass(frozen=True, eq=False)
class _Described:
    """What features are made of, for n images, so that a turn or a negative needs no second look at them.

    Attributes:
        edges: (n, 8, 7, 7), their mean strength in each direction and cell; direction a points a · 45 degrees down from right.
        thumb: (n, 16, 16) mean ranks.
        even: (n, 2), the share of pixels equal to the one above, and to the one beside.
        mirrors: (n, 4), correlation with the image mirrored left to right, top to bottom, and across either diagonal.
        others: of the grain, what no turn changes: what comes before `even`, between it and `mirrors`, and after them.
    """

    edges: Floats
    thumb: Floats
    even: Floats
    mirrors: Floats
    others: tuple[list[Floats], list[Floats], list[Floats]]

    def features(self) -> tuple[Floats, Floats]:
        count = len(self.edges)
        edges, thumb = self.edges.reshape(count, -1), self.thumb.reshape(count, -1)
        strength = edges.mean(axis=1, keepdims=True)
        shape = np.concatenate(
            [_EDGES_WEIGH * np.sqrt(edges / (strength + 1e-3)), _THUMB_WEIGHS * (thumb - 0.5)], axis=1
        )
        before, between, after = self.others
        grain = [*before, self.even[:, 0], *between, *self.mirrors[:, :3].T, *after]
        return shape.astype(np.float32), np.stack(grain, axis=1).astype(np.float32)

    def turned(self, quarters: int) -> "_Described":
        """As of np.rot90: so many quarter turns to the left."""
        odd = quarters % 2
        return replace(
            self,
            edges=np.rot90(np.roll(self.edges, -2 * quarters, axis=1), quarters, axes=(2, 3)),
            thumb=np.rot90(self.thumb, quarters, axes=(1, 2)),
            even=self.even[:, ::-1] if odd else self.even,
            mirrors=self.mirrors[:, [1, 0, 3, 2]] if odd else self.mirrors,
        )

    def negative(self) -> "_Described":
        return replace(self, edges=np.roll(self.edges, 4, axis=1), thumb=1 - self.thumb)


def _seen_five_ways(greys: Greys) -> list[tuple[Floats, Floats]]:
    found = _described(greys)
    return [one.features() for one in (found, *map(found.turned, (1, 2, 3)), found.negative())]


def _described(greys: Greys) -> _Described:
    count = len(greys)
    values = np.clip(greys + 0.5, 0, 255).astype(np.uint8)
    shares, ranks = _equalised(values)
    right = ranks[:, 1:-1, 2:] - ranks[:, 1:-1, :-2]
    down = ranks[:, 2:, 1:-1] - ranks[:, :-2, 1:-1]
    cells = np.empty((count, 8, _CELLS, _CELLS), np.float32)
    for number, angle in enumerate(np.arange(4) * np.pi / 4):
        along = np.float32(np.cos(angle)) * right + np.float32(np.sin(angle)) * down
        cells[:, number] = _pooled(np.maximum(along, 0))
        cells[:, number + 4] = _pooled(np.maximum(-along, 0))
    thumb = ranks.reshape(count, _THUMB, SIDE // _THUMB, _THUMB, SIDE // _THUMB).mean(axis=(2, 4))
    square = right**2 + down**2
    before = [np.log(cells.reshape(count, -1).mean(axis=1) + 1e-3), *_bands(ranks)]
    before.append(np.log((np.sqrt(square).mean(axis=(1, 2)) ** 2 + 1e-6) / (square.mean(axis=(1, 2)) + 1e-6)))
    before.append(-(shares * np.log2(np.maximum(shares, 1e-9))).sum(axis=1) / 4)
    same = [values[:, 1:] == values[:, :-1], values[:, :, 1:] == values[:, :, :-1]]
    even = np.stack([np.sqrt(one.mean(axis=(1, 2))) for one in same], axis=1)
    between = [np.sqrt(shares.max(axis=1))]
    return _Described(cells, thumb, even, np.stack(_mirrors(ranks), axis=1), (before, between, _sharpness(greys)))


def _equalised(values: Pixels) -> tuple[Floats, Floats]:
    """(n, 256) the share of each grey, and (n, SIDE, SIDE) the rank of each pixel in 0..1, equal for equal greys."""
    count = len(values)
    places = values.reshape(count, -1) + 256 * np.arange(count)[:, None]
    shares = np.bincount(places.ravel(), minlength=256 * count).reshape(count, 256) / values[0].size
    ranks = (np.cumsum(shares, axis=1) - shares / 2).astype(np.float32)
    return shares.astype(np.float32), ranks.ravel()[places].reshape(values.shape)


_POOLS = np.clip(
    1 - np.abs((np.arange(SIDE - 2) + 0.5) * _CELLS / (SIDE - 2) - 0.5 - np.arange(_CELLS)[:, None]), 0, None
)
_POOLS = (_POOLS / _POOLS.sum(axis=1, keepdims=True)).astype(np.float32)


def _pooled(values: Floats) -> Floats:
    """(n, 62, 62) to (n, 7, 7), the cells passing into one another."""
    half = (values.reshape(-1, SIDE - 2) @ _POOLS.T).reshape(len(values), SIDE - 2, _CELLS)
    found: Floats = np.matmul(_POOLS, half)
    return found


def _bands(ranks: Floats) -> list[Floats]:
    """Logarithm of the contrast at four scales."""
    found = []
    for _ in range(4):
        half = ranks.shape[1] // 2
        coarse = ranks.reshape(len(ranks), half, 2, half, 2).mean(axis=(2, 4))
        fine = ranks - np.repeat(np.repeat(coarse, 2, axis=1), 2, axis=2)
        found.append(np.log((fine**2).mean(axis=(1, 2)) + 1e-5))
        ranks = coarse
    return found


def _mirrors(ranks: Floats) -> list[Floats]:
    """Correlation with the image mirrored left to right, top to bottom, and across either diagonal."""
    off = ranks - ranks.mean(axis=(1, 2), keepdims=True)
    spread = (off**2).mean(axis=(1, 2)) + 1e-4
    across = off.swapaxes(1, 2)
    mirrored = (off[..., ::-1], off[:, ::-1], across, across[:, ::-1, ::-1])
    return [(off * other).mean(axis=(1, 2)) / spread for other in mirrored]


def _sharpness(greys: Greys) -> list[Floats]:
    """Logarithm of the mean and of the highest hundredth of the Laplacian, against the spread of the greys."""
    inner = (
        4 * greys[:, 1:-1, 1:-1] - greys[:, :-2, 1:-1] - greys[:, 2:, 1:-1] - greys[:, 1:-1, :-2] - greys[:, 1:-1, 2:]
    )
    size = np.abs(inner).reshape(len(greys), -1)
    spread = greys.std(axis=(1, 2)) + 2
    high = np.quantile(size[:, ::3], 0.99, axis=1) if len(greys) else size.sum(axis=1)
    return [np.log(size.mean(axis=1) / spread + 0.02), np.log(high / spread + 0.05)]


def _axes(described: tuple[Floats, Floats]) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
    """The first six attributes of OODDetector, from the features of training images."""
    shape, grain = described
    middle = shape.mean(axis=0)
    off = shape - middle
    variances, axes = np.linalg.eigh(off.T @ off / len(off))
    axes = np.ascontiguousarray(axes[:, ::-1][:, :_AXES])
    along = off @ axes
    rest = np.log(np.maximum((off**2).sum(axis=1) - (along**2).sum(axis=1), 1e-6))
    kept = variances[::-1][:_AXES]
    spread = np.sqrt(np.maximum(kept, 0) + 0.2 * max(kept[-1], 1e-6))
    told = (
        middle,
        axes,
        spread,
        grain.mean(axis=0),
        grain.std(axis=0) + 0.02,
        np.array([rest.mean(), rest.std() + 1e-3]),
    )
    first, second, third, fourth, fifth, sixth = (np.asarray(one, np.float32) for one in told)
    return first, second, third, fourth, fifth, sixth


def _shares(outputs: Floats) -> Floats:
    powers = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    found: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return found


def _learned(inputs: Floats, answers: npt.NDArray[np.int64], rng: Random) -> list[Floats]:
    """One hidden layer, by Adam with noise, dropout, weight decay and smoothed labels.

    Returns:
        Weights (D, H), (1, H), (H, 3), (1, 3), float32.
    """
    count, width = inputs.shape
    weights = [
        rng.standard_normal((width, _HIDDEN), np.float32) * np.float32(np.sqrt(2 / width)),
        np.zeros((1, _HIDDEN), np.float32),
        rng.standard_normal((_HIDDEN, 3), np.float32) * np.float32(0.1),
        np.zeros((1, 3), np.float32),
    ]
    wanted = np.eye(3, dtype=np.float32)[answers] * np.float32(0.97) + np.float32(0.01)
    batch, step = _adam(weights), 0
    steps = _ROUNDS * (count // 128)
    for _ in range(_ROUNDS):
        order = rng.permutation(count)
        for start in range(0, count - 127, 128):
            step += 1
            chosen = order[start : start + 128]
            seen = inputs[chosen] + np.float32(0.15) * rng.standard_normal((128, width), np.float32)
            before = seen @ weights[0] + weights[1]
            kept = (rng.random(before.shape, np.float32) > 0.2).astype(np.float32) * (before > 0) / np.float32(0.8)
            hidden = before * kept
            off = (_shares(hidden @ weights[2] + weights[3]) - wanted[chosen]) / np.float32(128)
            back = (off @ weights[2].T) * kept
            slopes = [seen.T @ back, back.sum(axis=0, keepdims=True), hidden.T @ off, off.sum(axis=0, keepdims=True)]
            batch(slopes, step, 2e-3 * (1 - step / (steps + 1)))
    return weights


def _adam(weights: list[Floats], decay: float = 1e-3) -> Callable[[list[Floats], int, float], None]:
    """A step that changes `weights` in place (Kingma and Ba, "Adam", 2015); matrices of more than one row decay."""
    means, squares = [np.zeros_like(one) for one in weights], [np.zeros_like(one) for one in weights]

    def step(slopes: list[Floats], number: int, rate: float) -> None:
        for weight, mean, square, slope in zip(weights, means, squares, slopes, strict=True):
            full = slope + np.float32(decay) * weight if len(weight) > 1 else slope
            mean[:] += np.float32(0.1) * (full - mean)
            square[:] += np.float32(0.001) * (full * full - square)
            scale = np.float32(rate / (1 - 0.9**number))
            weight[:] -= scale * mean / (np.sqrt(square / np.float32(1 - 0.999**number)) + np.float32(1e-8))

    return step
