"""Synthetic phantoms, for trying the software, not for medicine: drawings with the build of a frontal chest film.

The film is a sum of attenuations (0 = air, about 1 = spine) over patient coordinates: x grows to the image's right
(the patient's left), y grows downwards, and the frame spans -1 to 1 both ways. Anatomy comes from a `Body`; what
changes from one exposure to the next (pose, breath, exposure, grain) is drawn per image, alike for every class.
"""

import math
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cxr_core.errors import BadInput, UnknownName

CLASSES = ("normal", "viral", "bacterial")
MIN_SIZE = 32

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Body:
    """One imaginary patient; lengths are in half image widths.

    Attributes:
        chest: half width of the rib cage, about 0.68 to 0.82.
        apex: y of the lung tips, about -0.84 to -0.72.
        dome: y of the right dome of the diaphragm at mid breath, about 0.36 to 0.50.
        dome_gap: how much lower the left dome lies, 0.02 to 0.07.
        heart: heart size, 0.85 to 1.2 of the usual.
        knob: how far the aortic arch bulges, 0.01 to 0.06.
        rib_gap: distance between neighbouring ribs, about 0.115 to 0.145.
        rib_slope: how steeply the ribs fall towards the side, 0.8 to 1.2.
        rib_start: y where the first rib leaves the spine.
        bone: how strongly bones show, 0.7 to 1.25.
        fat: thickness of the soft tissue, 0 (thin) to 1 (heavy).
        shoulder: y of the shoulders' top at the side, about -0.82 to -0.6.
        collar: y where the collar bones meet the breastbone.
        gas: strength of the stomach's air bubble, 0 to 1.
        branches: seed of the lung vessels' branching.
    """

    chest: float
    apex: float
    dome: float
    dome_gap: float
    heart: float
    knob: float
    rib_gap: float
    rib_slope: float
    rib_start: float
    bone: float
    fat: float
    shoulder: float
    collar: float
    gas: float
    branches: int


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
        branches=int(rng.integers(2**32)),
    )


def phantom(label: str, rng: np.random.Generator, *, size: int = 224, body: Body | None = None) -> NDArray[np.uint8]:
    """Draws one synthetic phantom, for trying the software, not for medicine.

    Args:
        label: one of `CLASSES`: clear lungs, a fine net over both lungs, or one dense patch in one lobe.
        rng: source of chance; the same state gives the same bytes.
        size: side of the square image in pixels, at least `MIN_SIZE`.
        body: the patient; a new one is drawn from `rng` when it is absent.

    Returns:
        uint8 array of shape (size, size), 0 (air) to 255 (dense).

    Raises:
        UnknownName: `label` is not among `CLASSES`.
        BadInput: `size` is below `MIN_SIZE`.
    """
    if label not in CLASSES:
        raise UnknownName("class", label, CLASSES)
    if size < MIN_SIZE:
        raise BadInput(f"A phantom is at least {MIN_SIZE} pixels wide, and {size} were asked for.")
    person = body if body is not None else _new_body(rng)
    pose = _pose(rng)
    layers = _Layers(person, pose, _coordinates(pose, size // 2), rng.normal(0, 0.025))
    film = _enlarge(layers.film, size)
    lungs = _enlarge(layers.lungs, size)
    film += _ribs(person, pose, layers, size)
    film += lungs * _content(label, rng, layers, _vessels(person, pose, size))
    return _expose(film, rng)


_new_body = body  # `phantom` has an argument of the same name


# --- tools -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pose:
    """How the patient stands in the frame: patient = zoom * rotation(turn) * frame + (dx, dy); `yaw` moves the middle."""

    turn: float
    zoom: float
    dx: float
    dy: float
    yaw: float


def _pose(rng: np.random.Generator) -> _Pose:
    turn = math.radians(min(6.0, max(-6.0, rng.normal(0, 2.2))))
    return _Pose(turn, rng.uniform(0.95, 1.12), rng.normal(0, 0.03), rng.normal(0, 0.03), rng.normal(0, 0.025))


def _coordinates(pose: _Pose, size: int) -> tuple[Field, Field]:
    """Patient coordinates x and y of every pixel, each of shape (size, size)."""
    line = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    c, s = pose.zoom * math.cos(pose.turn), pose.zoom * math.sin(pose.turn)
    return (c * line + pose.dx)[None, :] - (s * line)[:, None], (s * line + pose.dy)[None, :] + (c * line)[:, None]


@cache
def _stretch(small: int, large: int) -> Field:
    """Bicubic interpolation as a matrix of shape (large, small): a product is faster here than resizing an image."""
    return np.asarray(Image.fromarray(np.eye(small, dtype=np.float32)).resize((small, large), Image.Resampling.BICUBIC))


def _enlarge(field: Field, size: int) -> Field:
    """A square field, interpolated smoothly to shape (size, size)."""
    matrix = _stretch(field.shape[0], size)
    return matrix @ field @ matrix.T


def _cloud(rng: np.random.Generator, cells: int, size: int) -> Field:
    """Smooth noise of shape (size, size), about zero mean and unit spread, `cells` grains across."""
    return _enlarge(rng.standard_normal((cells, cells), dtype=np.float32), size)


def _edge(distance: Field, width: float) -> Field:
    """Soft step: 0 where `distance` < -width/2, 1 where it is > width/2, smooth between."""
    t = distance * (1 / width)
    t += 0.5
    np.maximum(t, 0, out=t)
    np.minimum(t, 1, out=t)
    return t * t * (3 - 2 * t)


def _bump(along: Field, middle: float, width: float) -> Field:
    """Gaussian bump of height 1."""
    t = (along - middle) * (1 / width)
    return np.exp(-t * t)


# --- anatomy ---------------------------------------------------------------------------------------------------------


class _Layers:
    """The smooth parts of one breath, at half size; float32 fields of one square shape.

    Attributes:
        film: attenuation of all but ribs and lung content.
        lungs: 1 inside the lungs, 0 outside, less behind the heart.
        u: distance from the midline, 1 at the rib cage's wall.
        cage: how strongly ribs show at each place.
    """

    def __init__(self, b: Body, pose: _Pose, at: tuple[Field, Field], breath: float):
        self.x, self.y = x, y = at
        far = np.abs(x)
        rise = np.clip((0.36 - y) * (1 / (0.36 - b.apex)), 0, 1)
        wall = b.chest * np.sqrt(1 - rise * rise * (0.4 + 0.6 * rise)) * (1 + 0.05 * _edge(y - 0.2, 0.8))
        self.u = np.minimum(far / (wall + 0.04), 1.1)
        under = _diaphragm(b, x, far) + breath
        skin = _edge(0.14 * b.fat + 0.9 * b.chest + 0.17 + 0.7 * _edge(-0.1 - y, 0.9) - far, 0.05)
        skin *= _edge(y - _shoulder(b, far), 0.09)
        belly = _edge(y - under, 0.035)
        inner = 0.08 + 0.30 * np.maximum(b.apex + 0.26 - y, 0) ** 2 * 15
        lungs = _edge(wall - far, 0.05) * _edge(far - inner, 0.09) * (1 - belly)
        depth = lungs * (0.55 + 0.20 * _edge(wall - far - 0.1, 0.3) + 0.25 * _edge(far - inner - 0.1, 0.3))
        middle = _middle(b, x - pose.yaw, y)
        film = (0.40 + 0.10 * b.fat) * (1.08 - 0.22 * far * far) + middle + _shoulder_bones(b, far, y)
        film += 0.05 * _bump(y, 0.25, 0.35) * b.fat
        film += belly * (0.17 - middle * 0.75 + 0.10 * _edge(y - under - 0.2, 0.6))
        film -= depth * 0.36
        film -= 0.13 * b.gas * _bump(x, 0.33, 0.15) * _bump(y, b.dome + b.dome_gap + 0.13, 0.05) * belly
        self.film = film * skin
        self.lungs = lungs * (1 - 0.55 * np.minimum(middle * 5, 1))
        self.cage = _edge(1.02 - self.u, 0.1) * _edge(self.u - 0.1, 0.2) * (1 - 0.75 * belly) * _edge(y - b.apex, 0.2)


def _diaphragm(b: Body, x: Field, far: Field) -> Field:
    """Height of the diaphragm: two domes falling to the costophrenic angles."""
    u = np.minimum(far * (1 / b.chest), 1.06)
    lateral = np.maximum(u - 0.42, 0)
    return b.dome + b.dome_gap * _edge(x, 0.3) + 0.30 * np.maximum(0.42 - u, 0) ** 2 + 0.75 * lateral * lateral * (u + 0.1)


def _shoulder(b: Body, far: Field) -> Field:
    """Height of the skin above neck and shoulders."""
    slope = np.maximum(far - 0.3, 0)
    return -1.6 + (b.shoulder + 1.36) * _edge(far - 0.22, 0.5) + 0.28 * slope * slope


def _middle(b: Body, x: Field, y: Field) -> Field:
    """Mediastinum, heart, windpipe and spine."""
    neck = 0.05 * _edge(-0.6 - y, 0.6)
    left = 0.115 + neck + b.heart * 0.10 * _bump(y, 0.24, 0.26)
    right = 0.105 + neck + b.knob * _bump(y, -0.32, 0.08) + 0.05 * _bump(y, -0.08, 0.13)
    right += b.heart * 0.31 * _bump(y, 0.35, 0.25)
    film = _edge(x + left, 0.07) * _edge(right - x, 0.08) * (0.13 + 0.12 * _edge(y, 0.6))
    film += 0.05 * _bump(x, 0.08, 0.17) * _bump(y, 0.28, 0.25)
    beat = np.cos(y * (2 * math.pi / b.rib_gap / 1.05) + 1.0)
    film += _bump(x, 0, 0.09) * (0.085 + 0.02 * beat * b.bone)
    film -= 0.09 * _edge(0.045 - np.abs(x + 0.015), 0.05) * _edge(-0.2 - y, 0.25)
    return film


def _shoulder_bones(b: Body, far: Field, y: Field) -> Field:
    """Collar bones, shoulder blades and upper arms."""
    rise = b.collar - far * (0.36 - 0.20 * far)
    t = (y - rise) / (0.024 + 0.014 * far)
    t *= t
    film = 0.10 * np.exp(-t * t) * _edge(far - 0.12, 0.1) * _edge(0.9 - far, 0.3)
    blade = far - 0.80 * b.chest - 0.10 - 0.25 * (y - b.shoulder - 0.4)
    film += 0.05 * _edge(blade, 0.06) * _edge(0.25 - np.abs(y - b.shoulder - 0.45), 0.2)
    arm = far - 1.03 - 0.12 * _edge(y - b.shoulder - 0.3, 0.4)
    film += 0.10 * _edge(arm + 0.10, 0.1) * _edge(y - b.shoulder - 0.08, 0.15) * _edge(b.shoulder + 0.5 - y, 0.5)
    return film * b.bone


@lru_cache(64)
def _rib_profile(branches: int) -> Field:
    """Brightness across the ribs, 256 steps a rib, 14 ribs: soft plateaus with brighter rims, each a little different."""
    rng = np.random.default_rng(branches)
    t = np.tile(np.linspace(-0.5, 0.5, 256, dtype=np.float32), 14)
    t += np.repeat(rng.uniform(-0.05, 0.05, 14).astype(np.float32), 256)
    ribs = 0.7 * _edge(0.22 - np.abs(t), 0.16) + 0.2 * _bump(t, -0.19, 0.06) + 0.4 * _bump(t, 0.19, 0.05)
    ribs[:256] = ribs[-256:] = 0
    return ribs * np.repeat(rng.uniform(0.7, 1.15, 14).astype(np.float32), 256)


def _ribs(b: Body, pose: _Pose, layers: _Layers, size: int) -> Field:
    """Ribs at full size: posterior arcs falling outwards, fainter anterior ones falling inwards."""
    u, cage = layers.u, layers.cage
    level = (layers.y + 0.3 * pose.yaw * layers.x - b.rib_start + b.rib_gap) * (256 / b.rib_gap)
    slope = 256 * b.rib_slope / b.rib_gap
    back = _enlarge(level - slope * (u * u * (0.28 + 0.16 * u * u) - 0.10 * u), size)
    front = _enlarge(level - slope * (0.34 + 0.36 * (1 - u)), size)
    profile = _rib_profile(b.branches)
    film = profile.take(back.astype(np.int32), mode="clip")
    film *= _enlarge(cage * ((0.075 - 0.025 * u) * b.bone), size)
    arcs = profile.take(front.astype(np.int32), mode="clip")
    arcs *= _enlarge(cage * (0.045 * b.bone * _edge(u - 0.62, 0.6)), size)
    film += arcs
    return film


Twigs = list[tuple[Field, int, int]]


@lru_cache(64)
def _tree(branches: int) -> Twigs:
    """Lung vessels as straight twigs: (x0, y0, x1, y1) of shape (n, 4), width and tone, thinnest first."""
    rng = np.random.default_rng(branches)
    side = np.repeat([-1.0, 1.0], 9)
    angle = np.tile(np.linspace(-1.35, 1.4, 9), 2) + rng.normal(0, 0.15, 18)
    at = np.stack([side * 0.16, -0.02 + 0.07 * np.sin(angle)])
    twigs: Twigs = []
    for level in range(7):
        step = rng.uniform(0.05, 0.11, angle.size)
        to = at + step * np.stack([side * np.cos(angle), np.sin(angle)])
        twigs.append((np.concatenate([at, to]).T.astype(np.float32), 7 - level, int(200 * 0.8**level)))
        fork = rng.random(angle.size) < 0.55
        bend = rng.uniform(0.1, 0.45, angle.size) * rng.choice([-1, 1], angle.size)
        angle = np.concatenate([angle + bend * 0.6, (angle - bend * 1.3)[fork]])
        side, at = np.concatenate([side, side[fork]]), np.concatenate([to, to[:, fork]], axis=1)
        keep = rng.random(angle.size) < 0.8
        angle, side, at = angle[keep], side[keep], at[:, keep]
    return twigs[::-1]


def _vessels(b: Body, pose: _Pose, size: int) -> Field:
    """Vessels branching out of both hila, shape (size, size), 0 to 1, drawn at double size against jagged lines."""
    canvas = Image.new("L", (2 * size, 2 * size))
    pen = ImageDraw.Draw(canvas)
    c, s = math.cos(pose.turn) / pose.zoom * size, math.sin(pose.turn) / pose.zoom * size
    turn = np.array([[c, -s], [s, c]], dtype=np.float32)
    for ends, width, tone in _tree(b.branches):
        places = (ends.reshape(-1, 2) - np.float32([pose.dx, pose.dy])) @ turn + np.float32(size)
        for line in places.reshape(-1, 4).tolist():
            pen.line(line, fill=tone, width=max(1, round(width * size / 224)))
    return np.asarray(canvas.reduce(2), dtype=np.float32) * np.float32(1 / 255)


# --- findings --------------------------------------------------------------------------------------------------------


def _content(label: str, rng: np.random.Generator, layers: _Layers, vessels: Field) -> Field:
    """What fills the lungs: vessels, an uneven haze and the label's finding, shape (size, size)."""
    size = vessels.shape[0]
    x, y = layers.x, layers.y
    smooth = 0.07 * _bump(np.abs(x), 0.18, 0.12) * _bump(y, 0.0, 0.17) + 0.012 * _cloud(rng, 8, len(x))
    grain = 0.008 * _cloud(rng, 56, size)
    if label == "viral":
        grain += _net(rng, size, smooth)
    elif label == "bacterial":
        patch = _patch(rng, x, y)
        smooth += patch
        vessels = vessels * (1 - 5 * _enlarge(patch, size))
    return _enlarge(smooth, size) + grain + 0.15 * vessels


def _net(rng: np.random.Generator, size: int, smooth: Field) -> Field:
    """A diffuse fine net over both lungs, shape (size, size); adds its haze to `smooth`."""
    severity = rng.uniform(0.35, 1.0)
    where = np.clip(0.7 + 0.4 * _cloud(rng, 6, len(smooth)), 0.1, 1.5) * severity
    smooth += 0.04 * where
    lines = np.maximum(1 - 2 * np.abs(_cloud(rng, 52, size)), 0)
    lines += np.maximum(1 - 2 * np.abs(_cloud(rng, 84, size)), 0)
    return lines * _enlarge(where * 0.06, size)


def _patch(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """One dense fluffy patch in one lobe, in the shape of `x`."""
    severity = rng.uniform(0.4, 1.0)
    side = 1 if rng.random() < 0.5 else -1
    cx, cy = side * rng.uniform(0.28, 0.55), rng.uniform(-0.45, 0.38)
    rx, ry = rng.uniform(0.15, 0.30), rng.uniform(0.13, 0.26)
    away = np.sqrt(((x - cx) * (1 / rx)) ** 2 + ((y - cy) * (1 / ry)) ** 2)
    fluff = 0.30 * _cloud(rng, 9, len(x)) + 0.16 * _cloud(rng, 22, len(x))
    return severity * 0.26 * _edge(0.9 - away + fluff, 1.3)


# --- exposure --------------------------------------------------------------------------------------------------------


def _expose(film: Field, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Exposure, contrast, grain, vignette and collimation; uint8 in the shape of `film`."""
    size = len(film)
    tone = film * rng.uniform(1.0, 1.3)
    tone += rng.uniform(0.02, 0.09)
    np.maximum(tone, 0, out=tone)
    tone = 1 - np.exp(tone * -(tone * rng.uniform(1.2, 1.8) + 0.5))
    grain = np.frombuffer(rng.bytes(2 * size * size), np.uint8).reshape(2, size, size)
    tone += (grain[0].astype(np.float32) - grain[1]) * (rng.uniform(0.01, 0.025) / 104)
    line = np.linspace(-1, 1, size, dtype=np.float32)
    for shape in ((1, size), (size, 1)):
        tone *= ((1 - rng.uniform(0, 0.1) * line * line) * 255).reshape(shape) if shape[0] == 1 else (
            1 - rng.uniform(0, 0.1) * line * line
        ).reshape(shape)
    np.clip(tone, 0, 255, out=tone)
    return tone.astype(np.uint8)
