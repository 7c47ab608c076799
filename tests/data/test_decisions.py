"""Decisions: an append-only record that two people can write at once, and what it amounts to."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from cxr_core import workspace
from cxr_core.data import datasets, decisions, index, query
from cxr_core.data.decisions import Decision
from cxr_core.errors import BadInput, UnknownName, WorkFailed
from tests.conftest import PROJECT

Tree = Callable[..., Path]


@pytest.fixture
def ids(xray_tree: Tree) -> list[str]:
    """The images of the dataset `small`."""
    datasets.add(str(xray_tree()), "small")
    return index.read("small")["id"].tolist()


def record_file() -> Path:
    return workspace.dataset("small") / "decisions.jsonl"


def test_a_decision_is_kept_with_reason_name_and_time(ids: list[str]):
    made = decisions.decide("small", "exclude", ids[:2], reason=" lateral view ", who="Ada")
    (kept,) = decisions.record("small")
    assert kept == made
    assert (kept.number, kept.action, kept.images, kept.reason, kept.who) == (
        1,
        "exclude",
        tuple(ids[:2]),
        "lateral view",
        "Ada",
    )
    assert kept.time.startswith("20")
    assert kept.time.endswith("+00:00")


def test_what_they_amount_to_and_a_later_one_wins(ids: list[str]):
    decisions.decide("small", "exclude", ids[:2], who="Ada")
    decisions.decide("small", "relabel", ids[1:3], value="viral", who="Ada")
    decisions.decide("small", "relabel", ids[2:3], value="bacterial", who="Ada")
    decisions.decide("small", "tag", ids[2:3], value="odd", who="Ada")
    decisions.decide("small", "tag", ids[2:3], value="rib", who="Ada")
    table = decisions.resolved("small")
    assert table["excluded"].tolist() == [True, True, False]
    assert table["label"].tolist() == ["", "viral", "bacterial"]
    assert table["tags"].tolist() == ["", "", "odd, rib"]
    assert table["decisions"].tolist() == ["1", "1, 2", "2, 3, 4, 5"]
    seen = query.curated_index("small").set_index("id").loc[ids[:3]]
    assert seen["class"].tolist()[1:] == ["viral", "bacterial"]
    assert seen["excluded"].tolist() == [True, True, False]


def test_undo_and_redo_are_lines_of_their_own(ids: list[str]):
    decisions.decide("small", "exclude", ids[:1], who="Ada")
    decisions.decide("small", "exclude", ids[1:2], who="Ada")
    decisions.undo("small", 1, who="Bo")
    assert [one.number for one in decisions.in_force("small")] == [2]
    decisions.redo("small", 1, who="Ada")
    assert [one.number for one in decisions.in_force("small")] == [1, 2]
    assert [(one.action, one.value) for one in decisions.record("small")[2:]] == [("undo", "1"), ("redo", "1")]
    with pytest.raises(BadInput, match="Decision 1 is in force already; there is nothing to redo"):
        decisions.redo("small", 1, who="Ada")
    decisions.undo("small", 1, who="Ada")
    with pytest.raises(BadInput, match="Decision 1 is undone already; there is nothing to undo"):
        decisions.undo("small", 1, who="Ada")
    with pytest.raises(UnknownName, match=r"no decision in small named '3'\. Known: 1, 2"):
        decisions.undo("small", 3, who="Ada")


@pytest.mark.parametrize(
    ("action", "value", "words"),
    [
        ("delete", "", "no action named 'delete'.*Known: exclude, relabel, tag"),
        ("relabel", "virul", "no class in small named 'virul'. Did you mean 'viral'"),
        ("relabel", "", "no class in small named ''"),
        ("tag", "  ", "A tag is a word or a few"),
        ("tag", "rotated, dark", "without a comma: several tags are several decisions. Received: 'rotated, dark'"),
        ("tag", "x" * 501, "The value has 501 characters; at most 500 are allowed"),
    ],
)
def test_what_cannot_be_decided_is_refused_and_nothing_is_written(ids: list[str], action: str, value: str, words: str):
    with pytest.raises(BadInput, match=words):
        decisions.decide("small", action, ids[:1], value=value, who="Ada")
    assert not record_file().exists()


def test_unknown_images_none_and_unknown_datasets_are_refused(ids: list[str]):
    with pytest.raises(BadInput, match=f"'small' has no image 'nosuch'. Expected: .*'{ids[0]}'"):
        decisions.decide("small", "exclude", [ids[0], "nosuch"], who="Ada")
    with pytest.raises(BadInput, match="Choose at least one image"):
        decisions.decide("small", "exclude", [], who="Ada")
    for ask in (decisions.record, decisions.resolved, decisions.in_force, decisions.fingerprint):
        with pytest.raises(UnknownName, match="Did you mean 'small'"):
            ask("smal")
    assert decisions.record("small") == []


def test_a_line_that_a_kill_tore_is_passed_over_and_dropped_by_the_next_writer(ids: list[str]):
    decisions.decide("small", "exclude", ids[:1], who="Ada")
    with record_file().open("ab") as torn:
        torn.write(b'{"number": 2, "action": "excl')
    assert len(decisions.record("small")) == 1
    assert decisions.decide("small", "tag", ids[:1], value="ümlaut\u2028", who="Ada").number == 2
    assert [one.value for one in decisions.record("small")] == ["", "ümlaut"]


UNDO_OF_NOTHING = '{"number": 1, "action": "undo", "images": [], "value": "x", "reason": "", "who": "Ada", "time": ""}'


@pytest.mark.parametrize("line", ["{", "null", '{"number": 1}', "[]", UNDO_OF_NOTHING])
def test_a_damaged_line_in_the_middle_is_told_in_words(ids: list[str], line: str):
    record_file().write_text(line + "\n")
    decisions.decide("small", "exclude", ids[:1], who="Ada")
    with pytest.raises(WorkFailed, match="is damaged in line 1"):
        decisions.record("small")


def test_the_stamp_changes_with_every_decision(ids: list[str]):
    stamps = [decisions.fingerprint("small")]
    for number in range(3):
        decisions.decide("small", "tag", ids[:1], value=str(number), who="Ada")
        stamps.append(decisions.fingerprint("small"))
    assert len(set(stamps)) == 4


WRITER = """
import sys
from cxr_core.data import decisions
for number in range(500):
    decisions.decide("small", "tag", [sys.argv[2 + number % 5]], value=f"{sys.argv[1]}{number}", who=sys.argv[1])
"""


@pytest.mark.slow
def test_two_processes_that_write_500_each_at_once_lose_and_tear_nothing(ids: list[str]):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, who, *ids[:5]], cwd=PROJECT, stderr=subprocess.PIPE)
        for who in ("ada", "bo")
    ]
    for writer in writers:
        assert writer.wait(120) == 0, writer.stderr.read()
        writer.stderr.close()
    lines = record_file().read_bytes().splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(1, 1001))
    made = decisions.record("small")
    for who in ("ada", "bo"):
        assert [one.value for one in made if one.who == who] == [f"{who}{number}" for number in range(500)]
    assert len(decisions.in_force("small")) == 1000


def test_a_damaged_line_is_named_by_its_number_with_what_to_do(ids: list[str]):
    decisions.decide("small", "exclude", ids[:1], who="Ada")
    path = workspace.dataset("small") / "decisions.jsonl"
    path.write_bytes(path.read_bytes() + b"garbage\x1b[31m\n" + path.read_bytes())
    with pytest.raises(WorkFailed, match=r"damaged in line 2: 'garbage\?\[31m'\. Mend or remove that line"):
        decisions.record("small")


def at_once(calls: Sequence[Callable[[], Decision]]) -> list[Decision | BadInput]:
    """Results of `calls`, each in a thread of its own, all started at the same moment."""
    start = threading.Barrier(len(calls))

    def result(call: Callable[[], Decision]) -> Decision | BadInput:
        start.wait(60)
        try:
            return call()
        except BadInput as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(result, calls))


def test_of_simultaneous_undos_of_one_decision_one_is_recorded(ids: list[str]):
    for number in range(1, 6):
        decisions.decide("small", "exclude", ids[:1], who="Ada")
        latest = len(decisions.record("small"))
        results = at_once([partial(decisions.undo, "small", latest, who="Bo")] * 8)
        assert sum(isinstance(result, Decision) for result in results) == 1
        refused = [str(result) for result in results if not isinstance(result, Decision)]
        assert set(refused) == {f"Decision {latest} is undone already; there is nothing to undo."}
        assert len(decisions.record("small")) == 2 * number


def test_simultaneous_undos_and_redos_never_contradict_the_record(ids: list[str]):
    decisions.decide("small", "exclude", ids[:1], who="Ada")
    calls = [lambda: decisions.undo("small", 1, who="Ada"), lambda: decisions.redo("small", 1, who="Bo")] * 8
    results = at_once(calls)
    reversals = [line.action for line in decisions.record("small")[1:]]
    assert len(reversals) == sum(isinstance(result, Decision) for result in results)
    assert reversals == (["undo", "redo"] * 8)[: len(reversals)]


def test_simultaneous_decisions_are_all_recorded_under_numbers_of_their_own(ids: list[str]):
    results = at_once([lambda: decisions.decide("small", "exclude", ids[:1], who="Ada")] * 8)
    assert sorted(result.number for result in results) == list(range(1, 9))


UNDOER = """
import sys
from cxr_core.data import decisions
from cxr_core.errors import BadInput
for number in range(1, 31):
    try:
        decisions.undo("small", number, who=sys.argv[1])
    except BadInput:
        pass
"""


def test_two_processes_that_undo_the_same_decisions_undo_each_once(ids: list[str]):
    for number in range(30):
        decisions.decide("small", "tag", ids[:1], value=str(number), who="Ada")
    undoers = [
        subprocess.Popen([sys.executable, "-c", UNDOER, who], cwd=PROJECT, stderr=subprocess.PIPE)
        for who in ("ada", "bo")
    ]
    for undoer in undoers:
        assert undoer.wait(120) == 0, undoer.stderr.read()
        undoer.stderr.close()
    undone = [line.value for line in decisions.record("small") if line.action == "undo"]
    assert sorted(undone, key=int) == [str(number) for number in range(1, 31)]
    assert decisions.in_force("small") == []


@pytest.mark.parametrize("who", ["", "  "])
def test_a_decision_without_a_name_is_refused(ids: list[str], who: str):
    for sign in (
        lambda: decisions.decide("small", "exclude", ids[:1], who=who),
        lambda: decisions.undo("small", 1, who=who),
        lambda: decisions.redo("small", 1, who=who),
    ):
        with pytest.raises(BadInput, match=r"no name was given\. Give it with --who, or set the variable CXR_PERSON"):
            sign()
    assert not record_file().exists()


def test_the_default_name_is_never_the_account_of_the_operating_system(monkeypatch: pytest.MonkeyPatch):
    for variable in ("CXR_PERSON", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    assert decisions.person() == ""
    monkeypatch.setenv("USER", "root")
    assert decisions.person() == ""
    monkeypatch.setenv("CXR_PERSON", " Ada Lovelace ")
    assert decisions.person() == "Ada Lovelace"


def test_after_a_line_was_removed_as_the_message_advises_no_number_is_given_twice(ids: list[str]):
    for number in range(3):
        decisions.decide("small", "tag", ids[:1], value=str(number), who="Ada")
    lines = record_file().read_bytes().splitlines(keepends=True)
    record_file().write_bytes(lines[0] + lines[2])
    assert decisions.decide("small", "exclude", ids[:1], who="Ada").number == 4
    decisions.undo("small", 3, who="Ada")
    assert [line.number for line in decisions.in_force("small")] == [1, 4]


@pytest.mark.parametrize("field", ["reason", "who"])
def test_control_characters_are_refused(ids: list[str], field: str):
    with pytest.raises(BadInput, match="control characters"):
        decisions.decide("small", "exclude", ids[:1], **{"who": "Ada", field: "A\x1b[31mred"})
    assert decisions.record("small") == []


def test_removing_a_dataset_keeps_its_record(ids: list[str]):
    decisions.decide("small", "exclude", ids[:1], reason="lateral", who="Ada")
    content = record_file().read_bytes()
    kept = datasets.remove("small")
    assert kept is not None and kept.read_bytes() == content
    assert datasets.list_names() == []
