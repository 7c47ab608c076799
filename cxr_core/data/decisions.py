"""What people decided about images: an append-only record, and what it amounts to.

<dataset>/decisions.jsonl    one decision a line, numbered from 1 in the order of writing

Nothing is ever changed or removed: an undo is a line of its own, and so is its redo. Writers take turns under a file lock,
so two people at once lose nothing; a line that a kill tore is dropped by the next writer and ignored by readers.
"""

import getpass
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from filelock import FileLock

from cxr_core import workspace
from cxr_core.data import datasets, index
from cxr_core.errors import BadInput, UnknownName, WorkFailed

Action = Literal["exclude", "relabel", "tag", "undo", "redo"]
ACTIONS: dict[str, str] = {
    "exclude": "Leave the images out of every manifest",
    "relabel": "Give the images another class",
    "tag": "Mark the images with a word, to find them again",
}
_MOST_TEXT = 500  # characters of a reason, a name or a tag


@dataclass(frozen=True)
class Decision:
    """One line of the record.

    Attributes:
        number: its place in the record, from 1.
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


def decide(
    name: str, action: str, images: Sequence[str], *, value: str = "", reason: str = "", who: str = ""
) -> Decision:
    """Write a decision about images of the dataset `name`.

    Raises:
        UnknownName: no such dataset or action, or a class that it does not know.
        BadInput: no image, one that the dataset does not have, no tag or one with a comma, or a text of more than 500 characters.
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
    known = pd.Index(index.column(name, "id"))
    unknown = [one for one in images if one not in known]
    if unknown:
        raise BadInput(
            f"'{name}' has no image '{unknown[0][:200]}'. Expected: paths below the dataset, as its index names them, such as "
            f"'{known[0]}'. Nothing was recorded."
        )
    return _append(name, action, tuple(dict.fromkeys(images)), value.strip(), reason, who)


def undo(name: str, number: int, *, reason: str = "", who: str = "") -> Decision:
    """Take the decision `number` back.

    Raises:
        UnknownName: no such dataset or decision.
        BadInput: it is undone already, or is itself an undo or redo.
    """
    return _reverse(name, number, "undo", reason, who)


def redo(name: str, number: int, *, reason: str = "", who: str = "") -> Decision:
    """Put an undone decision back in force; the reverse of `undo`."""
    return _reverse(name, number, "redo", reason, who)


def _reverse(name: str, number: int, action: Literal["undo", "redo"], reason: str, who: str) -> Decision:
    made = {one.number: one for one in record(name) if one.action in ACTIONS}
    if number not in made:
        raise UnknownName(f"decision in {name}", str(number), [str(one) for one in made])
    active = number in {one.number for one in in_force(name)}
    if active != (action == "undo"):
        raise BadInput(
            f"Decision {number} is {'in force' if active else 'undone'} already; there is nothing to {action}."
        )
    return _append(name, action, (), str(number), reason, who)


def person() -> str:
    """Who works at this machine, as the system calls them; "" if it does not tell."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


def record(name: str) -> list[Decision]:
    """Every line, oldest first.

    Raises:
        UnknownName: no such dataset.
        WorkFailed: a line in the middle is damaged.
    """
    path = _path(name)
    if not path.is_file():
        return []
    return [_parsed(path, number, line) for number, line in enumerate(_whole(path.read_bytes()).splitlines(), start=1)]


def in_force(name: str) -> list[Decision]:
    """The decisions that were not undone, or were redone, oldest first."""
    made: dict[int, Decision] = {}
    undone: set[int] = set()
    for one in record(name):
        if one.action in ACTIONS:
            made[one.number] = one
        elif one.action == "undo":
            undone.add(int(one.value))
        else:
            undone.discard(int(one.value))
    return [one for number, one in made.items() if number not in undone]


def applied(name: str) -> pd.DataFrame:
    """What the decisions in force amount to: one row per image concerned.

    Returns:
        Index `id`; columns excluded (bool), label (the new class, or ""), tags (words joined by ", "), decisions (their
        numbers joined by ", "). A later decision about the same thing wins.
    """
    found: dict[str, dict[str, Any]] = {}
    for one in in_force(name):
        for image in one.images:
            state = found.setdefault(image, {"excluded": False, "label": "", "tags": [], "decisions": []})
            state["decisions"].append(str(one.number))
            if one.action == "exclude":
                state["excluded"] = True
            elif one.action == "relabel":
                state["label"] = one.value
            elif one.value not in state["tags"]:
                state["tags"].append(one.value)
    table = pd.DataFrame(
        [
            (image, state["excluded"], state["label"], ", ".join(state["tags"]), ", ".join(state["decisions"]))
            for image, state in found.items()
        ],
        columns=["id", "excluded", "label", "tags", "decisions"],
    )
    return table.astype({"excluded": bool, "id": str, "label": str, "tags": str, "decisions": str}).set_index("id")


def stamp(name: str) -> tuple[int, int]:
    """Changes whenever the record does; cheap, for caches."""
    path = _path(name)
    if not path.is_file():
        return 0, 0
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def _path(name: str) -> Path:
    return workspace.dataset(datasets.get(name).name) / "decisions.jsonl"


def _append(name: str, action: Any, images: tuple[str, ...], value: str, reason: str, who: str) -> Decision:
    for title, text in (("reason", reason), ("name", who), ("value", value)):
        if not text.replace("\n", " ").replace("\t", " ").isprintable():
            raise BadInput(
                f"The {title} holds control characters. Write it in letters, digits and signs. Nothing was recorded."
            )
        if len(text) > _MOST_TEXT:
            raise BadInput(f"The {title} has {len(text):,} characters; at most {_MOST_TEXT} are kept.")
    path = _path(name)
    try:
        with FileLock(path.with_name(".decisions.lock")), path.open("a+b") as opened:
            opened.seek(0)
            content = opened.read()
            whole = _whole(content)
            if len(whole) < len(content):
                opened.truncate(len(whole))
            number = whole.count(b"\n") + 1
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            decision = Decision(number, action, images, value, reason.strip(), who.strip(), now)
            opened.write(json.dumps(asdict(decision), ensure_ascii=False).encode() + b"\n")
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise WorkFailed(f"The decision could not be written to {path}: {error.strerror or error}.") from error
    return decision


def _whole(content: bytes) -> bytes:
    """All lines but a last one that was not finished."""
    return content[: content.rfind(b"\n") + 1]


def _parsed(path: Path, number: int, line: bytes) -> Decision:
    try:
        document = json.loads(line)
        return Decision(**{**document, "images": tuple(document["images"])})
    except (ValueError, TypeError, KeyError) as error:
        said = "".join(one if one.isprintable() else "?" for one in line[:80].decode(errors="replace"))
        raise WorkFailed(
            f"{path} is damaged in line {number}: '{said}'. Mend or remove that line in a text editor (keep a copy); "
            "every other line is a decision of its own and stays valid."
        ) from error
