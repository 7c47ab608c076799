"""Classify images by runs: networks stay in memory, many images go through together, and a prediction says how far to trust it.

    files ── decoded, checked and prepared ──► one or more networks ──► Prediction

A run answers by its exported network, without Keras; where it has not been exported yet, a process of its own does that once.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from threading import Event

import numpy as np
import numpy.typing as npt
from PIL import Image

from cxr_core import decoding, images, process, workspace
from cxr_core.decoding import PATIENT, Patience
from cxr_core.errors import BadInput, CxrError, WorkFailed
from cxr_core.evaluation import ensembles, rule_store
from cxr_core.evaluation.decision_rule import DecisionRule, decide
from cxr_core.evaluation.ensembles import Ensemble
from cxr_core.images import DecodedImage
from cxr_core.inference import litert_model, model_cache
from cxr_core.inference.input_check.checks import (
    BASIC_SIDE,
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
PREFETCH = 32  # files begun before their results are asked for


@dataclass(frozen=True)
class Prediction:
    """A run's answer for one image.

    Attributes:
        probabilities: by class, of the network itself: those of the predictions tables.
        calibrated: after the temperature of the run's decision rule; the same if that is 1.
        label: the class that the decision rule gives.
        confident: whether the calibrated probability of `label` reaches the reject threshold of the rule.
        findings: of the input check, the gravest first.
        member_probabilities: those of each member of an ensemble, by its run id.
        member_labels: the class that each member gives by its own decision rule.
    """

    probabilities: dict[str, float]
    calibrated: dict[str, float]
    label: str
    confident: bool
    findings: tuple[Finding, ...] = ()
    member_probabilities: dict[str, dict[str, float]] = field(default_factory=dict)
    member_labels: dict[str, str] = field(default_factory=dict)

    @property
    def most_probable(self) -> str:
        """The most probable single class, whatever the decision rule gives; the first of equals."""
        return max(self.calibrated, key=self.calibrated.__getitem__)

    @property
    def refused(self) -> bool:
        """True if the input check refuses the image."""
        return any(finding.refuses for finding in self.findings)


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image as the networks of a model take it.

    Attributes:
        pixels: uint8 (S, S) for each size S that a network takes.
        findings: of the input check, the gravest first.
        width, height: of the original in pixels, which is not held any longer.
    """

    width: int
    height: int
    pixels: dict[int, Pixels]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A run ready to answer: one network, or those of an ensemble.

    Attributes:
        members: in the order of the ensemble.
        rule: how the run answers.
        member_rules: how each member would answer alone.
        checks: the input checks of the members that have one.
        unreadable_checks: sentences on those that cannot be read.
    """

    run: Run
    members: tuple[LiteRTModel, ...]
    method: str
    weights: tuple[float, ...]
    rule: DecisionRule
    member_rules: tuple[DecisionRule, ...]
    checks: tuple[CheckFunction, ...]
    unreadable_checks: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        return self.run.config.classes

    @property
    def notice(self) -> str:
        """Sentences that hold of all its predictions, such as that a saved decision rule is void; empty if there are none."""
        of_checks = (*(() if self.checks else (UNCHECKED,)), *self.unreadable_checks)
        of_rules = (rule.notice for rule in (self.rule, *self.member_rules) if rule.notice)
        return " ".join(dict.fromkeys((*of_checks, *of_rules)))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides of the images that its networks and its input check take, in pixels."""
        return (*{member.size for member in self.members}, *(() if self.checks else (BASIC_SIDE,)))

    def prepare(self, decoded: Sequence[DecodedImage]) -> list[PreparedImage]:
        """All that comes before the networks: images in their sizes, and the findings of the members' input checks together.

        Args:
            decoded: whole, or reduced to these `sizes` at least.
        """
        if not decoded:
            return []
        sizes = {member.size for member in self.members}
        pixels = [{size: _prepared(image, size) for size in sizes} for image in decoded]
        inputs = [
            CheckInput(image.grey, image.colourfulness, min(sizes), {**image.prepared, **by_size}, image.shape)
            for image, by_size in zip(decoded, pixels, strict=True)
        ]
        with process.one_blas_thread():
            by_check = [check(inputs) for check in self.checks or (basic_findings,)]
        return [
            PreparedImage(
                *image.shape[::-1],
                by_size,
                tuple(sorted((*_header_findings(image), *combine(findings)), key=lambda finding: not finding.refuses)),
            )
            for image, by_size, findings in zip(decoded, pixels, zip(*by_check, strict=True), strict=True)
        ]

    def predict(self, prepared: Sequence[PreparedImage]) -> list[Prediction]:
        """One prediction per image, in their order."""
        if not prepared:
            return []
        with process.one_blas_thread():
            by_member = [
                member.probabilities(np.stack([image.pixels[member.size] for image in prepared]))
                for member in self.members
            ]
        combined, members = by_member[0], {}
        if len(by_member) > 1:
            combined = ensembles.combine(by_member, self.method, self.weights)
            members = {
                member.run_id: (probabilities, decide(probabilities, rule).predicted)
                for member, probabilities, rule in zip(self.members, by_member, self.member_rules, strict=True)
            }
        decisions = decide(combined, self.rule)
        return [
            Prediction(
                self._by_class(combined[index]),
                self._by_class(decisions.calibrated[index]),
                self.classes[decisions.predicted[index]],
                bool(decisions.confident[index]),
                image.findings,
                {run_id: self._by_class(probabilities[index]) for run_id, (probabilities, _) in members.items()},
                {run_id: self.classes[codes[index]] for run_id, (_, codes) in members.items()},
            )
            for index, image in enumerate(prepared)
        ]

    def attribution(self, image: DecodedImage | Pixels, label: str) -> npt.NDArray[np.float64]:
        """Attribution map of a class (HiResCAM, see head.py): what each part of an image adds to its score.

        Of an ensemble the weighted mean of the members' maps, each scaled to its own largest.

        Args:
            image: whole, or reduced to `sizes`; or uint8 (H, W).

        Returns:
            float64 (h, w), of either sign.

        Raises:
            BadInput: the run has no such class.
        """
        if label not in self.classes:
            raise BadInput(f"Run '{self.run.id}' knows no class '{label}'. Known: {', '.join(self.classes)}.")
        code = self.classes.index(label)
        decoded = image if isinstance(image, DecodedImage) else DecodedImage(image)
        with process.one_blas_thread():
            maps = [member.attribution(_prepared(decoded, member.size), code) for member in self.members]
        if len(maps) == 1:
            return maps[0]
        side = max(max(values.shape) for values in maps)
        resized = [_resized(values / max(np.abs(values).max(), 1e-12), side) for values in maps]
        mean: npt.NDArray[np.float64] = np.tensordot(np.asarray(self.weights), np.stack(resized), axes=1)
        return mean

    def _by_class(self, row: npt.NDArray[np.float64]) -> dict[str, float]:
        return {name: float(value) for name, value in zip(self.classes, row, strict=True)}


def is_exported(run: Run) -> bool:
    """True if a run can answer without being exported first."""
    try:
        group = ensembles.of_run(run.id)
        members = [run if member == run.id else runs.get(member) for member in (group.members if group else (run.id,))]
        return all(member.has_model and bool(litert_model.files_of(member)) for member in members)
    except CxrError:
        return False


def load(run_id: str, *, export: bool = True) -> LoadedModel:
    """A run with its networks, from memory or loaded, and what is fitted for it at this moment.

    Args:
        export: if the networks have not been exported yet, do so, in a process that takes a gigabyte.

    Raises:
        UnknownName: no such run, or a member of the ensemble is gone.
        BadInput: the run has no model (yet).
        WorkFailed: its files are damaged.
    """
    run = runs.get(run_id)
    group = ensembles.of_run(run_id) or Ensemble((run_id,), "mean", (1.0,))
    members = tuple(
        model_cache.get(run if member == run_id else runs.get(member), export=export) for member in group.members
    )
    paths = [path for member in group.members if (path := runs.folder(member) / "input_check.npz").is_file()]
    checks, unreadable = [], []
    for path in paths:
        try:
            checks.append(_input_check(path, workspace.fingerprint(path)))
        except WorkFailed as error:
            unreadable.append(str(error))
    rules = tuple(rule_store.of_run(member) for member in group.members)
    return LoadedModel(
        run, members, group.way, group.weights, rule_store.of_run(run_id), rules, tuple(checks), tuple(unreadable)
    )


@dataclass(frozen=True, eq=False)
class InputFile:
    """A file to be classified: its content, its path, or a function that reads it.

    `frame` is of a DICOM file with several, from 0; None: nobody chose.
    """

    name: str
    content: bytes | Path | Callable[[], bytes]
    frame: int | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """The prediction for a file, or the sentence that says why there is none.

    Attributes:
        small: the prepared image, uint8 (S, S).
        width, height: of the original in pixels.
        opinions: the predictions of the other models, in their order.
    """

    name: str
    prediction: Prediction | None = None
    problem: str = ""
    small: Pixels | None = None
    width: int = 0
    height: int = 0
    opinions: tuple[Prediction, ...] = ()

    @property
    def agreeing(self) -> int:
        """Number of opinions that name the same class."""
        return sum(self.prediction is not None and opinion.label == self.prediction.label for opinion in self.opinions)


def stream(
    model: LoadedModel,
    items: Iterable[InputFile],
    *,
    others: Sequence[LoadedModel] = (),
    patience: Patience = PATIENT,
) -> Generator[Result]:
    """Results one by one, in the order of the items; each thread takes a chunk of them from file to prediction.

    There are two threads a core, since one that waits for a child process uses none. Whoever stops reading stops the work.

    Args:
        others: models that give a second opinion on each image.
        patience: at whose end the files that are left get its sentence.
    """
    source, models, stopped = iter(items), (model, *others), Event()
    until_stopped = replace(patience, has_left=lambda: stopped.is_set() or patience.has_left())
    with (
        process.one_blas_thread(),
        ThreadPoolExecutor(2 * process.cpu_count(), thread_name_prefix="predict") as pool,
    ):
        waiting: list[Future[list[Result]]] = []
        try:
            while True:
                while len(waiting) * CHUNK < PREFETCH and (chunk := [*islice(source, CHUNK)]):
                    waiting.append(pool.submit(_results, models, chunk, until_stopped))
                if not waiting:
                    return
                yield from waiting.pop(0).result()
        finally:
            stopped.set()
            for future in waiting:
                future.cancel()


def decode(
    item: InputFile,
    models: Iterable[LoadedModel],
    *,
    frame: int | None = None,
    longest: int | None = 0,
    patience: Patience = PATIENT,
) -> DecodedImage:
    """Decode a file in a child process, reduced to what the models take.

    Args:
        frame: instead of the item's.
        longest: side of its `grey`, see `images.reduce`.

    Raises:
        as `decoding.decode`.
    """
    sizes = [size for model in models for size in model.sizes]
    chosen = item.frame if frame is None else frame
    return decoding.decode(item.content, frame=chosen, sizes=sizes, longest=longest, patience=patience)


def _prepared(image: DecodedImage, size: int) -> Pixels:
    """uint8 (size, size); of a reduced image that was not asked for in this size, as good as it is."""
    return image.prepared[size] if size in image.prepared else images.prepare(image.grey, size)


def _header_findings(image: DecodedImage) -> tuple[Finding, ...]:
    return header_findings(image.dicom.facts, image.frames if image.frame is None else 1) if image.dicom else ()


def _results(models: Sequence[LoadedModel], chunk: list[InputFile], patience: Patience) -> list[Result]:
    decoded: dict[int, DecodedImage] = {}
    results: dict[int, Result] = {}
    for index, item in enumerate(chunk):
        try:
            decoded[index] = decode(item, models, patience=patience)
        except CxrError as error:
            results[index] = Result(item.name, problem=str(error))
        except MemoryError:
            problem = "The image needs more memory than this machine has. Reduce it and try again."
            results[index] = Result(item.name, problem=problem)
    prepared = [model.prepare([*decoded.values()]) for model in models]
    predictions = zip(*(model.predict(each) for model, each in zip(models, prepared, strict=True)), strict=True)
    for index, image, (prediction, *opinions) in zip(decoded, prepared[0], predictions, strict=True):
        small = image.pixels[min(image.pixels)]
        results[index] = Result(chunk[index].name, prediction, "", small, image.width, image.height, tuple(opinions))
    return [results[index] for index in range(len(chunk))]


@lru_cache(maxsize=64)
def _input_check(path: Path, fingerprint: workspace.Fingerprint) -> CheckFunction:  # noqa: ARG001 - part of the key
    return MicroBatcher(InputCheck.load(path).findings, CHUNK)


def _resized(values: npt.NDArray[np.float64], side: int) -> npt.NDArray[np.float64]:
    resized = Image.fromarray(values.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(resized, dtype=np.float64)
