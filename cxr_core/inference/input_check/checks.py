"""Check of an input: is it a frontal chest X-ray, upright, and like those that the network has learned from?

    <run>/input_check.npz    fitted on the run's own training images; `python -m cxr_core export RUN` makes it again

    check = InputCheck.fit(train, val);  check.save(path);  InputCheck.load(path).findings([CheckInput(grey, colour, 180)])

OODDetector (ood.py) finds what is no such X-ray; grey values, size and shape are checked besides. Not found: mirrored images,
and lateral views with certainty, since no training set here marks any. It tells nothing about the prediction itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cxr_core import checksums, images, workspace
from cxr_core.data.augment import AugmentationLimits, augmented_view
from cxr_core.errors import DamagedFile, WorkFailed
from cxr_core.inference.input_check import ood
from cxr_core.inference.input_check.ood import OODDetector
from cxr_core.inference.input_check.synthetic_negatives import SIDE, Pixels, Random

_SEED = 20
_MOST_TRAIN, _MOST_VAL = 1500, 800  # images; more take time and change nothing
_FEWEST_VAL = 60  # with fewer, training images stand in for them
_MOST_SIDE = 4096  # of a network's input
_LEAST_SIDE = 32  # pixels; fewer show no lungs
_LONG, _VERY_LONG = 2.5, 4.0  # one side to the other; chest X-rays of the widest known set reach 3.4
_TINTED, _COLOURFUL = 0.02, 0.06
BASIC_SIDE = 2 * SIDE  # pixels of the images that are checked without a fitted check
_EVEN = 8  # grey values from the darkest to the brightest hundredth
_A_LITTLE_CHANGED = AugmentationLimits(
    rotation=4, translation=0, zoom=0, flip=False, brightness=0, contrast=0.3, gamma=0.2
)


@dataclass(frozen=True, eq=False)
class CheckInput:
    """An image to check.

    Attributes:
        grey: uint8 (H, W), as `images.read` gives it, or reduced.
        colour: of the file, see `images.DecodedImage.colourfulness`.
        size: side of the network's input in pixels.
        prepared: the same as `images.prepare` makes it, by side, where that is done already.
        whole_shape: height and width of the image, if `grey` is reduced.
    """

    grey: Pixels
    colour: float
    size: int
    prepared: Mapping[int, Pixels] = field(default_factory=dict)
    whole_shape: tuple[int, int] | None = None

    def thumbnail(self, side: int) -> Pixels:
        """Reduced to uint8 (SIDE, SIDE) by way of `side`, that of the images that a check is fitted on."""
        prepared = self.prepared.get(side)
        return images.prepare(images.prepare(self.grey, side) if prepared is None else prepared, SIDE)


@dataclass(frozen=True)
class Finding:
    """Something about an image that speaks against it.

    Attributes:
        kind: "no_xray", "strange", "turned", "negative", "colour", "dark", "bright", "flat", "small" or "shape"; of a file's
            header "modality", "part", "view" or "frames".
        refuses: whether no prediction is made; else it is a warning.
        text: what was found, what was expected, what to do.
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
    """Findings in the header of a DICOM file.

    Args:
        facts: as `dicom.facts` gives them.
        frames: that it has, of which the first is used; 1 where a person chose.
    """
    findings = []
    modality, part, view = (facts.get(name, "").upper() for name in ("Modality", "Body part", "View"))
    if modality in _OTHER_MODALITIES:
        text = f"The file says that it is no radiograph (modality {modality}). A chest X-ray was expected (CR or DX). Upload one."
        findings.append(Finding("modality", True, text))
    if part and not any(chest in part for chest in _CHESTS):
        text = f"The file says that it shows another part of the body ({part}), not a chest."
        findings.append(Finding("part", False, text))
    if view in _LATERAL:
        text = f"The file says that it is a view from the side ({view}). Expected: PA or AP."
        findings.append(Finding("view", False, text))
    if frames > 1:
        text = f"The file holds {frames} images; this is the answer for the first."
        findings.append(Finding("frames", False, text))
    return tuple(findings)


def combine(findings: Sequence[Sequence[Finding]]) -> tuple[Finding, ...]:
    """Combine the findings of several networks' checks on one image, those that refuse first.

    What at least half of the checks refuse is refused. What fewer refuse, or at least half warn of, is a warning.
    """
    every = sorted((finding for each in findings for finding in each), key=lambda finding: not finding.refuses)
    refusing = sum(any(finding.refuses for finding in each) for each in findings)
    if refusing and 2 * refusing < len(findings):
        every = [replace(finding, refuses=False) for finding in every if finding.refuses]
    if not refusing and 2 * sum(map(bool, findings)) < len(findings):
        return ()
    first_of_kind: dict[str, Finding] = {}
    for finding in every:
        first_of_kind.setdefault(finding.kind, finding)
    return tuple(first_of_kind.values())


@dataclass(frozen=True)
class Limits:
    """Limits of what a run's own images reach; see `_limits`.

    Attributes:
        warns, refuses: margin of an OODPrediction below which an image is warned of, and refused.
        far: distance from the training images above which an image is warned of.
        dark, bright, flat: mean grey below, mean grey above, and span of the greys below which an image is warned of.
    """

    warns: float
    refuses: float
    far: float
    dark: float
    bright: float
    flat: float


@dataclass(frozen=True)
class InputCheck:
    """A fitted check, one per run.

    Attributes:
        side: of the images that it was fitted on, in pixels; every input is brought to it first.
        detector: tells upright chest X-rays from all else.
        limits: from where on an image is warned of, or refused.
    """

    side: int
    detector: OODDetector
    limits: Limits

    @classmethod
    def fit(cls, train: Pixels, val: Pixels) -> "InputCheck":
        """Fit on a run's images; the same images give the same check.

        Args:
            train: uint8 (n, S, S), may lie on disk; of many images some are drawn.
            val: uint8 (m, S, S), for the limits; where there are few, a part of `train` is held out for them.
        """
        rng = np.random.default_rng(_SEED)
        fitted, held_out = _thumbnails(train, _MOST_TRAIN, rng), _thumbnails(val, _MOST_VAL, rng)
        if len(held_out) < _FEWEST_VAL:
            order, part = rng.permutation(len(fitted)), max(1, len(fitted) // 6)
            held_out, fitted = np.concatenate([held_out, fitted[order[:part]]]), fitted[order[part:]]
        detector = OODDetector.fit(fitted, rng)
        return cls(int(train.shape[1]), detector, _limits(detector, fitted, held_out, rng))

    def save(self, path: Path) -> None:
        """Write it whole or not at all.

        Raises:
            WorkFailed: the disk is full or the folder cannot be written.
        """
        detector = self.detector.arrays()
        detector["axes"] = detector["axes"].astype(np.float16)
        arrays = {**detector, "side": np.array(self.side), "limits": np.array(astuple(self.limits))}
        workspace.write_bytes(path, checksums.write_archive(arrays, compressed=True))

    @classmethod
    def load(cls, path: Path) -> "InputCheck":
        """Read what `save` wrote.

        Raises:
            DamagedFile: it is damaged or of an earlier version.
            WorkFailed: it is missing or cannot be read.
        """
        message = (
            f"The input check of run '{path.parent.name}' is missing or damaged, or of an earlier version. To make it again "
            f"from its dataset: python -m cxr_core export {path.parent.name}"
        )
        if not path.is_file():
            raise WorkFailed(message)
        try:
            arrays = checksums.read_archive(workspace.read_bytes(path))
            check = cls(int(arrays["side"]), OODDetector.from_arrays(arrays), Limits(*map(float, arrays["limits"])))
            if not (1 <= check.side <= _MOST_SIDE and np.isfinite(astuple(check.limits)).all()):
                raise ValueError("out of range")
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise DamagedFile(message) from error
        return check

    def check(self, grey: Pixels, *, colour: float = 0.0, size: int) -> tuple[Finding, ...]:
        """Check one image; see `findings`."""
        return self.findings([CheckInput(grey, colour, size)])[0]

    def findings(self, inputs: Sequence[CheckInput]) -> list[tuple[Finding, ...]]:
        """Findings on each image, those that refuse first; none on most chest X-rays. Many at once take less time each."""
        thumbnails = np.stack([image.thumbnail(self.side) for image in inputs])
        spans, means = _spans(thumbnails), thumbnails.mean(axis=(1, 2))
        every = []
        for image, span, mean, *content in zip(inputs, spans, means, *self.detector.predict(thumbnails), strict=True):
            findings = _plain(image, span)
            if not any(finding.refuses and finding.kind != "colour" for finding in findings):
                findings += [*self._on_content(*content), *self._on_exposure(mean, span)]
            every.append(_refusing_first(findings))
        return every

    def _on_content(self, margin: float, position: int, distance: float) -> list[Finding]:
        """At most one finding on what an image shows, by its values of an OODPrediction."""
        refuses = margin < self.limits.refuses
        if position in ood.TURNED:
            text = f"The image seems to lie {ood.CLASSES[position]}. Expected: head up. Turn it and upload it again."
            return [Finding("turned", refuses, text)]
        if position == ood.NEGATIVE:
            return [Finding("negative", refuses, _NEGATIVE)]
        if margin >= self.limits.warns and distance <= self.limits.far:
            return []
        return [Finding("no_xray", True, _NO_XRAY) if refuses else Finding("strange", False, _STRANGE)]

    def _on_exposure(self, mean: float, span: float) -> list[Finding]:
        """At most one finding on the mean and the span of the greys."""
        limits = self.limits
        if mean < limits.dark:
            kind, text = "dark", f"very dark: its mean grey is {mean:.0f} of 255, and at least {limits.dark:.0f}"
        elif mean > limits.bright:
            kind, text = "bright", f"very bright: its mean grey is {mean:.0f} of 255, and at most {limits.bright:.0f}"
        elif span < limits.flat:
            kind, text = "flat", f"washed out: its greys span {span:.0f} of 255, and at least {limits.flat:.0f}"
        else:
            return []
        return [Finding(kind, False, f"The image is {text} in {_LIKE}. Check its exposure or window.")]


def basic_findings(inputs: Sequence[CheckInput]) -> list[tuple[Finding, ...]]:
    """Findings that need no fitted check, as `InputCheck.findings`; UNCHECKED says what they leave out."""
    spans = _spans(np.stack([image.thumbnail(BASIC_SIDE) for image in inputs]))
    return [_refusing_first(_plain(image, span)) for image, span in zip(inputs, spans, strict=True)]


def _refusing_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: not finding.refuses))


def _plain(image: CheckInput, span: float) -> list[Finding]:
    """Findings that need no training images, on size and shape, the `span` of the greys, and colour."""
    height, width = image.whole_shape or image.grey.shape
    findings = _on_shape(height, width, image.size)
    if span < _EVEN:
        even = "The image is one even tone and shows no body. A chest X-ray was expected. Check the file."
        findings.append(Finding("flat", True, even))
    if image.colour > _TINTED:
        refuses = image.colour > _COLOURFUL
        findings.append(Finding("colour", refuses, _COLOUR_TEXT[refuses]))
    return findings


def _on_shape(height: int, width: int, size: int) -> list[Finding]:
    shorter, longer = sorted((height, width))
    has = f"The image has {width:,} × {height:,} pixels"
    if shorter < _LEAST_SIDE:
        text = f"{has}, too few to see lungs. At least {_LEAST_SIDE} on each side are needed. Upload the original."
        return [Finding("small", True, text)]
    findings = []
    if longer > _LONG * shorter:
        text = f"{has}, a narrow strip. A whole chest is about as wide as it is high. Upload the whole image."
        findings.append(Finding("shape", longer > _VERY_LONG * shorter, text))
    if shorter < size:
        text = f"{has}, fewer than the {size} × {size} that the network looks at. Upload the original if there is one."
        findings.append(Finding("small", False, text))
    return findings


def _thumbnails(pixels: Pixels, most: int, rng: Random) -> Pixels:
    """At most so many of the images, read in order since they may lie on disk: uint8 (n, SIDE, SIDE)."""
    positions = np.sort(rng.permutation(len(pixels))[:most])
    thumbnails = [images.prepare(np.array(pixels[position]), SIDE) for position in positions]
    return np.stack(thumbnails) if thumbnails else np.empty((0, SIDE, SIDE), np.uint8)


def _spans(thumbnails: Pixels) -> npt.NDArray[np.float64]:
    """Greys from the darkest to the brightest hundredth: uint8 (n, SIDE, SIDE) to (n,)."""
    low, high = np.percentile(thumbnails.reshape(len(thumbnails), -1), (1, 99), axis=1)
    return np.asarray(high - low)


def _limits(detector: OODDetector, fitted: Pixels, held_out: Pixels, rng: Random) -> Limits:
    """From images held out, as they are and as a hand turns or a machine exposes them a little differently."""
    varied = np.resize(held_out, (max(len(held_out), 200), SIDE, SIDE))
    views = [augmented_view(image, int(rng.integers(2**32)), _A_LITTLE_CHANGED) for image in varied]
    refuses = float(np.clip(np.quantile(detector.predict(np.stack(views)).margin, 0.002), -0.5, 0.5))
    margin, _, distance = detector.predict(held_out)
    every = np.concatenate([fitted, held_out])
    means = every.mean(axis=(1, 2))
    return Limits(
        warns=float(np.clip(np.quantile(margin, 0.01), refuses + 0.1, 0.8)),
        refuses=refuses,
        far=float(np.quantile(distance, 0.99) * 1.3),
        dark=float(np.quantile(means, 0.005) * 0.8),
        bright=float(255 - (255 - np.quantile(means, 0.995)) * 0.8),
        flat=float(np.quantile(_spans(every), 0.005) * 0.7),
    )


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
