"""Whether an upload may be answered at all: is it a frontal chest X-ray, upright, and like those that the network knows?

    <run>/input_check.npz    what was learned from the run's own training images; `python -m cxr_core export RUN` makes it again

    gate = InputCheck.fit(train, val);  gate.save(path);  InputCheck.load(path).findings([CheckInput(grey, colour, 180)]) ─► remarks

OODDetector (ood.py) finds what is no such X-ray; greys, size and shape are looked at besides. What it cannot find: mirrored
images, and lateral views with certainty, since no training set here marks any. It tells nothing about the answer itself.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cxr_core import images, workspace
from cxr_core.errors import WorkFailed
from cxr_core.inference.input_check import ood
from cxr_core.inference.input_check.ood import OODDetector, Pixels
from cxr_core.inference.input_check.synthetic_negatives import SIDE, Greys, Random

Floats = npt.NDArray[np.float32]

_SEED = 20
_FEWEST = 60  # validation images; with fewer, training images stand in for them
_MOST = 800
_MOST_SIDE = 4096  # of a network's input
_LEAST_SIDE = 32  # pixels; fewer show no lungs
_LONG, _VERY_LONG = 2.5, 4.0  # one side to the other; chest X-rays of the widest known set reach 3.4
_TINTED, _COLOURFUL = 0.02, 0.06
_EVEN = 8  # grey values from the darkest to the brightest hundredth
_LEAD = 1.5  # by how much a turned view must look more like an X-ray than the image as it came

_DAMAGES = (
    OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class CheckInput:
    """An image as a gate is shown it.

    Attributes:
        grey: uint8 (H, W), as `images.read` gives it.
        colour: of the file, see `images.colour`.
        size: side of the network's input in pixels.
    """

    grey: Pixels
    colour: float
    size: int


@dataclass(frozen=True)
class Finding:
    """One thing about an image.

    Attributes:
        kind: "no_xray", "strange", "turned", "negative", "colour", "dark", "bright", "flat", "small" or "shape"; of a file's
            own words "modality", "part", "view" or "frames".
        refuses: whether no answer is given; else it is a warning.
        text: what was seen, what was expected, what to do.
    """

    kind: str
    refuses: bool
    text: str


_OTHER_MODALITIES = (
    "BMD", "CT", "DG", "ECG", "EPS", "ES", "GM", "IO", "IVOCT", "IVUS", "KER", "LS", "MG", "MR", "NM", "OCT", "OP", "OPM",
    "OPT", "OPV", "PT", "PX", "RF", "SM", "TG", "US", "VA", "XA", "XC",
)  # fmt: skip  # of DICOM PS3.3 C.7.3.1.1.1: none of them is a radiograph
_CHESTS = ("CHEST", "THORAX", "LUNG", "RIB", "HEART")
_LATERAL = ("LL", "RL", "LLD", "RLD", "LLO", "RLO", "LATERAL")


def header_findings(facts: Mapping[str, str], frames: int = 1) -> tuple[Finding, ...]:
    """What the header of a DICOM file says against it.

    Args:
        facts: as `dicom.facts` tells them.
        frames: that it has, of which the first is answered; 1 where a person chose.
    """
    found = []
    modality, part, view = (facts.get(name, "").upper() for name in ("Modality", "Body part", "View"))
    if modality in _OTHER_MODALITIES:
        said = f"The file says that it is no radiograph (modality {modality}). A chest X-ray was expected (CR or DX). Upload one."
        found.append(Finding("modality", True, said))
    if part and not any(one in part for one in _CHESTS):
        found.append(
            Finding("part", False, f"The file says that it shows another part of the body ({part}), not a chest.")
        )
    if view in _LATERAL:
        found.append(
            Finding("view", False, f"The file says that it is a view from the side ({view}). Expected: PA or AP.")
        )
    if frames > 1:
        found.append(Finding("frames", False, f"The file holds {frames} images; this is the answer for the first."))
    return tuple(found)


def combine(said: Sequence[Sequence[Finding]]) -> tuple[Finding, ...]:
    """One verdict of the gates of several networks: what at least half of them refuse is refused, the gravest remark first.

    What fewer refuse, or at least half remark on, is a warning.
    """
    refusing = [one for each in said for one in each if one.refuses]
    gates = sum(any(one.refuses for one in each) for each in said)
    if refusing and 2 * gates < len(said):
        return tuple(replace(one, refuses=False) for one in _each_once(refusing))
    if not refusing and 2 * sum(bool(each) for each in said) < len(said):
        return ()
    every = sorted((one for each in said for one in each), key=lambda one: not one.refuses)
    return tuple(_each_once(every))


def _each_once(remarks: Sequence[Finding]) -> list[Finding]:
    found: dict[str, Finding] = {}
    for one in remarks:
        found.setdefault(one.kind, one)
    return [*found.values()]


@dataclass(frozen=True)
class Limits:
    """Of what the run's own images reach; see `_limits`.

    Attributes:
        warns, refuses: an image is remarked on below this likeness.
        far, too_far: and above this distance.
        dark, bright, flat: mean grey below, mean grey above, and spread of the greys below which an image is remarked on.
    """

    warns: float
    refuses: float
    far: float
    too_far: float
    dark: float
    bright: float
    flat: float


@dataclass(frozen=True)
class InputCheck:
    """Fitted once per run.

    Attributes:
        side: of the images that it was fitted on, in pixels; every upload is brought to it first.
        learned: what X-rays look like.
        limits: from where on an image is remarked on.
    """

    side: int
    learned: OODDetector
    limits: Limits

    @classmethod
    def fit(cls, train: Pixels, val: Pixels) -> "InputCheck":
        """Learn from a run's images; the same images give the same gate.

        Args:
            train: uint8 (n, S, S), may lie on disk; of many images some are drawn.
            val: uint8 (m, S, S), for the limits; where there are few, a part of `train` is held out for them.
        """
        rng = np.random.default_rng(_SEED)
        greys, held = ood.drawn(train, ood.LEARNED, rng), ood.drawn(val, _MOST, rng)
        if len(held) < _FEWEST:
            part = max(1, len(greys) // 6)
            order = rng.permutation(len(greys))
            held, greys = np.concatenate([held, greys[order[:part]]]), greys[order[part:]]
        learned = OODDetector.fit(greys, rng)
        return cls(int(train.shape[1]), learned, _limits(learned, greys, held, rng))

    def save(self, path: Path) -> None:
        """Write it whole or not at all.

        Raises:
            WorkFailed: the disk is full or the folder cannot be written.
        """
        told: dict[str, Any] = {"side": self.side, "limits": np.array(list(vars(self.limits).values()))}
        for name, array in self.learned.arrays().items():
            told[name] = array.astype(np.float16) if name == "axes" else array
        out = io.BytesIO()
        np.savez_compressed(out, **told)
        workspace.write_bytes(path, out.getvalue())

    @classmethod
    def load(cls, path: Path) -> "InputCheck":
        """Read what `save` wrote.

        Raises:
            WorkFailed: the file is missing or damaged.
        """
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                limits = Limits(*map(float, arrays["limits"]))
                side = int(arrays["side"])
                learned = OODDetector.of(arrays)
        except _DAMAGES as error:
            raise WorkFailed(
                f"{path} is missing or damaged. To make it again: python -m cxr_core export RUN"
            ) from error
        if not (1 <= side <= _MOST_SIDE and all(np.isfinite(list(vars(limits).values())))):
            raise WorkFailed(f"{path} is missing or damaged. To make it again: python -m cxr_core export RUN")
        return cls(side, learned, limits)

    def check(self, grey: Pixels, *, colour: float = 0.0, size: int) -> tuple[Finding, ...]:
        """What there is to say of one image; see `findings`."""
        return self.findings([CheckInput(grey, colour, size)])[0]

    def findings(self, shown: Sequence[CheckInput]) -> list[tuple[Finding, ...]]:
        """What there is to say of each image, those that refuse first; nothing for most chest X-rays.

        Many at once take less time each.
        """
        views = ood.reduced(np.stack([images.prepare(one.grey, self.side) for one in shown]))
        alike, distance = self.learned.views(views)
        every = []
        for place, one in enumerate(shown):
            found, spread = _at_first_sight(one, views[place])
            if not any(one.refuses and one.kind != "colour" for one in found):
                found += [*self._alike(alike[:, place], float(distance[0, place])), *self._lit(views[place], spread)]
            every.append(tuple(sorted(found, key=lambda one: not one.refuses)))
        return every

    def _alike(self, alike: Floats, distance: float) -> list[Finding]:
        """Of the likeness as it came, in three turns and as a negative, (5,): at most one remark, on what the image shows."""
        upright, turned, negative = float(alike[0]), float(alike[1:4].max()), float(alike[4])
        limits = self.limits
        refused = upright < limits.refuses or distance > limits.too_far
        if turned > max(limits.warns, upright + _LEAD):
            way = ("on its side", "upside down", "on its side")[int(alike[1:4].argmax())]
            return [
                Finding(
                    "turned", refused, f"The image seems to lie {way}. Expected: head up. Turn it and upload it again."
                )
            ]
        if upright >= limits.warns and distance <= limits.far:
            return []
        if negative > max(limits.warns, upright + _LEAD):
            return [Finding("negative", refused, _NEGATIVE)]
        return [Finding("no_xray", True, _NO_XRAY) if refused else Finding("strange", False, _STRANGE)]

    def _lit(self, view: Greys, spread: float) -> list[Finding]:
        """Of float32 (SIDE, SIDE) and from its darkest to its brightest hundredth: at most one remark, on its greys."""
        mean, limits = float(view.mean()), self.limits
        if mean < limits.dark:
            seen = f"very dark: its mean grey is {mean:.0f} of 255, and at least {limits.dark:.0f} in {_LIKE}"
            return [Finding("dark", False, f"The image is {seen}. Check its exposure or window.")]
        if mean > limits.bright:
            seen = f"very bright: its mean grey is {mean:.0f} of 255, and at most {limits.bright:.0f} in {_LIKE}"
            return [Finding("bright", False, f"The image is {seen}. Check its exposure or window.")]
        if spread < limits.flat:
            seen = f"washed out: its greys span {spread:.0f} of 255, and at least {limits.flat:.0f} in {_LIKE}"
            return [Finding("flat", False, f"The image is {seen}. Check its exposure or window.")]
        return []


def basic_findings(shown: Sequence[CheckInput]) -> list[tuple[Finding, ...]]:
    """What can be said where a run has no gate, as `InputCheck.findings`; UNCHECKED says what cannot."""
    every = []
    for image in shown:
        found, _ = _at_first_sight(image, ood.reduced(images.prepare(image.grey, 2 * SIDE)[None])[0])
        every.append(tuple(sorted(found, key=lambda one: not one.refuses)))
    return every


def _at_first_sight(shown: CheckInput, view: Greys) -> tuple[list[Finding], float]:
    """Remarks that need no training images, and how far the greys of the view span."""
    found = _frame(shown.grey, shown.size)
    low, high = np.percentile(view, (1, 99))
    if high - low < _EVEN:
        even = "The image is one even tone and shows no body. A chest X-ray was expected. Check the file."
        found.append(Finding("flat", True, even))
    if shown.colour > _TINTED:
        much = shown.colour > _COLOURFUL
        found.append(Finding("colour", much, _COLOUR_TEXT[much]))
    return found, float(high - low)


def _frame(grey: Pixels, size: int) -> list[Finding]:
    """Remarks on height and width."""
    height, width = grey.shape
    shorter, longer = sorted((height, width))
    measures = f"The image has {width:,} × {height:,} pixels"
    if shorter < _LEAST_SIDE:
        return [
            Finding(
                "small",
                True,
                f"{measures}, too few to see lungs. At least {_LEAST_SIDE} on each side are needed. Upload the original.",
            )
        ]
    found = []
    if longer > _LONG * shorter:
        refuses = longer > _VERY_LONG * shorter
        found.append(
            Finding(
                "shape",
                refuses,
                f"{measures}, a narrow strip. A whole chest is about as wide as it is high. Upload the whole image.",
            )
        )
    if shorter < size:
        found.append(
            Finding(
                "small",
                False,
                f"{measures}, fewer than the {size} × {size} that the network looks at. Upload the original if there is one.",
            )
        )
    return found


def _limits(learned: OODDetector, greys: Greys, held: Greys, rng: Random) -> Limits:
    """From the images held out, as they are and as a hand turns or a machine exposes them a little differently."""
    plain, far = learned.scores(held)
    copies = max(1, -(-200 // len(held)))
    varied = np.concatenate([_slightly(held, rng) for _ in range(copies)])
    alike, distance = learned.scores(varied)
    all_of = np.concatenate([greys, held])
    means = all_of.mean(axis=(1, 2))
    spread = np.subtract(*np.percentile(all_of.reshape(len(all_of), -1), (99, 1), axis=1))
    refuses = float(np.clip(min(np.quantile(alike, 0.003), plain.min()) - 0.7, -2.5, 0.5))
    return Limits(
        warns=float(np.clip(np.quantile(plain, 0.01), refuses + 0.5, 3.0)),
        refuses=refuses,
        far=float(np.quantile(far, 0.995) * 1.03),
        too_far=float(min(max(np.quantile(distance, 0.999), far.max()) * 1.15, np.quantile(distance, 0.99) * 1.5)),
        dark=float(np.quantile(means, 0.005) * 0.8),
        bright=float(255 - (255 - np.quantile(means, 0.995)) * 0.8),
        flat=float(np.quantile(spread, 0.005) * 0.7),
    )


def _slightly(greys: Greys, rng: Random) -> Greys:
    """Turned by up to 4 degrees, exposed by up to a third more or less."""
    found = np.stack([ndimage.rotate(grey, rng.uniform(-4, 4), reshape=False, order=1) for grey in greys])
    return np.clip(found * rng.uniform(0.67, 1.33, (len(found), 1, 1)), 0, 255).astype(np.float32)


_LIKE = "the images that the network has learned from"
_NO_XRAY = "The image does not look like a frontal chest X-ray. Only such images can be answered. Upload one."
_STRANGE = f"The image looks unlike {_LIKE}. The answer may be wrong: check that it is a frontal chest X-ray, upright and whole."
UNCHECKED = (
    "This run cannot tell whether an image is a chest X-ray at all: it has learned from too few images, or its input check is "
    "missing (python -m cxr_core export RUN makes it again)."
)
_NEGATIVE = "The image seems to be a negative, with dark bones. Expected: bright bones. Invert it and upload it again."
_COLOUR_TEXT = (
    "The image is tinted or has coloured marks. A grey X-ray was expected. Upload the original if there is one.",
    "The image is in colour. A chest X-ray is grey. Upload an X-ray.",
)
