"""Synthetic phantoms, for trying the software, not for medicine: drawings with the build of a frontal chest film.

The film is a sum of attenuations (0 = air, about 1 = spine). Anatomy comes from a `Body`; what changes from one exposure
to the next (pose, breath, exposure, grain) is drawn per image, alike for every class.
"""

import numpy as np
from numpy.typing import NDArray

from cxr_core.data import anatomy
from cxr_core.data.anatomy import Body, Field, Layers, bump, cloud, edge, enlarge
from cxr_core.errors import BadInput, UnknownName

CLASSES = ("normal", "viral", "bacterial")
MIN_SIZE = 32


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
    person = body if body is not None else anatomy.body(rng)
    pose = anatomy.pose(rng)
    layers = Layers(person, pose, anatomy.coordinates(pose, size * 5 // 28 * 2), rng.normal(0, 0.025))
    content, vessels = _content(label, rng, layers)
    film = enlarge(layers.film + content, size)
    film += anatomy.ribs(person, pose, layers, size)
    film += enlarge(vessels, size) * anatomy.vessels(person, pose, size)
    return _expose(film, rng)


def _content(label: str, rng: np.random.Generator, layers: Layers) -> tuple[Field, Field]:
    """What fills the lungs (hilar and uneven haze, the label's finding), and how strongly vessels show."""
    x, y, lungs = layers.x, layers.y, layers.lungs
    size = len(x)
    haze = 0.08 * bump(np.abs(x), 0.17, 0.13) * bump(y, 0.02, 0.19)
    haze += 0.012 * cloud(rng, 8, size) + 0.009 * cloud(rng, size * 3 // 5, size)
    vessels = lungs * (0.13 / 255)
    if label == "viral":
        haze += _net(rng, size)
    elif label == "bacterial":
        patch = _patch(rng, x, y)
        haze += patch
        vessels *= 1 - 7 * patch  # airways stay dark where the lung around them is filled
    return haze * lungs, vessels


def _net(rng: np.random.Generator, size: int) -> Field:
    """A diffuse fine net with haze over both lungs, shape (size, size)."""
    where: Field = np.clip(0.8 + 0.4 * cloud(rng, 6, size), 0.15, 1.5) * rng.uniform(0.7, 1.3)
    lines: Field = np.maximum(1 - 1.6 * np.abs(cloud(rng, min(40, size), size)), 0)
    lines += np.maximum(1 - 1.6 * np.abs(cloud(rng, min(64, size), size)), 0)
    return where * (0.02 + 0.085 * lines)


def _patch(rng: np.random.Generator, x: Field, y: Field) -> Field:
    """One dense fluffy patch in one lobe, in the shape of `x`."""
    severity = rng.uniform(0.7, 1.3)
    side = 1 if rng.random() < 0.5 else -1
    cx, cy = side * rng.uniform(0.28, 0.55), rng.uniform(-0.45, 0.38)
    rx, ry = rng.uniform(0.15, 0.30), rng.uniform(0.13, 0.26)
    away = np.sqrt(np.square((x - cx) * (1 / rx)) + np.square((y - cy) * (1 / ry)))
    fluff = 0.30 * cloud(rng, 9, len(x)) + 0.16 * cloud(rng, 22, len(x))
    return severity * 0.26 * edge(0.9 - away + fluff, 1.3)


def _expose(film: Field, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Exposure, contrast, grain, vignette and collimation; uint8 in the shape of `film`."""
    size = len(film)
    tone = film * rng.uniform(0.95, 1.25)
    tone += rng.uniform(0.02, 0.08)
    passed = tone * -rng.uniform(1.3, 1.8)  # the share of light that a film this dense lets through is exp(passed)
    passed -= 0.4
    passed *= tone
    np.exp(passed, out=passed)
    grain = rng.uniform(0.006, 0.018) / 74  # 74 is the spread of a random byte
    tone = np.frombuffer(rng.bytes(size * size), np.uint8).reshape(size, size).astype(np.float32)
    tone *= grain
    tone -= passed
    tone += 1 - 127.5 * grain
    line = np.linspace(-1, 1, size, dtype=np.float32)
    shutter = rng.uniform(0.93, 1.6, 4)  # most films are open to their borders, some show the collimator's edge
    across = (1 - rng.uniform(0, 0.1) * line * line) * edge(line + shutter[0], 0.04) * edge(shutter[1] - line, 0.04)
    down = (1 - rng.uniform(0, 0.1) * line * line) * edge(line + shutter[2], 0.04) * edge(shutter[3] - line, 0.04)
    tone *= across
    tone *= (down * 255)[:, None]
    np.clip(tone, 0, 255, out=tone)
    return tone.astype(np.uint8)
