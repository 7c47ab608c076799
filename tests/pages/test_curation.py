"""Browse, Audit and Curate: from a finding over a decision to a manifest, and back."""

import re
import shutil
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import streamlit as st
from PIL import Image
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import TextInput

from cxr_core import workspace
from cxr_core.data import audit, datasets, decisions, index, manifest
from cxr_core.jobs import background_jobs
from pages.ui import curation_bar
from tests.pages.test_pages import box, text, visit

NAME = "phantoms"


@pytest.fixture(autouse=True)
def name_of_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_PERSON", "Ada")


@pytest.fixture(autouse=True)
def fresh_caches() -> None:
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture
def phantoms(home: Path) -> str:
    """A small synthetic dataset; its name."""
    return datasets.add("synthetic", NAME, images=60).name


@pytest.fixture
def doubled(trained_home: Path, tmp_path: Path) -> str:
    """The synthetic set once more, as a folder with one of its files twice; returns the copy's id."""
    tree = tmp_path / "tree"
    shutil.copytree(trained_home / "datasets" / NAME / "images", tree)
    shutil.copy(tree / "train/viral/synthetic-p0000-0.jpeg", tree / "train/viral/synthetic-p0099-0.jpeg")
    datasets.add(str(tree), "doubled")
    return "train/viral/synthetic-p0099-0.jpeg"


def press(test: AppTest, label: str) -> AppTest:
    button = next(one for one in test.button if one.label == label)
    button.click().run()
    assert not test.exception, test.exception[0].message
    return test


def decider(test: AppTest) -> TextInput:
    return next(one for one in test.text_input if one.label == "Your name")


def test_browse_hides_and_shows_what_was_decided(trained_home: Path) -> None:
    ids = index.read(NAME)["id"].tolist()
    decisions.decide(NAME, "exclude", ids[:3], who="Ada")
    decisions.decide(NAME, "relabel", ids[3:5], value="viral", who="Ada")
    decisions.decide(NAME, "tag", ids[5:6], value="look again", who="Ada")
    test = visit("pages/data/browse.py")
    for state, count in (("excluded", 3), ("relabelled", 2), ("tagged", 1), ("open", 54)):
        test.session_state["state"] = [state]
        test.run()
        assert f"**{count} image" in text(test), state
    test.session_state["state"] = []
    test.session_state["search"] = "look ag"
    test.run()
    assert "**1 image**" in text(test)


def test_choosing_images_offers_decisions_and_undo(trained_home: Path) -> None:
    test = visit("pages/data/browse.py")
    test.toggle(key="choosing").set_value(True).run()
    assert next(one for one in test.button if one.label == "Exclude 0 images").disabled
    decisions.decide(NAME, "exclude", index.read(NAME)["id"].tolist()[:1], who="Grace")
    decider(test).set_value("Ada").run()
    press(test, "Undo: Exclude 1 image, by Grace")
    assert decisions.in_force(NAME) == []
    assert [one.who for one in decisions.record(NAME)] == ["Grace", "Ada"]


def test_the_audit_is_made_on_request_and_kept(trained_home: Path) -> None:
    test = visit("pages/data/audit.py")
    assert audit.latest(NAME) is None
    press(test, "Run the audit")
    limit = time.monotonic() + 60
    while audit.latest(NAME) is None or background_jobs.list_jobs():
        assert time.monotonic() < limit, background_jobs.list_jobs()
        time.sleep(0.1)
    test.run()
    assert "**60 images** audited" in text(test)


def test_all_but_the_first_of_a_group_are_ticked_excluded_and_come_back(doubled: str) -> None:
    audit.run("doubled")
    test = visit("pages/data/audit.py", data="doubled")
    test.session_state["finding"] = "exact_duplicates"
    test.run()
    assert "Exact duplicates: 2 images in 1 group" in "\n".join(test.radio[0].options)
    press(test, "Select all but the first of each group")
    decider(test).set_value("Ada").run()
    press(test, "Exclude 1 image")
    (made,) = decisions.record("doubled")
    assert (made.action, made.images, made.who, made.reason) == ("exclude", (doubled,), "Ada", "duplicate")
    assert "1 of 2 are already excluded" in text(test)
    assert "Exact duplicates: all 2 images decided" in "\n".join(test.radio[0].options)
    press(test, "Undo: Exclude 1 image, by Ada")
    assert "Decision 1 (Exclude 1 image, by Ada) is undone." in [one.value for one in test.toast]
    assert decisions.in_force("doubled") == []


def test_a_decision_on_the_page_needs_a_reason_and_a_name_which_is_asked_once(
    phantoms: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXR_PERSON", raising=False)
    monkeypatch.setenv("LOGNAME", "root")  # the account of the server
    test = visit("pages/data/browse.py")
    test.session_state[f"preset-browse-{NAME}"] = (index.read(NAME)["id"][0],)
    test.toggle(key="choosing").set_value(True).run()
    next(one for one in test.selectbox if one.label == "Reason").set_value("lateral view").run()
    assert decider(test).value == ""
    press(test, "Exclude 1 image")
    assert "Enter your name" in test.error[0].value
    assert decisions.record(NAME) == []
    next(one for one in test.selectbox if one.label == "Reason").set_value(None)
    decider(test).set_value("Ada").run()
    press(test, "Exclude 1 image")
    assert "Choose a reason" in test.error[0].value
    assert decisions.record(NAME) == []
    next(one for one in test.selectbox if one.label == "Reason").set_value("lateral view").run()
    press(test, "Exclude 1 image")
    assert [(one.who, one.reason) for one in decisions.record(NAME)] == [("Ada", "lateral view")]
    test.session_state["part"] = "record"
    test.switch_page("pages/data/curate.py").run()
    assert decider(test).value == "Ada"
    press(test, "Undo")
    assert [one.who for one in decisions.record(NAME)] == ["Ada", "Ada"]


@pytest.mark.parametrize("page", ["browse", "audit", "curate"])
def test_the_field_for_the_name_is_seen_to_be_required_until_a_name_is_proposed(
    doubled: str, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    audit.run("doubled")
    decisions.decide("doubled", "exclude", [doubled], reason="lateral view", who="Ada")

    def field() -> TextInput:
        test = visit(f"pages/data/{page}.py", data="doubled", part="record", finding="exact_duplicates")
        return decider(test.toggle(key="choosing").set_value(True).run() if page == "browse" else test)

    proposed = field()
    assert (proposed.value, proposed.proto.icon) == ("Ada", "")
    monkeypatch.delenv("CXR_PERSON")
    monkeypatch.setenv("LOGNAME", "root")
    empty = field()
    assert empty.value == "" and "Required" in empty.placeholder and "signature" in empty.proto.icon


def test_an_undo_needs_a_name_too(phantoms: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXR_PERSON", raising=False)
    monkeypatch.setenv("LOGNAME", "root")
    decisions.decide(NAME, "exclude", index.read(NAME)["id"].tolist()[:1], reason="lateral view", who="Ada")
    test = visit("pages/data/curate.py", data=NAME, part="record")
    press(test, "Undo")
    assert "Enter your name" in test.error[0].value
    assert len(decisions.record(NAME)) == 1


def test_the_link_to_the_record_opens_that_part(trained_home: Path) -> None:
    decisions.decide(NAME, "exclude", [index.read(NAME)["id"][0]], reason="lateral view", who="Ada")
    for part in ("record", curation_bar.RECORD):  # the second is what older addresses hold
        test = visit("pages/data/curate.py", data=NAME, part=part)
        assert test.session_state["part"] == "record"
    assert any("Decision" in one.value for one in test.dataframe)


@pytest.fixture
def three_findings(home: Path, tmp_path: Path) -> str:
    """A dataset whose audit has a finding of medium severity with one image, among others; its name."""
    datasets.add("synthetic", NAME, images=60)
    tree = tmp_path / "tree"
    shutil.copytree(home / "datasets" / NAME / "images", tree)
    shutil.copy(tree / "train/viral/synthetic-p0000-0.jpeg", tree / "train/viral/synthetic-p0099-0.jpeg")
    Image.new("L", (224, 224), 2).save(tree / "train/normal/synthetic-p0098-0.jpeg")
    datasets.add(str(tree), "three")
    assert len(audit.run("three").findings) >= 3
    return "three"


ICONS = {"error": "high", "warning": "medium", "info": "low", "check_circle": "done"}


def severities(test: AppTest) -> Counter[str]:
    """Of the rows of the list of findings, by their icons."""
    return Counter(ICONS[one.split(":")[1].removeprefix("material/")] for one in test.radio[0].options)


def badges(test: AppTest) -> Counter[str]:
    shown = re.findall(r"\b(\d+) (high|medium|low|done)\b", text(test))
    return Counter({title: int(count) for count, title in shown})


def test_the_list_of_findings_keeps_its_choice_and_its_badges_count_its_rows(three_findings: str) -> None:
    test = visit("pages/data/audit.py", data=three_findings)
    kinds = [one.kind for one in audit.latest(three_findings).findings]
    for kind in [one for one in kinds if one != "unreadable"][1:]:
        test.radio[0].set_value(kind).run()
        assert test.query_params["finding"] in (kind, [kind])
        images_ = audit.finding_rows(three_findings, kind)["row"]
        decisions.decide(three_findings, "exclude", index.read(three_findings)["id"].iloc[images_].tolist(), who="Ada")
        test.run()
        row = test.radio[0].options[kinds.index(kind)]
        assert "decided" in row and "undecided" not in row and "check_circle" in row
        assert test.radio[0].value == kind
        assert badges(test) == severities(test)
    assert badges(test)["done"] >= 2


def test_an_address_with_the_words_of_a_finding_shows_it(three_findings: str) -> None:
    last = audit.latest(three_findings).findings[-1]
    words_ = f":material/info: {last.title}: 700 images in 3 groups"
    assert visit("pages/data/audit.py", data=three_findings, finding=words_).radio[0].value == last.kind


def test_choosing_stays_on_when_no_image_matches_for_a_while(phantoms: str) -> None:
    test = visit("pages/data/browse.py")
    test.toggle(key="choosing").set_value(True).run()
    assert any(one.label == "Exclude 0 images" for one in test.button)
    for search in ("no such file", ""):
        test.text_input(key="search").set_value(search).run()
        assert not test.exception
        assert test.toggle(key="choosing").value is True
    assert any(one.label == "Exclude 0 images" for one in test.button)


def test_the_dataset_and_the_filters_are_the_same_when_one_comes_back(phantoms: str) -> None:
    datasets.add("synthetic", "other", images=60)
    test = visit("pages/data/browse.py", data="other")
    test.pills(key="browse-class").set_value(["viral"]).run()
    for page in ("pages/data/curate.py", "pages/data/browse.py"):
        test.query_params.clear()
        test.switch_page(page).run()
        assert box(test, "data").value == "other" and test.query_params["data"] in ("other", ["other"])
    assert "**20 images**" in text(test)


def test_what_is_left_of_a_finding_leads_and_shortcuts_come_before_the_images(doubled: str) -> None:
    made = audit.run("doubled")
    path = workspace.dataset("doubled") / "audit.json"
    strong = {**made.shortcuts[0].__dict__, "auc": 0.95, "ci95": [0.9, 0.99]}
    workspace.write_json(path, {**workspace.read_json(path), "shortcuts": [strong]})
    test = visit("pages/data/audit.py", data="doubled")
    shown = text(test)
    labels = [one.label for one in test.expander]
    assert any(one.startswith(":red[**Shortcut:**") and "AUC 0.95" in one for one in labels), labels
    assert "nearly gives the class away" in shown


def test_real_images_are_shown_before_drawn_ones(doubled: str) -> None:
    datasets.add("synthetic", "aaa", images=30)
    assert box(visit("pages/data/browse.py"), "data").value == "doubled"


def test_a_damaged_index_is_told_on_the_page_of_its_dataset(doubled: str) -> None:
    (workspace.dataset("doubled") / "index.parquet").write_bytes(b"")
    test = visit("pages/data/audit.py", data="doubled")
    assert "The index of dataset 'doubled' is missing or damaged" in test.error[0].value
    home = visit("pages/overview/home.py")
    assert any("'doubled' is missing or damaged" in one.value for one in home.error)


def test_two_folders_that_declare_one_name_are_two_datasets_at_home(doubled: str) -> None:
    shutil.copytree(workspace.dataset("doubled"), workspace.dataset("doubled2"))
    shown = text(visit("pages/overview/home.py"))
    assert "**doubled**" in shown and "**doubled2**" in shown


def test_the_page_builds_the_manifest_that_the_library_builds(trained_home: Path) -> None:
    test = visit("pages/data/curate.py")
    test.session_state["build_split"] = "official"
    test.session_state["build_balance"] = "oversample"
    decisions.decide(NAME, "exclude", index.read(NAME)["id"].tolist()[:5], who="Ada")
    test.run()
    assert "5 images excluded by decision" in text(test)
    press(test, "Build")
    (newest, *_) = manifest.list_manifests(NAME)
    assert newest == manifest.build(NAME, split="official", balance="oversample")
    assert set(newest.counts["train"].values()) == {14}
    assert newest.id in text(test)


def test_supplements_are_still_there_when_their_table_is_drawn_again(phantoms: str) -> None:
    datasets.add("synthetic", "other", images=60, seed=7)
    entered = pd.DataFrame({"From": ["other"], "Class": ["viral"], "Images": pd.Series([3], dtype="Int64")})
    test = visit("pages/data/curate.py", data=NAME)
    assert "from other datasets" not in text(test)
    test.session_state[f"entered-supplements-{NAME}"] = entered
    for part in ("record", "build"):
        test.session_state["part"] = part
        test.run()
        assert not test.exception
    assert "3 images from other datasets" in text(test)


def test_too_few_patients_are_told_and_nothing_can_be_built(trained_home: Path) -> None:
    test = visit("pages/data/curate.py")
    test.session_state["build_split"] = "patient"
    test.session_state["build_share"] = 0.05
    test.run()
    assert "needs at least 20 patients in each class" in text(test)
    assert not any(button.label == "Build" for button in test.button)


def test_the_record_is_shown_and_every_decision_in_it_can_be_reversed(trained_home: Path) -> None:
    ids = index.read(NAME)["id"].tolist()
    decisions.decide(NAME, "exclude", ids[:2], reason="lateral", who="Ada")
    decisions.decide(NAME, "tag", ids[:1], value="odd", who="Ada")
    test = visit("pages/data/curate.py")
    test.session_state["part"] = "record"
    test.run()
    assert test.dataframe[0].value["Decision"].tolist() == ["Tag 1 image 'odd'", "Exclude 2 images"]
    next(one for one in test.selectbox if one.label == "Decision").set_value(1)
    decider(test).set_value("Grace").run()
    press(test, "Undo")
    assert [one.number for one in decisions.in_force(NAME)] == [2]
    press(test, "Redo")
    assert [one.number for one in decisions.in_force(NAME)] == [1, 2]


def test_a_manifest_can_be_trained_on(trained_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cxr_core import process
    from cxr_core.runs import run_store as runs

    monkeypatch.setattr(process, "start", lambda arguments, log, variables=None: process.process_id())
    built = manifest.build(NAME, balance="undersample")
    test = visit("pages/model/train.py")
    test.session_state["train_split-phantoms"] = "manifest"
    test.run()
    press(test, "Start training")
    assert runs.list_runs()[0].config.manifest == built.id


def test_a_link_to_a_manifest_shows_it_whatever_was_chosen_before(phantoms: str) -> None:
    older, newer = (manifest.build(NAME, balance=balance) for balance in ("oversample", "undersample"))
    datasets.add("synthetic", "other", images=60)
    test = visit("pages/model/train.py")
    test.selectbox(key="train_data").set_value("other").run()
    for built in (older, newer):
        test.query_params["manifest"] = f"{NAME}:{built.id}"
        test.run()
        assert test.selectbox(key="train_data").value == NAME
        assert test.selectbox(key=f"train_manifest-{NAME}").value == built.id
    test.query_params["manifest"] = f"{NAME}:gone"
    assert "There is no manifest" in text(test.run())


def test_a_tick_that_came_after_the_button_was_drawn_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    from pages.ui import image_selection

    monkeypatch.setattr(st, "session_state", {"g-True-0": {"chosen": ["a", "b", "gone"]}, "shown-g": {"a", "b", "c"}})
    assert image_selection.selected_now("g", ("a", "other page")) == ("a", "b", "other page")
    assert image_selection.selected_now("h", ("a",)) == ("a",)
