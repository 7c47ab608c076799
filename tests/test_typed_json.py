"""Dataclasses from JSON: types are checked, what is unknown is passed over, and a later version's file is called that."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from cxr_core import process, typed_json
from cxr_core.data import datasets
from cxr_core.errors import DamagedFile, WorkFailed
from cxr_core.jobs import background_jobs


class Who(TypedDict):
    pid: int
    host: NotRequired[str]


@dataclass(frozen=True)
class Part:
    name: str


@dataclass(frozen=True)
class Whole:
    names: tuple[str, ...]
    pair: tuple[float, float]
    kind: Literal["a", "b"]
    who: Who | None
    parts: tuple[Part, ...]
    counts: dict[str, dict[str, int]]
    more: Any = None
    done: bool = False


GOOD = {
    "names": ["x"], "pair": [1, 2.5], "kind": "a", "who": {"pid": 3, "later": 1}, "parts": [{"name": "p"}],
    "counts": {"a": {"b": 1}},
}  # fmt: skip


def test_what_was_written_comes_back() -> None:
    whole = typed_json.from_document(Whole, {**GOOD, "unknown": 1})
    assert whole == Whole(("x",), (1, 2.5), "a", {"pid": 3}, (Part("p"),), {"a": {"b": 1}})
    assert typed_json.from_document(Whole, json.loads(json.dumps(asdict(whole)))) == whole
    assert typed_json.from_document(Whole, {**GOOD, "who": None}).who is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("names", "x"), ("names", [1]), ("pair", [1]), ("pair", [1, True]), ("kind", "c"), ("kind", []), ("who", 5), ("who", {}),
        ("who", {"pid": "3"}), ("parts", [5]), ("parts", [{"name": 5}]), ("counts", {"a": 5}), ("counts", {"a": {"b": True}}),
        ("done", 1),
    ],
)  # fmt: skip
def test_another_type_is_told_by_the_fields_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"'(name|{field})' is of another type"):
        typed_json.from_document(Whole, {**GOOD, field: value})
    with pytest.raises(ValueError, match="'names' is missing"):
        typed_json.from_document(Whole, {})


def test_a_later_version_is_no_damage_and_nothing_is_to_be_deleted(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"format": 2, "name": "x"}))
    with pytest.raises(WorkFailed, match=r"a later version of this software.*Nothing is wrong with it") as caught:
        typed_json.read(path, Part)
    assert not isinstance(caught.value, DamagedFile)
    path.write_text("[]")
    with pytest.raises(DamagedFile, match="it holds no object"):
        typed_json.read(path, Part)


def test_a_dataset_of_a_later_version_is_named_and_not_to_be_removed(home: Path) -> None:
    folder = home / "datasets" / "later"
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text('{"format": 9}')
    (sentence,) = datasets.list_damaged().values()
    assert "later version" in sentence and "remove" not in sentence.lower()


@pytest.mark.parametrize("owner", [5, None, [], {"host": "h", "pid": -1, "born": 0}, {"host": 1, "pid": 1, "born": 0}])
def test_a_job_with_an_owner_of_another_type_is_listed_with_why_and_can_be_dismissed(home: Path, owner: object) -> None:
    folder = home / "datasets" / ".errands" / "odd"
    folder.mkdir(parents=True)
    if isinstance(owner, dict) and owner["host"] == "h":
        owner = {**owner, "host": process.process_id()["host"]}
    (folder / "job.json").write_text(json.dumps({"kind": "add", "source": "x", "owner": owner}))
    (job,) = background_jobs.list_jobs()
    assert job.name == "odd" and job.problem
    background_jobs.stop("odd")
    assert background_jobs.list_jobs() == []
