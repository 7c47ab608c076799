"""Synthetic phantoms, for trying the software, not for medicine: drawings with the build of a frontal chest film.

A film is a sum of attenuations (0 = air, about 1 = spine) over patient coordinates: x grows to the image's right (the
patient's left), y downwards, and the frame spans -1 to 1 both ways. Anatomy comes from a `Body`; pose, breath, exposure and
grain are drawn per image, alike for every class. Fields are float32 (size, size) unless said otherwise.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from cxr_core.errors import BadInput, UnknownName

CLASSES = ("normal", "viral", "bacterial")
MIN_SIZE = 32

Field = npt.NDArray[np.floating]


class Body(NamedTuple):
    """One imaginary patient; lengths are in half image widths."""

    chest: float  # half width of the rib cage
    apex: float  # height of the lung tips
    dome: float  # height of the diaphragm's right dome at mid breath
    heart: float  # size against the usual
    rib_gap: float  # distance between neighbouring ribs
    rib_start: float  # height of the first rib below the lung tips
    bone: float  # how strongly bones show
    fat: float  # thickness of the soft tissue
    shoulder: float  # height of the shoulders at the side
    gas: float  # strength of the stomach's air bubble; none below 0
    vessels: float  # seed of their branching


_LOWEST = Body(0.68, -0.84, 0.36, 0.85, 0.115, -0.05, 0.7, 0.0, -0.82, -0.6, 0)
_HIGHEST = Body(0.82, -0.72, 0.50, 1.2, 0.145, 0.03, 1.25, 1.0, -0.6, 1.0, 2**32)


class Pose(NamedTuple):
    """Pose and breath of the patient: patient = zoom * rotation(turn) * frame + (right, down)."""

    turn: float
    zoom: float
    right: float
    down: float
    breath: float


def draw_body(rng: np.random.Generator) -> Body:
    """Anatomy of one patient; the same state of `rng` gives the same body."""
    return Body(*rng.uniform(_LOWEST, _HIGHEST).tolist())


def phantom(
    label: str, rng: np.random.Generator, *, size: int = 224, body: Body | None = None
) -> npt.NDArray[np.uint8]:
    """Draw one synthetic phantom, for trying the software, not for medicine.

    Args:
        label: one of `CLASSES`: clear lungs, a fine net over both lungs, or one dense patch in one lobe.
        rng: the same state gives the same bytes.
        size: side of the square image in pixels, at least `MIN_SIZE`.
        body: the patient; by default a new one, drawn from `rng`.

    Returns:
        uint8 (size, size), 0 (air) to 255 (dense).

    Raises:
        UnknownName: `label` is not among `CLASSES`.
        BadInput: `size` is below `MIN_SIZE`.
    """
    if label not in CLASSES:
        raise UnknownName("class", label, CLASSES)
    if size < MIN_SIZE:
        raise BadInput(f"A phantom is at least {MIN_SIZE} pixels wide. Received: {size}.")
    b = body if body is not None else draw_body(rng)
    turn = math.radians(float(np.clip(rng.normal(0, 2.2), -6, 6)))
    pose = Pose(turn, rng.uniform(0.95, 1.12), rng.normal(0, 0.03), rng.normal(0, 0.03), rng.normal(0, 0.025))
    # What is smooth is drawn at half the size: finer is not seen.
    x, y = _coordinates(pose, size // 2)
    film, lungs = _soft_tissue_and_lungs(b, pose, x, y)
    haze, vessels = _lung_content(label, rng, x, y)
    film = _resize(film + haze * lungs, size) + _ribs(b, x, y, size)
    film += _resize(lungs * vessels, size) * _vessels(b, pose, size)
    return _expose(film, rng)


def _coordinates(pose: Pose, size: int) -> tuple[Field, Field]:
    """Patient coordinates x and y of every pixel."""
    line = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    cos, sin = pose.zoom * math.cos(pose.turn), pose.zoom * math.sin(pose.turn)
    return (cos * line + pose.right) - (sin * line)[:, None], (sin * line + pose.down) + (cos * line)[:, None]


def _resize(field: Field, size: int) -> Field:
    return np.asarray(Image.fromarray(field.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC))


def _edge(distance: Field, width: float) -> Field:
    """Soft step: 0 where `distance` < -width/2, 1 where it is > width/2, smooth between."""
    t = np.clip(distance * (1 / width) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _bump(along: Field, middle: float, width: float) -> Field:
    """Gaussian bump of height 1."""
    t = (along - middle) * (1 / width)
    return np.exp(-t * t)


def _cloud(rng: np.random.Generator, cells: int, size: int) -> Field:
    """Smooth noise about zero mean and unit deviation, `cells` grains across."""
    return _resize(rng.standard_normal((cells, cells), dtype=np.float32), size)


def _wall(b: Body, y: Field) -> Field:
    """Half width of the rib cage by height."""
    rise = np.clip((0.36 - y) * (1 / (0.45 - b.apex)), 0, 1)
    return b.chest * np.sqrt(1 - rise * rise * (0.35 + 0.65 * rise)) * (1 + 0.05 * _edge(y - 0.2, 0.8))


def _below_diaphragm(b: Body, x: Field, y: Field, breath: float) -> Field:
    """1 in the belly: below two domes that fall to the costophrenic angles, the left one lower."""
    u = np.minimum(np.abs(x) * (1 / b.chest), 1.06)
    fall = 0.2 * np.maximum(0.42 - u, 0) ** 2 + 0.52 * np.maximum(u - 0.42, 0) ** 2 * (u + 0.1)
    return _edge(y - fall - b.dome - 0.045 * _edge(x, 0.3) - breath, 0.04)


def _soft_tissue_and_lungs(b: Body, pose: Pose, x: Field, y: Field) -> tuple[Field, Field]:
    """Attenuation of all but ribs and lung content; and the lungs, 1 inside, 0 outside, less behind the heart."""
    far, wall, belly = np.abs(x), _wall(b, y), _below_diaphragm(b, x, y, pose.breath)
    skin = _edge(0.14 * b.fat + 0.9 * b.chest + 0.17 + 0.7 * _edge(-0.1 - y, 0.9) - far, 0.06)
    neck_line = -1.7 + (b.shoulder + 1.42) * _edge(far - 0.22, 0.7) + 0.25 * np.maximum(far - 0.3, 0) ** 2
    tip = np.clip((b.apex + 0.34 - y) * (1 / 0.34), 0, 1)
    from_middle = far - 0.09 - 0.24 * (1 - np.sqrt(1 - tip * tip))
    lungs = _edge(wall - far, 0.06) * _edge(from_middle, 0.10) * (1 - belly)
    air = lungs * (0.22 + 0.08 * _edge(wall - far - 0.12, 0.34) + 0.08 * _edge(from_middle - 0.12, 0.36))
    middle = _mediastinum(b, x, y)
    film = (0.48 + 0.09 * b.fat - 0.11 * far * far) + middle * (1 - 0.8 * belly) - air + 0.03 * belly
    film += (0.10 + 0.06 * b.fat) * _edge(y - 0.2, 1.3)
    collar = (y - b.apex - 0.21 + far * (0.36 - 0.20 * far)) * (1 / (0.024 + 0.014 * far))
    film += 0.10 * b.bone * np.exp(-(collar**4)) * _edge(far - 0.12, 0.1) * _edge(0.9 - far, 0.3)
    arm = far - 0.93 - 0.12 * _edge(y - b.shoulder - 0.3, 0.4)
    film += 0.10 * b.bone * _edge(arm, 0.1) * _edge(y - b.shoulder - 0.08, 0.15) * _edge(b.shoulder + 0.5 - y, 0.5)
    film -= 0.12 * max(b.gas, 0) * _bump(x, 0.33, 0.15) * _bump(y, b.dome + 0.17, 0.05) * belly
    return film * skin * _edge(y - neck_line, 0.12), lungs * (1 - 0.55 * np.minimum(middle * 5, 1))


def _mediastinum(b: Body, x: Field, y: Field) -> Field:
    """Attenuation of great vessels, heart, windpipe and spine."""
    neck = 0.05 * _edge(-0.55 - y, 0.8)
    patients_right = 0.11 + neck + b.heart * 0.11 * _bump(y, 0.24, 0.27)
    patients_left = 0.10 + neck + 0.035 * _bump(y, -0.32, 0.08) + b.heart * 0.34 * _bump(y, 0.36, 0.26)
    film = _edge(x + patients_right, 0.08) * _edge(patients_left - x, 0.10) * _edge(0.75 - y, 0.6)
    film *= 0.10 + 0.16 * _edge(y + 0.05, 0.7)
    vertebrae = np.cos(y * (2 * math.pi / b.rib_gap / 1.05))
    film += _bump(x, 0, 0.10) * (0.045 + 0.018 * b.bone * vertebrae)
    return film - 0.10 * _bump(x, -0.012, 0.05) * _edge(-0.2 - y, 0.25)


def _lung_content(label: str, rng: np.random.Generator, x: Field, y: Field) -> tuple[Field, Field]:
    """Attenuation in the lungs (hilar and uneven haze, the label's finding), and how strongly vessels show."""
    size = len(x)
    haze = 0.08 * _bump(np.abs(x), 0.17, 0.13) * _bump(y, 0.02, 0.19)
    haze += 0.012 * _cloud(rng, 8, size) + 0.009 * _cloud(rng, size * 3 // 7, size)
    if label == "viral":  # a diffuse fine net over both lungs
        where = np.clip(0.8 + 0.4 * _cloud(rng, 6, size), 0.15, 1.5) * rng.uniform(0.7, 1.3)
        lines = sum(np.maximum(1 - 1.6 * np.abs(_cloud(rng, min(cells, size), size)), 0) for cells in (40, 64))
        haze += where * (0.02 + 0.085 * lines)
    if label != "bacterial":
        return haze, np.full_like(x, 0.13)
    # One dense fluffy patch in one lobe.
    side, severity = rng.choice([-1, 1]), rng.uniform(0.7, 1.3)
    away = np.hypot(
        (x - side * rng.uniform(0.28, 0.55)) / rng.uniform(0.15, 0.30),
        (y - rng.uniform(-0.45, 0.38)) / rng.uniform(0.13, 0.26),
    )
    fluff = 0.30 * _cloud(rng, 9, size) + 0.16 * _cloud(rng, 22, size)
    patch = severity * 0.26 * _edge(0.9 - away + fluff, 1.3)
    return haze + patch, 0.13 * (1 - 7 * patch)  # airways stay dark where the lung around them is filled


def _ribs(b: Body, x: Field, y: Field, size: int) -> Field:
    """Posterior arcs falling outwards, fainter anterior ones falling inwards; x and y are of half the size."""
    u = np.minimum(np.abs(x) / (_wall(b, y) + 0.04), 1.1)
    cage = b.bone * _edge(1.02 - u, 0.12) * _edge(u - 0.1, 0.2) * _edge(y - b.apex, 0.2) * _edge(b.dome + 0.25 - y, 0.3)
    level = y - b.apex - b.rib_start
    back = level - u * u * (0.28 + 0.16 * u * u) + 0.10 * u
    front = level - 0.34 - 0.36 * (1 - u)
    film = _resize(cage * (0.075 - 0.025 * u), size) * _arcs(_resize(back / b.rib_gap, size))
    return film + _resize(cage * 0.045 * _edge(u - 0.62, 0.6), size) * _arcs(_resize(front / b.rib_gap, size))


def _arcs(level: Field) -> Field:
    """Brightness of ribs, one at each whole number of `level`."""
    return _RIB.take((level * len(_RIB)).astype(np.intp), mode="wrap")


_ACROSS = np.roll(np.linspace(-0.5, 0.5, 256, dtype=np.float32), 128)
_RIB = 0.7 * _edge(0.22 - np.abs(_ACROSS), 0.16) + 0.4 * _bump(
    _ACROSS, 0.19, 0.05
)  # a plateau with a brighter lower rim


def _vessels(b: Body, pose: Pose, size: int) -> Field:
    """Vessels branching out of both hila, 0 to 1, drawn at double size against jagged lines."""
    rng, canvas = np.random.default_rng(int(b.vessels)), Image.new("L", (2 * size, 2 * size))
    pen, turn = ImageDraw.Draw(canvas), np.exp(-1j * pose.turn) * size / pose.zoom
    side = np.repeat([-1.0, 1.0], 6)
    angle = np.tile(np.linspace(-1.3, 1.3, 6), 2) + rng.normal(0, 0.15, 12)
    start = side * 0.15 + 1j * (0.10 * np.sin(angle) + rng.normal(0, 0.02, 12))  # points are x + iy
    for level in range(6):
        end = start + rng.uniform(0.06, 0.13, angle.size) * (side * np.cos(angle) + 1j * np.sin(angle))
        ends = (np.stack([start, end], axis=1) * (b.chest / 0.75) - pose.right - 1j * pose.down) * turn + size * (
            1 + 1j
        )
        for line in ends.view(np.float64).tolist():
            pen.line(line, int(180 * 0.78**level), max(1, round((5 - 0.8 * level) * size / 224)))
        fork = rng.random(angle.size) < 0.5
        bend = rng.uniform(0.1, 0.45, angle.size) * rng.choice([-1, 1], angle.size)
        angle = np.concatenate([angle + bend * 0.6, (angle - bend * 1.3)[fork]])
        side, start = np.concatenate([side, side[fork]]), np.concatenate([end, end[fork]])
    return np.asarray(canvas.reduce(2), dtype=np.float32) / 255


def _expose(film: Field, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Exposure, contrast, grain, vignette and collimation: uint8 in the shape of `film`."""
    tone = film * rng.uniform(0.95, 1.25) + rng.uniform(0.02, 0.08)
    grey = 1 - np.exp(-tone * (0.4 + tone * rng.uniform(1.3, 1.8)))
    grey += rng.uniform(0.006, 0.018) * rng.standard_normal(film.shape, dtype=np.float32)
    line = np.linspace(-1, 1, len(film), dtype=np.float32)
    for along in (line, line[:, None]):  # most films are open to their borders, some show the collimator's edge
        open_ = _edge(along + rng.uniform(0.93, 1.6), 0.04) * _edge(rng.uniform(0.93, 1.6) - along, 0.04)
        grey *= open_ * (1 - rng.uniform(0, 0.1) * along * along)
    return np.clip(grey * 255, 0, 255).astype(np.uint8)
