"""The decision rule of each run, fitted on its validation predictions and saved beside them.

    <run>/decision_rule.json                            see DecisionRule
    <run>/temperature.json, <run>/operating_point.json  of version 0.1, read where the first is missing, never written

A rule holds for the predictions that it was fitted on; when they have changed since, it is void, and `problem` of the rule that
the run answers by instead says so.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from cxr_core import checksums, workspace
from cxr_core.errors import BadInput, CxrError, DamagedFile, UnknownName
from cxr_core.evaluation import decision_rule, prediction_set
from cxr_core.evaluation.decision_rule import DecisionRule
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.runs import run_store as runs

SPLITS = ("val", "shifted")  # what a rule is fitted on; the second are perturbed copies, where a run has predicted them
FILE = "decision_rule.json"
_OLD_FILES = ("temperature.json", "operating_point.json")
FILES = (
    FILE,
    *_OLD_FILES,
    *(f"predictions/{split}.parquet" for split in SPLITS),
)  # all that the rule of a run depends on


def of_run(run_id: str) -> DecisionRule:
    """The rule that a run answers by now.

    The saved one. With the files of version 0.1 alone, those, and a reject threshold fitted here and now by the criterion of
    `decision_rule.fit_reject_threshold`. Otherwise the highest probability, with a reject threshold fitted in the same way.

    Raises:
        UnknownName: no such run.
        WorkFailed: its file is damaged.
    """
    folder = runs.folder(run_id)
    return _of_run(run_id, folder, workspace.fingerprint(*(folder / name for name in FILES)))


def of_run_or_default(run_id: str) -> DecisionRule:
    """As `of_run`; where that cannot be read, the highest probability with the error as its `problem`.

    Raises:
        UnknownName: no such run.
    """
    classes = runs.get(run_id).config.classes
    try:
        return of_run(run_id)
    except CxrError as error:
        return DecisionRule(classes, problem=str(error))


def has_file(run_id: str) -> bool:
    """Check whether a rule is saved, be it damaged or void."""
    folder = runs.folder(run_id)
    return any((folder / name).is_file() for name in (FILE, *_OLD_FILES))


def saved(run_id: str) -> DecisionRule | None:
    """As `of_run`; None where no rule is saved, or a void one: then the run answers by the highest probability."""
    if not has_file(run_id):
        return None  # without reading its predictions
    rule = of_run(run_id)
    return rule if rule.splits else None


def fit(run_id: str, *, min_images: int | None = None, **choice: Any) -> DecisionRule:
    """As `decision_rule.fit`, on the run's own predictions, without saving it.

    Args:
        min_images: of validation; by default `decision_rule.MIN_IMAGES`.
        choice: arguments of `decision_rule.fit`.

    Raises:
        UnknownName: no such run or class, or the run has no validation predictions.
        BadInput: there are fewer validation images, or as `decision_rule.fit`.
    """
    sets = _sets(run_id)
    if not sets:
        prediction_set.read(run_id, SPLITS[0])  # raises, and names the splits that there are
    least = min_images or decision_rule.MIN_IMAGES
    if len(sets[0]) < least:
        raise BadInput(
            f"Run '{run_id}' has {len(sets[0])} validation images. At least {least} are needed: with fewer, a temperature and "
            "a threshold are chance. Train it with a larger validation split."
        )
    rule = decision_rule.fit(sets, **choice)
    splits = SPLITS[: len(sets)]
    return replace(rule, splits=splits, images=len(sets[0]), digest=_digest(run_id, splits))


def refit(run_id: str) -> DecisionRule:
    """Fit the saved rule anew, to the same target, positive classes or threshold by hand; without one as `fit`."""
    rule = of_run(run_id)
    choice: dict[str, Any] = {"positive": rule.positive, "criterion": rule.criterion}
    if rule.target_sensitivity is None:
        choice["threshold"] = rule.threshold
    return fit(run_id, target_sensitivity=rule.target_sensitivity, **choice)


def save(run_id: str, rule: DecisionRule) -> None:
    """Write a rule into the run's folder, in place of any that was there.

    Raises:
        BadInput: the run ships with the project.
    """
    folder = _own_folder(run_id)
    workspace.write_json(folder / FILE, checksums.seal(rule.document()))
    for name in _OLD_FILES:
        (folder / name).unlink(missing_ok=True)


def seal(run_id: str) -> None:
    """Give the rule's file of an earlier version its checksum; nothing happens without a file, or with one that cannot be read."""
    path = runs.folder(run_id) / FILE
    if path.is_file() and not checksums.is_sealed(path):
        with suppress(TypeError, KeyError, ValueError, OverflowError, DamagedFile):
            rule = DecisionRule.from_document(workspace.read_json(path))
            workspace.write_json(path, checksums.seal(rule.document()))


def delete(run_id: str) -> None:
    """Remove the saved rule of a run; nothing happens if there is none.

    Raises:
        BadInput: the run ships with the project.
    """
    folder = _own_folder(run_id)
    for name in (FILE, *_OLD_FILES):
        (folder / name).unlink(missing_ok=True)


def _own_folder(run_id: str) -> Path:
    run = runs.get(run_id)
    if run.is_bundled:
        raise BadInput(f"Run '{run_id}' ships with the project; its decision rule stays as it is.")
    return run.folder


def _sets(run_id: str) -> list[PredictionSet]:
    """Predictions of each of SPLITS, as far as there are any."""
    sets: list[PredictionSet] = []
    for split in SPLITS:
        try:
            sets.append(prediction_set.read(run_id, split))
        except UnknownName:
            break
    return sets


def _digest(run_id: str, splits: Sequence[str]) -> str:
    content = b"".join(runs.predictions_path(run_id, split).read_bytes() for split in splits)
    return hashlib.sha256(content).hexdigest()[:16]


@lru_cache(maxsize=4096)
def _of_run(run_id: str, folder: Path, written: tuple[object, ...]) -> DecisionRule:  # noqa: ARG001 - part of the key
    classes = runs.get(run_id).config.classes
    sets = _sets(run_id)
    prefixes = [SPLITS[: length + 1] for length in range(len(sets))]
    rules = _read(folder, classes)
    valid = [rule for rule in rules if rule.splits in prefixes and rule.digest == _digest(run_id, rule.splits)]
    if valid and (folder / FILE).is_file():
        return valid[-1]
    rule = valid[-1] if valid else DecisionRule(classes)
    if rules and (not valid or valid[-1] is not rules[-1]):
        change = "are gone" if rules[-1].splits not in prefixes else "have changed since"
        rule = replace(
            rule,
            problem=f"The saved decision rule of run '{run_id}' is void: the predictions that it was fitted on {change}. Fit it "
            "again on the Results page, or with `calibrate`.",
        )
    return replace(rule, reject_threshold=decision_rule.fit_reject_threshold(sets, rule) if sets else 0.0)


def _read(folder: Path, classes: tuple[str, ...]) -> list[DecisionRule]:
    """The rules that the files of a run hold, the last the one to be preferred."""
    try:
        if (folder / FILE).is_file():
            rule = DecisionRule.from_document(checksums.unseal(workspace.read_json(folder / FILE)))
            if rule.classes != classes:
                raise ValueError(f"its classes are {', '.join(rule.classes)}")
            return [rule]
        rules = []
        for name, key in zip(_OLD_FILES, ("value", "temperature"), strict=True):
            if not (folder / name).is_file():
                continue
            old = workspace.read_json(folder / name)
            document = DecisionRule(classes, splits=SPLITS[:1]).document()
            document |= {"temperature": old[key], "images": old["images"], "digest": old["of"]}
            if key == "temperature":
                document |= {"positive": old["positive"], "threshold": old["threshold"], "criterion": old["rule"]}
            rules.append(DecisionRule.from_document(document))
        return rules
    except (TypeError, KeyError, ValueError, OverflowError, DamagedFile) as error:
        raise DamagedFile(
            f"The decision rule in {folder} is damaged. Delete its file, and fit the rule again: calibrate {folder.name}"
        ) from error
