"""Ask runs about images: networks stay warm, many images go through together, and an answer says how far to trust it.

    files ── seen, ahead of the network ──► panel of one or more networks ──► Answer

A run answers by its exported network, without Keras; where it has not been exported yet, a process of its own does that
once, and where it cannot be, Keras is loaded into this process and answers itself.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from cxr_core import images, process, workspace
from cxr_core.errors import BadInput, CxrError
from cxr_core.evaluation import ensembles, rule_store
from cxr_core.evaluation.decision_rule import DecisionRule, decide
from cxr_core.evaluation.ensembles import Ensemble
from cxr_core.images import DecodedImage
from cxr_core.inference import model_cache
from cxr_core.inference.input_check.checks import (
    UNCHECKED,
    CheckInput,
    Finding,
    InputCheck,
    basic_findings,
    combine,
    header_findings,
)
from cxr_core.inference.litert_model import CHUNK, LiteRTModel
from cxr_core.inference.micro_batching import MicroBatcher
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run

Pixels = npt.NDArray[np.uint8]
CheckFunction = Callable[[Sequence[CheckInput]], Sequence[tuple[Finding, ...]]]
PREFETCH = 32  # files seen before the network has come to them


@dataclass(frozen=True)
class Prediction:
    """What a run says of one image.

    Attributes:
        probabilities: by class, of the network itself: those of the predictions tables.
        calibrated: after the temperature of the run's decision rule; the same if that is 1.
        label: the class that the decision rule gives.
        confident: whether the calibrated probability of `label` reaches the reject threshold of the rule.
        remarks: what is odd about the image, the gravest first.
        votes: probabilities of each member of an ensemble, by its run id.
        member_labels: the class that each member gives by its own decision rule.
    """

    probabilities: dict[str, float]
    calibrated: dict[str, float]
    label: str
    confident: bool
    remarks: tuple[Finding, ...] = ()
    votes: dict[str, dict[str, float]] = field(default_factory=dict)
    member_labels: dict[str, str] = field(default_factory=dict)

    @property
    def most_probable(self) -> str:
        """The most probable single class, whatever the decision rule gives; the first of equals."""
        return max(self.calibrated, key=self.calibrated.__getitem__)

    @property
    def refused(self) -> bool:
        """Whether this is no image to be answered for."""
        return any(one.refuses for one in self.remarks)

    @property
    def agreement(self) -> float:
        """Share of an ensemble's members that give `label` by their own decision rules; 1 for a single network."""
        agreeing = [label == self.label for label in self.member_labels.values()]
        return sum(agreeing) / len(agreeing) if agreeing else 1.0


@dataclass(frozen=True, eq=False)
class Seen:
    """An image as a panel is asked about it.

    Attributes:
        prepared: uint8 (S, S) for each size S that a network of the panel takes.
        remarks: what is odd about it, the gravest first.
        width, height: of the original in pixels, which is not held any longer.
    """

    width: int
    height: int
    prepared: dict[int, Pixels]
    remarks: tuple[Finding, ...]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A run ready to answer: one network, or those of an ensemble.

    Attributes:
        members: in the order of the ensemble.
        rule: how the run answers.
        member_rules: how each member would answer alone.
        checks: of the members that have one: what each says of images.
    """

    run: Run
    members: tuple[LiteRTModel, ...]
    way: str
    weights: tuple[float, ...]
    rule: DecisionRule
    member_rules: tuple[DecisionRule, ...]
    checks: tuple[CheckFunction, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.run.config.classes

    @property
    def notice(self) -> str:
        """What holds of all its answers and has to be said once; empty if there is nothing."""
        return "" if self.checks else UNCHECKED

    def see(self, decoded: Sequence[DecodedImage]) -> list[Seen]:
        """All that comes before the networks: prepared for them, and what the checks of the members say together."""
        if not decoded:
            return []
        sizes = {one.size for one in self.members}
        shown = [CheckInput(image.grey, image.colourfulness, min(sizes)) for image in decoded]
        with process.one_blas_thread():
            findings = [check(shown) for check in self.checks or (basic_findings,)]
        return [
            Seen(
                image.grey.shape[1],
                image.grey.shape[0],
                {size: images.prepare(image.grey, size) for size in sizes},
                tuple(sorted((*_header_findings(image), *combine(each)), key=lambda one: not one.refuses)),
            )
            for image, each in zip(decoded, zip(*findings, strict=True), strict=True)
        ]

    def answers(self, seen: Sequence[Seen]) -> list[Prediction]:
        """One answer per image, in their order."""
        if not seen:
            return []
        with process.one_blas_thread():
            votes = [one.probabilities(np.stack([image.prepared[one.size] for image in seen])) for one in self.members]
        several = len(votes) > 1
        raw = ensembles.combine(votes, self.way, self.weights) if several else votes[0]
        decisions = decide(raw, self.rule)
        by_member = {
            member.run_id: (vote, decide(vote, rule).predicted)
            for member, vote, rule in zip(self.members, votes, self.member_rules, strict=True)
            if several
        }
        return [
            Prediction(
                self._named(raw[number]),
                self._named(decisions.calibrated[number]),
                self.classes[decisions.predicted[number]],
                bool(decisions.confident[number]),
                image.remarks,
                {run_id: self._named(vote[number]) for run_id, (vote, _) in by_member.items()},
                {run_id: self.classes[codes[number]] for run_id, (_, codes) in by_member.items()},
            )
            for number, image in enumerate(seen)
        ]

    def relevance(self, grey: Pixels, label: str) -> npt.NDArray[np.float64]:
        """What each part of an image, uint8 (H, W), adds to the score of a class: float64 (h, w), of either sign.

        Of an ensemble the weighted mean of the members' maps, each scaled to its own largest.

        Raises:
            BadInput: the run has no such class.
        """
        if label not in self.classes:
            raise BadInput(f"Run '{self.run.id}' knows no class '{label}'. Known: {', '.join(self.classes)}.")
        code = self.classes.index(label)
        with process.one_blas_thread():
            maps = [one.relevance(images.prepare(grey, one.size), code) for one in self.members]
        if len(maps) == 1:
            return maps[0]
        side = max(max(one.shape) for one in maps)
        same = [_resized(one / max(np.abs(one).max(), 1e-12), side) for one in maps]
        found: npt.NDArray[np.float64] = np.tensordot(np.asarray(self.weights), np.stack(same), axes=1)
        return found

    def _named(self, row: npt.NDArray[np.float64]) -> dict[str, float]:
        return {name: float(value) for name, value in zip(self.classes, row, strict=True)}


def load(run_id: str) -> LoadedModel:
    """A run, its networks loaded or still warm, with what is fitted for it at this moment.

    Raises:
        UnknownName: no such run, or a member of the ensemble is gone.
        BadInput: the run has no model (yet).
        WorkFailed: its files are damaged.
    """
    run = runs.get(run_id)
    group = ensembles.of_run(run_id) or Ensemble((run_id,), "mean", (1.0,))
    members = tuple(model_cache.get(run if one == run_id else runs.get(one)) for one in group.members)
    found = [path for one in members if (path := runs.folder(one.run_id) / "input_check.npz").is_file()]
    checks = tuple(_input_check(path, workspace.fingerprint(path)) for path in found)
    rules = tuple(rule_store.of_run(one) for one in group.members)
    return LoadedModel(run, members, group.way, group.weights, rule_store.of_run(run_id), rules, checks)


@dataclass(frozen=True, eq=False)
class InputFile:
    """A file to be asked about: its content, its path, or what reads it.

    `frame` is of a DICOM file with several, from 0; None: nobody chose.
    """

    name: str
    content: bytes | Path | Callable[[], bytes]
    frame: int | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """An item's answer, or the sentence that says why there is none.

    Attributes:
        small: the prepared image, uint8 (S, S).
        width, height: of the original in pixels.
        opinions: the answers of the other panels that were asked.
    """

    name: str
    answer: Prediction | None = None
    problem: str = ""
    small: Pixels | None = None
    width: int = 0
    height: int = 0
    opinions: tuple[Prediction, ...] = ()

    @property
    def alike(self) -> int:
        """How many of the opinions name the same class."""
        return sum(self.answer is not None and one.label == self.answer.label for one in self.opinions)


def stream(asked: LoadedModel, items: Iterable[InputFile], *, others: Sequence[LoadedModel] = ()) -> Generator[Result]:
    """Results one by one, in the order of the items; files are seen beside the network, AHEAD of it at most.

    Whoever stops reading stops the work.

    Args:
        others: panels that are asked for a second opinion on each image.
    """
    source, panels = iter(items), (asked, *others)
    with process.one_blas_thread(), ThreadPoolExecutor(max(1, process.cpu_count()), thread_name_prefix="see") as pool:
        waiting: list[Future[list[tuple[InputFile, tuple[Seen, ...] | str]]]] = []
        try:
            while True:
                while len(waiting) * CHUNK < PREFETCH and (chunk := [*islice(source, CHUNK)]):
                    waiting.append(pool.submit(_seen, panels, chunk))
                if not waiting:
                    return
                yield from _answered(panels, waiting.pop(0).result())
        finally:
            for future in waiting:
                future.cancel()


def content_of(item: InputFile) -> bytes | Path:
    """The file itself; a member of an archive is unpacked now.

    Raises:
        UnreadableImage: it cannot be unpacked.
    """
    return item.content if isinstance(item.content, bytes | Path) else item.content()


def _header_findings(image: DecodedImage) -> tuple[Finding, ...]:
    return header_findings(image.dicom.facts, image.frames if image.frame is None else 1) if image.dicom else ()


def _seen(panels: Sequence[LoadedModel], chunk: list[InputFile]) -> list[tuple[InputFile, tuple[Seen, ...] | str]]:
    """What each panel is asked about, or the sentence that says why there is nothing to ask."""
    images_: dict[int, DecodedImage] = {}
    problems: dict[int, str] = {}
    for place, item in enumerate(chunk):
        try:
            images_[place] = images.decode(content_of(item), frame=item.frame)
        except CxrError as error:
            problems[place] = str(error)
        except MemoryError:
            problems[place] = "The image needs more memory than this machine has. Reduce it and try again."
    by_panel = [one.see([*images_.values()]) for one in panels]
    seen = dict(zip(images_, zip(*by_panel, strict=True), strict=True))
    return [(item, problems.get(place) or seen[place]) for place, item in enumerate(chunk)]


def _answered(panels: Sequence[LoadedModel], chunk: list[tuple[InputFile, tuple[Seen, ...] | str]]) -> Iterator[Result]:
    every = [one for _, one in chunk if not isinstance(one, str)]
    told = zip(*(panel.answers([one[place] for one in every]) for place, panel in enumerate(panels)), strict=True)
    for item, seen in chunk:
        if isinstance(seen, str):
            yield Result(item.name, problem=seen)
            continue
        (one, *_), (answer, *opinions) = seen, next(told)
        yield Result(item.name, answer, "", one.prepared[min(one.prepared)], one.width, one.height, tuple(opinions))


@lru_cache(maxsize=64)
def _input_check(path: Path, fingerprint: workspace.Fingerprint) -> CheckFunction:  # noqa: ARG001 - part of the key
    return MicroBatcher(InputCheck.load(path).findings, CHUNK)


def _resized(values: npt.NDArray[np.float64], side: int) -> npt.NDArray[np.float64]:
    picture = Image.fromarray(values.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(picture, dtype=np.float64)
