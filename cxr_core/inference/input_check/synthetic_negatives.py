"""Strangers: pictures that have nothing to do with X-rays, made of numbers alone, for the input check (checks.py) to learn from.

Every function takes how many and a generator, and gives float32 (n, SIDE, SIDE) in 0..255. No photograph ships with the
project, so photographs are stood in for by what they have in common: things that cover one another ("dead leaves"; Lee,
Mumford and Huang, "Occlusion Models for Natural Images", 2001), spectra that fall with the frequency, horizons and heads.
Beside them: text, charts and figures, slices of CT and MR, and X-rays of limbs and skulls, as roughly as a child draws them.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage

SIDE = 64

Greys = npt.NDArray[np.float32]
Random = np.random.Generator
Window = tuple[slice, slice]

_ROWS, _COLUMNS = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / (SIDE - 1)
_ALL: Window = (slice(None), slice(None))


def strangers(count: int, rng: Random) -> Greys:
    """(n, SIDE, SIDE), n about `count`: all the kinds that need no X-ray, a third of them alike on both sides."""
    kinds: tuple[Callable[[int, Random], Greys], ...] = (
        leaves, leaves, scenes, scenes, busts, busts, drawings, drawings, slices, slices, limbs, limbs, skulls, clouds, _background,
    )  # fmt: skip
    made = np.concatenate([kind(max(1, count // len(kinds)), rng) for kind in kinds])
    both = rng.random(len(made)) < 0.3
    made[both] = mirrored(made[both])
    negative = rng.random(len(made)) < 0.3
    made[negative] = 255 - made[negative]
    return made


def clouds(count: int, rng: Random, *, low: float = 0.0, high: float = 3.0) -> Greys:
    """Noise whose amplitude falls with the frequency to a power between `low` and `high`; 0 is white noise."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]) * SIDE
    frequency[0, 0] = 1
    waves = np.fft.rfft2(rng.standard_normal((count, SIDE, SIDE)))
    power = rng.uniform(low, high, (count, 1, 1))
    return stretched(np.fft.irfft2(waves / frequency**power, s=(SIDE, SIDE)))


def leaves(count: int, rng: Random) -> Greys:
    """Shaded discs, ellipses and boxes that cover one another, small ones more often than large ones."""
    found = _background(count, rng)
    for grey in found:
        most = rng.uniform(0.1, 0.5)
        for _ in range(int(rng.integers(4, 28))):
            reach = most * min(1.0, 0.1 / rng.uniform(0.1, 1.0))
            _paint(
                grey,
                rng,
                rng.uniform(0, 1, 2),
                reach * rng.uniform(0.4, 1.6, 2),
                rng.uniform(0, np.pi),
                rng.random() < 0.4,
            )
    return _textured(found, rng)


def scenes(count: int, rng: Random) -> Greys:
    """A sky, a ground and things upon it."""
    sky, ground = _background(count, rng), clouds(count, rng, low=0.3, high=1.8)
    horizon = rng.uniform(0.2, 0.8, (count, 1, 1)) + 0.1 * (clouds(count, rng, low=2, high=3)[:, :1] / 255 - 0.5)
    depth = rng.uniform(0.2, 0.9, (count, 1, 1))
    found = np.where(horizon > _ROWS, sky, rng.uniform(0, 200, (count, 1, 1)) + depth * (ground - 128)).astype(
        np.float32
    )
    for grey in found:
        for _ in range(int(rng.integers(0, 9))):
            _paint(
                grey,
                rng,
                rng.uniform(0.1, 0.9, 2),
                rng.uniform(0.03, 0.3, 2),
                rng.uniform(-0.3, 0.3),
                rng.random() < 0.6,
            )
    return _textured(found, rng)


def busts(count: int, rng: Random) -> Greys:
    """A head on shoulders, or any upright thing in the middle before a background: portraits, animals, vessels."""
    found = _textured(_background(count, rng), rng)
    for grey in found:
        column, width = rng.uniform(0.35, 0.65), rng.uniform(0.12, 0.3)
        row = rng.uniform(0.25, 0.5)
        _paint(
            grey,
            rng,
            (rng.uniform(0.9, 1.2), column),
            (rng.uniform(0.25, 0.6), width * rng.uniform(1.2, 2.8)),
            0.0,
            False,
        )
        _paint(grey, rng, (row, column), (width * rng.uniform(1, 1.6), width), rng.uniform(-0.3, 0.3), False)
        for _ in range(int(rng.integers(0, 8))):
            place = (row + rng.uniform(-0.2, 0.2), column + rng.uniform(-0.15, 0.15))
            _paint(grey, rng, place, rng.uniform(0.01, 0.09, 2), rng.uniform(0, np.pi), False)
    return _textured(found, rng)


def drawings(count: int, rng: Random) -> Greys:
    """Lines of text, charts, grids and figures in ink on paper, and the same in light on black."""
    found = np.empty((count, SIDE, SIDE), np.float32)
    for grey in found:
        ink, paper = rng.uniform(0, 90), rng.uniform(180, 255)
        grey[:] = paper
        kind = rng.integers(0, 4)
        if kind == 0:
            _write(grey, rng, ink)
        elif kind == 1:
            _chart(grey, rng, ink)
        elif kind == 2:
            _grid(grey, rng, ink)
        else:
            for _ in range(int(rng.integers(1, 9))):
                _outline(grey, rng, ink, rng.random() < 0.3)
        if rng.random() < 0.4:
            grey[:] = 255 - grey
    return _textured(found, rng, most=0.2)


def slices(count: int, rng: Random) -> Greys:
    """Cuts through a body or a head as CT and MR show them: an outline on black, a rim, organs, dark cavities."""
    found = np.zeros((count, SIDE, SIDE), np.float32)
    for grey in found:
        middle = rng.uniform(0.42, 0.58, 2)
        size = np.array([rng.uniform(0.25, 0.5), rng.uniform(0.25, 0.5)])
        turn = rng.uniform(-0.3, 0.3)
        rim = rng.uniform(0.03, 0.15)
        _paint(grey, rng, middle, size, turn, False, rng.uniform(60, 255))
        _paint(grey, rng, middle, size * (1 - rim), turn, False, rng.uniform(30, 200))
        for _ in range(int(rng.integers(2, 14))):
            distance, way = rng.uniform(0, 0.7), rng.uniform(0, 2 * np.pi)
            place = middle + size * distance * np.array([np.sin(way), np.cos(way)])
            organ = size * rng.uniform(0.05, 0.4, 2)
            tone = rng.uniform(0, 255)
            _paint(grey, rng, place, organ, rng.uniform(0, np.pi), False, tone)
            if rng.random() < 0.6:
                _paint(grey, rng, (place[0], 2 * middle[1] - place[1]), organ, rng.uniform(0, np.pi), False, tone)
    return _textured(found, rng, most=0.5)


def limbs(count: int, rng: Random) -> Greys:
    """Bones in soft tissue on black, as X-rays of hands, knees and arms show them: bars that lie along or fan out."""
    found = np.zeros((count, SIDE, SIDE), np.float32)
    for grey in found:
        grey[:] += rng.uniform(0, 60)
        bones = int(rng.integers(1, 7))
        turn, fan = rng.uniform(0, np.pi), rng.uniform(0, 0.35)
        for number in range(bones):
            off = (number - (bones - 1) / 2) / max(bones, 2)
            angle = turn + fan * off * 2
            across = np.array([np.sin(turn), np.cos(turn)])
            along = np.array([np.cos(turn), -np.sin(turn)])
            base = 0.5 + across * off * rng.uniform(0.6, 0.9) + along * rng.uniform(-0.1, 0.1)
            width = rng.uniform(0.25, 0.5) / (bones + 1)
            grey[:] += _glow(base, (0.6, width * 1.8), angle) * rng.uniform(40, 110)
            for joint in np.cumsum(rng.uniform(0.15, 0.5, 4)) - 0.6:
                long = rng.uniform(0.08, 0.3)
                grey[:] += _glow(base + along * joint, (long, width * rng.uniform(0.5, 1.1)), angle) * rng.uniform(
                    50, 150
                )
    return _textured(np.clip(found, 0, 255), rng, most=0.25)


def skulls(count: int, rng: Random) -> Greys:
    """Round bright shells with darker and brighter places inside, as X-rays of skulls and pelvises show them."""
    found = np.zeros((count, SIDE, SIDE), np.float32)
    for grey in found:
        grey[:] += rng.uniform(0, 40)
        middle, size = rng.uniform(0.35, 0.65, 2), rng.uniform(0.3, 0.5, 2)
        outer, inner = _glow(middle, size, 0.0), _glow(middle, size * rng.uniform(0.8, 0.93), 0.0)
        grey[:] += rng.uniform(120, 200) * outer - rng.uniform(20, 110) * inner
        for _ in range(int(rng.integers(3, 12))):
            place = middle + rng.uniform(-0.6, 0.6, 2) * size
            part = rng.uniform(0.03, 0.2, 2)
            tone = rng.uniform(-90, 90)
            grey[:] += _glow(place, part, 0.0) * tone
            if rng.random() < 0.7:
                grey[:] += _glow((place[0], 2 * middle[1] - place[1]), part, 0.0) * tone
        if rng.random() < 0.5:
            grey[:] += _glow((1.05, middle[1]), (0.35, rng.uniform(0.08, 0.25)), 0.0) * rng.uniform(40, 120)
    return _textured(np.clip(found, 0, 255), rng, most=0.3)


def mirrored(greys: Greys) -> Greys:
    """The left half and its mirror image: being alike on both sides makes no chest."""
    half = greys[..., : SIDE // 2]
    return np.concatenate([half, half[..., ::-1]], axis=-1)


def _background(count: int, rng: Random) -> Greys:
    """Even, or a slope, or a soft light."""
    way, strength = rng.uniform(0, 2 * np.pi, (count, 1, 1)), rng.uniform(0, 1, (count, 1, 1))
    slope = np.cos(way) * (_COLUMNS - 0.5) + np.sin(way) * (_ROWS - 0.5)
    light = np.exp(
        -((_COLUMNS - rng.uniform(0, 1, (count, 1, 1))) ** 2 + (_ROWS - rng.uniform(0, 1, (count, 1, 1))) ** 2) * 4
    )
    soft = np.where(rng.random((count, 1, 1)) < 0.5, slope, light - 0.4) * strength
    return np.clip(rng.uniform(0, 255, (count, 1, 1)) + 255 * soft, 0, 255).astype(np.float32)


def _textured(greys: Greys, rng: Random, most: float = 0.6) -> Greys:
    """With grain of some roughness, more in some images than in others, and now and then out of focus."""
    strength = (rng.random((len(greys), 1, 1)) ** 2 * most).astype(np.float32)
    found = np.clip(greys + strength * (clouds(len(greys), rng, low=0, high=2) - 128), 0, 255)
    for place in np.flatnonzero(rng.random(len(found)) < 0.4):
        found[place] = ndimage.gaussian_filter(found[place], rng.uniform(0.3, 1.5))
    return found


def _inside(
    middle: npt.ArrayLike, reach: npt.ArrayLike, angle: float, box: bool = False, window: Window = _ALL
) -> npt.NDArray[np.float32]:
    """The `window` of (SIDE, SIDE): below 1 inside the ellipse or box, above 1 outside."""
    (row, column), (high, wide) = np.asarray(middle), np.asarray(reach)
    down, right = _ROWS[window] - np.float32(row), _COLUMNS[window] - np.float32(column)
    y = (np.cos(angle) * down - np.sin(angle) * right) / max(high, 1e-3)
    x = (np.sin(angle) * down + np.cos(angle) * right) / max(wide, 1e-3)
    return np.maximum(np.abs(x), np.abs(y)) if box else np.hypot(x, y)


def _glow(middle: npt.ArrayLike, reach: npt.ArrayLike, angle: float) -> npt.NDArray[np.float32]:
    """(SIDE, SIDE) in 0..1: how much of a round body lies under each point."""
    return np.sqrt(np.clip(1.05 - _inside(middle, reach, angle) ** 2, 0, 1))


def _paint(
    grey: Greys, rng: Random, middle: npt.ArrayLike, reach: npt.ArrayLike, angle: float, box: bool, tone: float = -1
) -> None:
    """Cover a place with a shaded thing, within `grey` (SIDE, SIDE)."""
    small, large = min(np.asarray(reach)), max(np.asarray(reach))
    starts, ends = (
        np.clip(np.asarray(middle) * SIDE + way * (1.5 * large * SIDE + 2), 0, SIDE).astype(int) for way in (-1, 1)
    )
    window = (slice(starts[0], ends[0]), slice(starts[1], ends[1]))
    edge = min(max(small, 1e-3) * SIDE, 40)
    cover = np.clip((1 - _inside(middle, reach, angle, box, window)) * edge + 0.5, 0, 1)
    way, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 120) if tone < 0 else 20.0
    shade = (np.cos(way) * (_COLUMNS[window] - 0.5) + np.sin(way) * (_ROWS[window] - 0.5)) * strength
    value = np.clip((rng.uniform(0, 255) if tone < 0 else tone) + shade, 0, 255)
    grey[window] += cover * (value - grey[window])


def _write(grey: Greys, rng: Random, ink: float) -> None:
    row, height = int(rng.integers(1, 6)), int(rng.integers(1, 5))
    gap = int(rng.integers(1, 5))
    left = int(rng.integers(0, 8))
    while row < SIDE - height:
        if rng.random() < 0.9:
            for column in range(left, int(rng.integers(SIDE // 2, SIDE))):
                if rng.random() < 0.75:
                    grey[row : row + height, column] += (ink - grey[row : row + height, column]) * rng.uniform(0.2, 0.9)
        row += height + gap


def _chart(grey: Greys, rng: Random, ink: float) -> None:
    grey[4:-5, 6] = grey[-6, 6:-4] = ink
    places = np.arange(8, SIDE - 4)
    if rng.random() < 0.5:
        wide = int(rng.integers(2, 8))
        for start in range(8, SIDE - 6, wide + int(rng.integers(1, 4))):
            grey[int(rng.integers(5, SIDE - 8)) : -6, start : start + wide] = rng.uniform(ink, 200)
        return
    for _ in range(int(rng.integers(1, 5))):
        curve = np.cumsum(rng.standard_normal(len(places))) * rng.uniform(0.3, 2) + rng.uniform(10, 50)
        grey[np.clip(curve, 3, SIDE - 8).astype(int), places] = rng.uniform(ink, 160)


def _grid(grey: Greys, rng: Random, ink: float) -> None:
    turn, across = rng.uniform(0, np.pi), rng.uniform(1, 14)
    one = np.sin(2 * np.pi * across * (np.cos(turn) * _COLUMNS + np.sin(turn) * _ROWS) + rng.uniform(0, 6))
    two = np.sin(2 * np.pi * across * (np.cos(turn) * _ROWS - np.sin(turn) * _COLUMNS) + rng.uniform(0, 6))
    wave = (one, one * two)[int(rng.integers(0, 2))]
    share = (wave + 1) / 2 if rng.random() < 0.4 else (wave > rng.uniform(-0.5, 0.9)).astype(np.float32)
    grey[:] += share * (ink - grey)


def _outline(grey: Greys, rng: Random, ink: float, filled: bool) -> None:
    reach = rng.uniform(0.05, 0.45, 2)
    inside = _inside(rng.uniform(0.1, 0.9, 2), reach, rng.uniform(0, np.pi), rng.random() < 0.4)
    edge = min(reach) * SIDE
    cover = np.clip((1 - inside) * edge + 0.5, 0, 1) if filled else np.clip(1.5 - np.abs(1 - inside) * edge, 0, 1)
    grey[:] += cover * ((rng.uniform(0, 255) if filled else ink) - grey)


def stretched(values: npt.NDArray[np.float64]) -> Greys:
    """Each image to mean 128 and a spread that fills 0..255."""
    spread = values.std(axis=(1, 2), keepdims=True)
    shown = 128 + 60 * (values - values.mean(axis=(1, 2), keepdims=True)) / np.maximum(spread, 1e-9)
    return np.clip(shown, 0, 255).astype(np.float32)
