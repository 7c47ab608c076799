"""The build of a frontal chest film, as sums of attenuation over patient coordinates (see phantoms.py).

x grows to the image's right (the patient's left), y grows downwards, and the frame spans -1 to 1 both ways. Fields are
float arrays of shape (size, size) unless said otherwise.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

_TREES = 64  # kinds of vessel branching: growing a new one for every body would take a tenth of the time

Field = NDArray[np.floating]  # float32 throughout; numpy's stubs lose the width when a float joins in


@dataclass(frozen=True)
class Body:
    """One imaginary patient; lengths are in half image widths, heights grow downwards from the middle of the frame."""

    chest: float  # half width of the rib cage, 0.68 to 0.82
    apex: float  # height of the lung tips, -0.84 to -0.72
    dome: float  # height of the right dome of the diaphragm at mid breath, 0.36 to 0.50
    dome_gap: float  # how much lower the left dome lies, 0.02 to 0.07
    heart: float  # size against the usual, 0.85 to 1.2
    knob: float  # how far the aortic arch bulges, 0.01 to 0.06
    rib_gap: float  # distance between neighbouring ribs, 0.115 to 0.145
    rib_slope: float  # how steeply the ribs fall towards the side, 0.8 to 1.2
    rib_start: float  # height where the first rib leaves the spine
    bone: float  # how strongly bones show, 0.7 to 1.25
    fat: float  # thickness of the soft tissue, 0 (thin) to 1 (heavy)
    shoulder: float  # height of the shoulders at the side, -0.82 to -0.6
    collar: float  # height where the collar bones meet the breastbone
    gas: float  # strength of the stomach's air bubble, 0 to 1
    branches: int  # which of the 64 branchings of vessels, and variations of single ribs


def body(rng: np.random.Generator) -> Body:
    """Draws one patient's anatomy.

    Args:
        rng: source of chance; the same state gives the same body.

    Returns:
        A frozen, hashable `Body`.
    """
    apex = rng.uniform(-0.84, -0.72)
    return Body(
        chest=rng.uniform(0.68, 0.82),
        apex=apex,
        dome=rng.uniform(0.36, 0.50),
        dome_gap=rng.uniform(0.02, 0.07),
        heart=rng.uniform(0.85, 1.2),
        knob=rng.uniform(0.01, 0.06),
        rib_gap=rng.uniform(0.115, 0.145),
        rib_slope=rng.uniform(0.8, 1.2),
        rib_start=apex + rng.uniform(-0.05, 0.03),
        bone=rng.uniform(0.7, 1.25),
        fat=rng.uniform(0.0, 1.0),
        shoulder=rng.uniform(-0.82, -0.6),
        collar=apex + rng.uniform(0.16, 0.26),
        gas=max(0.0, rng.uniform(-0.6, 1.0)),
        branches=int(rng.integers(_TREES)),
    )


@dataclass(frozen=True)
class Pose:
    """How the patient stands: patient = zoom * rotation(turn) * frame + (dx, dy); `yaw` moves heart against ribs."""

    turn: float
    zoom: float
    dx: float
    dy: float
    yaw: float


def pose(rng: np.random.Generator) -> Pose:
    turn = math.radians(min(6.0, max(-6.0, rng.normal(0, 2.2))))
    return Pose(turn, rng.uniform(0.95, 1.12), rng.normal(0, 0.03), rng.normal(0, 0.03), rng.normal(0, 0.025))


def coordinates(pose: Pose, size: int) -> tuple[Field, Field]:
    """Patient coordinates x and y of every pixel, each of shape (size, size)."""
    line = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    c, s = pose.zoom * math.cos(pose.turn), pose.zoom * math.sin(pose.turn)
    return (c * line + pose.dx)[None, :] - (s * line)[:, None], (s * line + pose.dy)[None, :] + (c * line)[:, None]


@cache
def _stretch(small: int, large: int) -> Field:
    """Bicubic interpolation as a matrix of shape (large, small): a product is faster here than resizing an image."""
    return np.asarray(Image.fromarray(np.eye(small, dtype=np.float32)).resize((small, large), Image.Resampling.BICUBIC))


def enlarge(field: Field, size: int) -> Field:
    """A square field, interpolated smoothly to shape (size, size)."""
    matrix = _stretch(field.shape[0], size)
    return matrix @ field @ matrix.T


def halve(field: Field) -> Field:
    """Means of 2 x 2 pixels; the sides are even."""
    rows = field[::2] + field[1::2]
    return (rows[:, ::2] + rows[:, 1::2]) * 0.25


def cloud(rng: np.random.Generator, cells: int, size: int) -> Field:
    """Smooth noise of shape (size, size), about zero mean and unit spread, `cells` grains across."""
    return enlarge(rng.standard_normal((cells, cells), dtype=np.float32), size)


def edge(distance: Field, width: float) -> Field:
    """Soft step: 0 where `distance` < -width/2, 1 where it is > width/2, smooth between."""
    t = distance * (1 / width)
    t += 0.5
    t.clip(0, 1, out=t)
    step = t * -2
    step += 3
    step *= t
    step *= t
    return step


def bump(along: Field, middle: float, width: float) -> Field:
    """Gaussian bump of height 1."""
    t = (along - middle) * (1 / width)
    return np.exp(-t * t)


class Layers:
    """The smooth parts of one breath, at 5/14 of the size (finer is not seen); fields of one square shape.

    Attributes:
        film: attenuation of all but ribs and lung content.
        lungs: 1 inside the lungs, 0 outside, less behind the heart.
        u: distance from the midline, 1 at the rib cage's wall.
        cage: how strongly ribs show at each place.
    """

    def __init__(self, b: Body, pose: Pose, at: tuple[Field, Field], breath: float):
        self.x, self.y = x, y = at
        high = y[:, len(y) // 2, None]  # slow changes over the height need not turn with the pose: a column is cheap
        far = np.abs(x)
        rise = np.clip((0.36 - y) * (1 / (0.45 - b.apex)), 0, 1)
        wall = b.chest * np.sqrt(1 - rise * rise * (0.35 + 0.65 * rise)) * (1 + 0.05 * edge(high - 0.2, 0.8))
        self.u = np.minimum(far / (wall + 0.04), 1.1)
        skin = edge(0.14 * b.fat + 0.9 * b.chest + 0.17 + 0.7 * edge(-0.1 - high, 0.9) - far, 0.06)
        skin *= edge(y - _shoulder(b, far[:1]), 0.12)
        belly = edge(y - _diaphragm(b, x[len(x) * 3 // 4, None]) - breath, 0.04)
        tip = np.clip((b.apex + 0.34 - high) * (1 / 0.34), 0, 1)
        middle_edge = far - (0.09 + 0.24 * (1 - np.sqrt(1 - tip * tip)))
        lungs = edge(wall - far, 0.06) * edge(middle_edge, 0.10) * (1 - belly)
        depth = lungs * (0.22 + 0.08 * edge(wall - far - 0.12, 0.34) + 0.08 * edge(middle_edge - 0.12, 0.36))
        middle = _middle(b, x - pose.yaw, high)
        film = (0.48 + 0.09 * b.fat - 0.11 * far * far) + middle * (1 - 0.8 * belly) - depth + 0.03 * belly
        film += _shoulder_bones(b, far, y, high) + (0.10 + 0.06 * b.fat) * edge(high - 0.2, 1.3)
        if b.gas:
            film -= 0.12 * b.gas * bump(x, 0.33, 0.15) * bump(y, b.dome + b.dome_gap + 0.13, 0.05) * belly
        self.film = film * skin
        self.lungs = lungs * (1 - 0.55 * np.minimum(middle * 5, 1))
        self.cage = edge(1.02 - self.u, 0.12) * edge(self.u - 0.1, 0.2) * (1 - 0.75 * belly) * edge(y - b.apex, 0.2)


def _diaphragm(b: Body, x: Field) -> Field:
    """Height of the diaphragm: two domes falling to the costophrenic angles."""
    u = np.minimum(np.abs(x) * (1 / b.chest), 1.06)
    lateral = np.maximum(u - 0.42, 0)
    fall = 0.2 * np.square(np.maximum(0.42 - u, 0)) + 0.52 * lateral * lateral * (u + 0.1)
    return fall + b.dome + b.dome_gap * edge(x, 0.3)


def _shoulder(b: Body, far: Field) -> Field:
    """Height of the skin above neck and shoulders."""
    slope: Field = np.maximum(far - 0.3, 0)
    return -1.7 + (b.shoulder + 1.42) * edge(far - 0.22, 0.7) + 0.25 * slope * slope


def _middle(b: Body, x: Field, y: Field) -> Field:
    """Mediastinum, heart, windpipe and spine."""
    neck = 0.05 * edge(-0.55 - y, 0.8)
    left = 0.11 + neck + b.heart * 0.11 * bump(y, 0.24, 0.27)
    right = 0.10 + neck + b.knob * bump(y, -0.32, 0.08) + 0.05 * bump(y, -0.08, 0.13)
    right += b.heart * 0.34 * bump(y, 0.36, 0.26)
    film = edge(x + left, 0.08) * edge(right - x, 0.10) * (0.10 + 0.16 * edge(y + 0.05, 0.7)) * edge(0.75 - y, 0.6)
    film += 0.06 * bump(x, 0.10, 0.18) * bump(y, 0.28, 0.26)
    beat = np.cos(y * (2 * math.pi / b.rib_gap / 1.05) + 1.0)
    film += bump(x, 0, 0.10) * (0.045 + 0.018 * beat * b.bone)
    film -= 0.10 * bump(x, -0.012, 0.05) * edge(-0.2 - y, 0.25)
    return film


def _shoulder_bones(b: Body, far: Field, y: Field, high: Field) -> Field:
    """Collar bones, shoulder blades and upper arms."""
    rise = b.collar - far * (0.36 - 0.20 * far)
    t = (y - rise) / (0.024 + 0.014 * far)
    t *= t
    film: Field = 0.10 * np.exp(-t * t) * edge(far - 0.12, 0.1) * edge(0.9 - far, 0.3)
    blade = far - 0.80 * b.chest - 0.10 - 0.25 * (y - b.shoulder - 0.4)
    film += 0.05 * edge(blade, 0.06) * edge(0.25 - np.abs(high - b.shoulder - 0.45), 0.2)
    arm = far - 1.03 - 0.12 * edge(high - b.shoulder - 0.3, 0.4)
    film += 0.10 * edge(arm + 0.10, 0.1) * edge(high - b.shoulder - 0.08, 0.15) * edge(b.shoulder + 0.5 - high, 0.5)
    return film * b.bone


@cache
def _rib_profile(branches: int) -> Field:
    """Brightness across the ribs, 256 steps for each of 14: soft plateaus with brighter rims, none quite alike."""
    rng = np.random.default_rng(branches)
    t = np.linspace(-0.5, 0.5, 256, dtype=np.float32) + rng.uniform(-0.05, 0.05, (14, 1)).astype(np.float32)
    ribs: Field = 0.7 * edge(0.22 - np.abs(t), 0.16) + 0.2 * bump(t, -0.19, 0.06) + 0.4 * bump(t, 0.19, 0.05)
    ribs *= rng.uniform(0.7, 1.15, (14, 1)).astype(np.float32)
    ribs[[0, -1]] = 0  # what lies beyond the first and the last rib
    return ribs.ravel()


def ribs(b: Body, pose: Pose, layers: Layers, size: int) -> Field:
    """Ribs at full size: posterior arcs falling outwards, fainter anterior ones falling inwards."""
    u, cage, x, y = (halve(field) for field in (layers.u, layers.cage, layers.x, layers.y))
    level = (y + 0.3 * pose.yaw * x - b.rib_start + b.rib_gap) * (256 / b.rib_gap)
    slope = 256 * b.rib_slope / b.rib_gap
    back = enlarge(level - slope * (u * u * (0.28 + 0.16 * u * u) - 0.10 * u), size)
    front = enlarge(level - slope * (0.34 + 0.36 * (1 - u)), size)
    profile = _rib_profile(b.branches)
    film = profile.take(back.astype(np.intp), mode="clip")
    film *= enlarge(cage * ((0.075 - 0.025 * u) * b.bone), size)
    arcs = profile.take(front.astype(np.intp), mode="clip")
    arcs *= enlarge(cage * (0.045 * b.bone * edge(u - 0.62, 0.6)), size)
    film += arcs
    return film


Twigs = list[tuple[Field, float, int]]


@cache
def _tree(branches: int) -> Twigs:
    """Lung vessels as straight twigs: float32 ends x, y of shape (2n, 2), width and tone, thinnest first."""
    rng = np.random.default_rng(branches)
    side = np.repeat([-1.0, 1.0], 6)
    angle = np.tile(np.linspace(-1.3, 1.3, 6), 2) + rng.normal(0, 0.15, 12)
    at = np.stack([side * 0.15, 0.10 * np.sin(angle) + rng.normal(0, 0.02, 12)])
    twigs: Twigs = []
    for level in range(6):
        step = rng.uniform(0.06, 0.13, angle.size)
        to = at + step * np.stack([side * np.cos(angle), np.sin(angle)])
        ends = np.concatenate([at, to]).T.reshape(-1, 2).astype(np.float32)
        twigs.append((ends, 5 - 0.8 * level, int(180 * 0.78**level)))
        fork = rng.random(angle.size) < 0.7
        bend = rng.uniform(0.1, 0.45, angle.size) * rng.choice([-1, 1], angle.size)
        angle = np.concatenate([angle + bend * 0.6, (angle - bend * 1.3)[fork]])
        side, at = np.concatenate([side, side[fork]]), np.concatenate([to, to[:, fork]], axis=1)
        keep = rng.random(angle.size) < 0.82
        angle, side, at = angle[keep], side[keep], at[:, keep]
    return twigs[::-1]


def vessels(b: Body, pose: Pose, size: int) -> Field:
    """Vessels branching out of both hila, shape (size, size), 0 to 255, drawn at double size against jagged lines."""
    canvas = Image.new("L", (2 * size, 2 * size))
    pen = ImageDraw.Draw(canvas)
    c, s = math.cos(pose.turn) / pose.zoom * size, math.sin(pose.turn) / pose.zoom * size
    turn = np.array([[c, -s], [s, c]], dtype=np.float32)
    shift, reach = np.array([pose.dx, pose.dy], dtype=np.float32), np.float32(b.chest / 0.75)
    for ends, width, tone in _tree(b.branches):
        places = (ends * reach - shift) @ turn + np.float32(size)
        thick = max(1, round(width * size / 224))
        for line in places.reshape(-1, 4).tolist():
            pen.line(line, tone, thick)
    return np.asarray(canvas.reduce(2), dtype=np.float32)
