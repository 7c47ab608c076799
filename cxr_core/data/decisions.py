"""Decisions of people about images: an append-only record, and its summary per image.

<dataset>/decisions.jsonl    one decision a line, numbered from 1 in the order of writing

Nothing is ever changed or removed: an undo is a line of its own, and so is its redo. A writer reads, checks and appends under
a file lock, so two people at once lose nothing and contradict nothing; a line that a kill tore is dropped by the next writer
and ignored by readers. Every line carries the name that the person gave.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from cxr_core import locks, typed_json, workspace
from cxr_core.data import datasets, index
from cxr_core.errors import BadInput, UnknownName, WorkFailed

Action = Literal["exclude", "relabel", "tag", "undo", "redo"]
ACTIONS: dict[str, str] = {
    "exclude": "Leave the images out of every manifest",
    "relabel": "Give the images another class",
    "tag": "Mark the images with a word, to find them again",
}
_MAX_TEXT = 500  # characters of a reason, a name or a tag


@dataclass(frozen=True)
class Decision:
    """One line of the record.

    Attributes:
        number: position in the record, from 1.
        action: of ACTIONS, or undo or redo.
        images: ids of the images concerned; empty for undo and redo.
        value: the new class, the tag, or the number of the decision that is undone or redone.
        reason: why, in the person's words.
        who: the person's name.
        time: UTC, ISO 8601.
    """

    number: int
    action: Action
    images: tuple[str, ...]
    value: str
    reason: str
    who: str
    time: str


def decide(name: str, action: str, images: Sequence[str], *, value: str = "", reason: str = "", who: str) -> Decision:
    """Record a decision about images of the dataset `name`.

    Args:
        action: a key of ACTIONS.
        images: ids of the index, at least one.
        value: the new class of a relabel, the tag of a tag.
        who: the name that the deciding person gave.

    Raises:
        UnknownName: no such dataset or action, or a class that it does not know.
        BadInput: no name, no image, an image that the dataset does not have, no tag or one with a comma, or a text of more
            than 500 characters.
        WorkFailed: the disk is full.
    """
    if action not in ACTIONS:
        raise UnknownName("action", action, ACTIONS)
    dataset = datasets.get(name)
    if not images:
        raise BadInput("Nothing was chosen. Choose at least one image.")
    if action == "relabel" and value not in dataset.classes:
        raise UnknownName(f"class in {name}", value, dataset.classes)
    if action == "tag" and (not value.strip() or "," in value):
        raise BadInput(
            f"A tag is a word or a few, without a comma: several tags are several decisions. Received: '{value[:100]}'."
        )
    ids = pd.Index(index.column(name, "id"))
    unknown = [image for image in images if image not in ids]
    if unknown:
        raise BadInput(
            f"'{name}' has no image '{unknown[0][:200]}'. Expected: paths below the dataset, as its index names them, such as "
            f"'{ids[0]}'. Nothing was recorded."
        )
    return _append(name, action, tuple(dict.fromkeys(images)), value.strip(), reason, who)


def undo(name: str, number: int, *, reason: str = "", who: str) -> Decision:
    """Take the decision `number` back.

    Of several callers at once, one undoes it and the others get BadInput.

    Raises:
        UnknownName: no such dataset or decision.
        BadInput: no name, or it is undone already, or is itself an undo or redo.
        WorkFailed: the disk is full.
    """
    return _append(name, "undo", (), str(number), reason, who)


def redo(name: str, number: int, *, reason: str = "", who: str) -> Decision:
    """Put an undone decision back in force; the reverse of `undo`."""
    return _append(name, "redo", (), str(number), reason, who)


def person() -> str:
    """Name that decisions on this machine are signed with by default: the variable CXR_PERSON, "" if it is not set.

    Never the account of the operating system: on a server that is the server's, whoever decides.
    """
    return os.environ.get("CXR_PERSON", "").strip()


def record(name: str) -> list[Decision]:
    """All lines of the record, oldest first.

    Raises:
        UnknownName: no such dataset.
        WorkFailed: a line in the middle is damaged.
    """
    path = _path(name)
    return _parse(path, path.read_bytes()) if path.is_file() else []


def in_force(name: str) -> list[Decision]:
    """The decisions that were not undone, or were redone, oldest first."""
    return _in_force(record(name))


def _in_force(lines: Sequence[Decision]) -> list[Decision]:
    decisions: dict[int, Decision] = {}
    undone: set[int] = set()
    for line in lines:
        if line.action in ACTIONS:
            decisions[line.number] = line
        elif line.action == "undo":
            undone.add(int(line.value))
        else:
            undone.discard(int(line.value))
    return [decision for number, decision in decisions.items() if number not in undone]


def resolved(name: str) -> pd.DataFrame:
    """The decisions in force, summed up in one row per image concerned.

    Returns:
        Index `id`; columns excluded (bool), label (the new class, or ""), tags (words joined by ", "), decisions (their
        numbers joined by ", "). A later decision about the same thing wins.
    """
    states: dict[str, dict[str, Any]] = {}
    for decision in in_force(name):
        for image in decision.images:
            state = states.setdefault(image, {"excluded": False, "label": "", "tags": [], "decisions": []})
            state["decisions"].append(str(decision.number))
            if decision.action == "exclude":
                state["excluded"] = True
            elif decision.action == "relabel":
                state["label"] = decision.value
            elif decision.value not in state["tags"]:
                state["tags"].append(decision.value)
    table = pd.DataFrame(
        [
            (image, state["excluded"], state["label"], ", ".join(state["tags"]), ", ".join(state["decisions"]))
            for image, state in states.items()
        ],
        columns=["id", "excluded", "label", "tags", "decisions"],
    )
    return table.astype({"excluded": bool, "id": str, "label": str, "tags": str, "decisions": str}).set_index("id")


def fingerprint(name: str) -> workspace.Fingerprint:
    """Changes whenever the record does; cheap, for caches."""
    return workspace.fingerprint(_path(name))


def _path(name: str) -> Path:
    return workspace.dataset(datasets.get(name).name) / "decisions.jsonl"


def _append(name: str, action: Any, images: tuple[str, ...], value: str, reason: str, who: str) -> Decision:
    """Write one line, under the lock; an undo or redo is checked against the record as it is when the line is written."""
    _check_texts(reason=reason, name=who, value=value)
    if not who.strip():
        raise BadInput(
            "A decision carries the name of the person who makes it, and no name was given. Give it with --who, or set the "
            "variable CXR_PERSON. Nothing was recorded."
        )
    path = _path(name)
    try:
        lock = locks.hold(path.with_name(".decisions.lock"), f"the record of decisions of '{name}'")
        with lock, path.open("a+b") as file:
            file.seek(0)
            content = file.read()
            whole = _whole_lines(content)
            if action not in ACTIONS:
                _check_reversible(name, action, int(value), _parse(path, whole))
            if len(whole) < len(content):
                file.truncate(len(whole))
            number = _next_number(whole)
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            decision = Decision(number, action, images, value, reason.strip(), who.strip(), now)
            file.write(json.dumps(asdict(decision), ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise WorkFailed(f"The decision could not be written to {path}: {error.strerror or error}.") from error
    return decision


def _check_texts(**texts: str) -> None:
    for title, text in texts.items():
        if not text.replace("\n", " ").replace("\t", " ").isprintable():
            raise BadInput(
                f"The {title} holds control characters. Write it in letters, digits and signs. Nothing was recorded."
            )
        if len(text) > _MAX_TEXT:
            raise BadInput(f"The {title} has {len(text):,} characters; at most {_MAX_TEXT} are allowed.")


def _check_reversible(name: str, action: str, number: int, lines: Sequence[Decision]) -> None:
    """Refuse to undo what is undone, and to redo what is in force."""
    numbers = [line.number for line in lines if line.action in ACTIONS]
    if number not in numbers:
        raise UnknownName(f"decision in {name}", str(number), map(str, numbers))
    active = number in {decision.number for decision in _in_force(lines)}
    if active != (action == "undo"):
        raise BadInput(
            f"Decision {number} is {'in force' if active else 'undone'} already; there is nothing to {action}."
        )


def _whole_lines(content: bytes) -> bytes:
    """All lines but a last one that was not finished."""
    return content[: content.rfind(b"\n") + 1]


def _next_number(whole: bytes) -> int:
    """One more than the last line's number; a line that somebody removed leaves a gap, and no number is given twice."""
    lines = whole.splitlines()
    try:
        return int(json.loads(lines[-1])["number"]) + 1 if lines else 1
    except (ValueError, TypeError, KeyError):
        return len(lines) + 1


def _parse(path: Path, content: bytes) -> list[Decision]:
    return [_parse_line(path, number, line) for number, line in enumerate(_whole_lines(content).splitlines(), start=1)]


def _parse_line(path: Path, number: int, line: bytes) -> Decision:
    try:
        decision = typed_json.from_document(Decision, json.loads(line))
        if decision.action not in ACTIONS:
            int(decision.value)
        return decision
    except (ValueError, TypeError, RecursionError) as error:
        shown = "".join(char if char.isprintable() else "?" for char in line[:80].decode(errors="replace"))
        raise WorkFailed(
            f"{path} is damaged in line {number}: '{shown}'. Mend or remove that line in a text editor (keep a copy); "
            "every other line is a decision of its own and stays valid."
        ) from error
