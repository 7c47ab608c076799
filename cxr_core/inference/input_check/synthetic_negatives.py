"""Synthetic negatives: pictures that have nothing to do with chest X-rays, for the out-of-distribution detector to learn from.

No photograph ships with the project, so photographs are stood in for by what they have in common: things that cover one
another ("dead leaves"; Lee, Mumford and Huang, "Occlusion Models for Natural Images", 2001) and spectra that fall with the
frequency. Beside them: slices of bodies as CT and MR show them.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from cxr_core import images

SIDE = 64  # of all that the detector takes, in pixels

Pixels = npt.NDArray[np.uint8]
Random = np.random.Generator

_CANVAS = 3 * SIDE


def of_each_kind(count: int, rng: Random) -> Pixels:
    """Pictures, uint8 (3 · count, SIDE, SIDE); three of ten are mirror-symmetric, and three of ten are inverted."""
    pictures = [spectral_noise(rng) for _ in range(count)]
    pictures += [draw(rng) for draw in (shapes, body_slice) for _ in range(count)]
    for picture in pictures:
        if rng.random() < 0.3:
            picture[:, SIDE // 2 :] = picture[:, SIDE // 2 - 1 :: -1]
        if rng.random() < 0.3:
            picture[:] = 255 - picture
    return np.stack(pictures)


def spectral_noise(rng: Random) -> Pixels:
    """Noise whose amplitude falls with the frequency to a power of 0 (white noise) to 3: uint8 (SIDE, SIDE)."""
    frequencies = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]) * SIDE
    frequencies[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) / frequencies ** rng.uniform(0.01, 3)
    noise = np.fft.irfft2(spectrum, s=(SIDE, SIDE))
    return np.clip(128 + 60 * noise / noise.std(), 0, 255).astype(np.uint8)


def shapes(rng: Random) -> Pixels:
    """Ellipses, boxes, triangles and bars that cover one another, uint8 (SIDE, SIDE)."""
    canvas = Image.new("L", (_CANVAS, _CANVAS), int(rng.integers(256)))
    if rng.random() < 0.4:
        canvas = Image.fromarray(spectral_noise(rng)).resize(canvas.size)
    pen, largest = ImageDraw.Draw(canvas), rng.uniform(10, 90)
    for _ in range(int(rng.integers(1, 25))):
        middle, radii = rng.uniform(0, _CANVAS, 2), largest * rng.uniform(0.1, 1) * rng.uniform(0.3, 1.7, 2)
        fill, kind = int(rng.integers(256)), rng.integers(4)
        if kind == 0:
            pen.ellipse(_box(middle, radii), fill=fill)
        elif kind == 1:
            pen.rectangle(_box(middle, radii), fill=fill)
        elif kind == 2:
            pen.polygon([*(middle + largest * rng.uniform(-1, 1, (3, 2))).ravel()], fill=fill)
        else:
            pen.line([*middle, *rng.uniform(0, _CANVAS, 2)], fill=fill, width=int(rng.integers(1, 12)))
    return _textured(canvas, rng, grain=0.6)


def body_slice(rng: Random) -> Pixels:
    """Slice of a body or head on black: a rim, and organs of which most are paired; uint8 (SIDE, SIDE)."""
    canvas = Image.new("L", (_CANVAS, _CANVAS), int(rng.integers(40)))
    pen = ImageDraw.Draw(canvas)
    middle, radii = _CANVAS * rng.uniform(0.4, 0.6, 2), _CANVAS * rng.uniform(0.2, 0.5, 2)
    pen.ellipse(_box(middle, radii), fill=int(rng.integers(60, 256)))
    pen.ellipse(_box(middle, radii * rng.uniform(0.8, 0.97)), fill=int(rng.integers(30, 200)))
    for _ in range(int(rng.integers(2, 14))):
        offset, organ = rng.uniform(-0.65, 0.65, 2) * radii, radii * rng.uniform(0.05, 0.4, 2)
        fill = int(rng.integers(256))
        pen.ellipse(_box(middle + offset, organ), fill=fill)
        if rng.random() < 0.6:
            pen.ellipse(_box(middle + offset * [-1, 1], organ), fill=fill)
    return _textured(canvas, rng, grain=0.4)


def _box(middle: npt.NDArray[np.float64], radii: npt.NDArray[np.float64]) -> list[float]:
    return [*(middle - radii), *(middle + radii)]


def _textured(canvas: Image.Image, rng: Random, *, grain: float) -> Pixels:
    """Reduced to uint8 (SIDE, SIDE), six of ten out of focus, all with some share of noise up to `grain`."""
    if rng.random() < 0.6:
        canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0, 4)))
    noise = spectral_noise(rng).astype(np.float64) - 128
    grey = images.prepare(np.asarray(canvas), SIDE) + rng.random() ** 2 * grain * noise
    return np.clip(grey, 0, 255).astype(np.uint8)
