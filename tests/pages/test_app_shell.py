"""The frame of every page stays, whatever fails in the background."""

from pathlib import Path

import pytest
import streamlit as st

from cxr_core.data import datasets
from cxr_core.errors import WorkFailed, sentence
from cxr_core.jobs import background_jobs, queue
from cxr_core.runs import config as settings
from cxr_core.runs import run_store as runs
from tests.pages.conftest import as_read
from tests.pages.test_pages import PAGES, text, visit
from tests.synthetic_runs import CLASSES

TRAIN = "pages/model/train.py"


@pytest.fixture(autouse=True)
def fresh_caches() -> None:
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture
def phantoms(home: Path) -> str:
    """A small synthetic dataset; its name."""
    return datasets.add("synthetic", "phantoms", images=60).name


@pytest.mark.parametrize(
    "page", [page if "train" in page else pytest.param(page, marks=pytest.mark.slow) for page in PAGES]
)
def test_a_queue_that_cannot_start_runs_replaces_no_page(
    page: str, phantoms: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [title.value for title in visit(page).title]
    monkeypatch.setenv("CXR_PLACES", "two")
    run_id = runs.create(
        settings.make(
            model="custom_cnn", recipe="paper", data=phantoms, manifest="0" * 12, classes=CLASSES, settings={}
        )
    )
    test = visit(page)
    assert [title.value for title in test.title] == expected
    assert not test.error
    reason = runs.get(run_id).status.waits_for
    assert "CXR_PLACES" in reason and "whole number" in reason
    train = test if page == TRAIN else visit(TRAIN)
    assert [warning.value for warning in train.warning if "CXR_PLACES" in warning.value] == [
        reason
    ]  # on the run's card
    assert "Number 1 of 1 in the queue" in text(train)


@pytest.mark.parametrize("problem", [WorkFailed("The cluster is down."), PermissionError(13, "Permission denied")])
def test_whatever_keeps_the_queue_from_starting_runs_is_a_notice(
    problem: Exception, phantoms: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise problem

    monkeypatch.setattr(queue, "dispatch", fail)
    test = visit("pages/data/browse.py")
    assert "60 images" in text(test)
    assert any(as_read(one.value).count(sentence(problem)) for one in test.warning)


def test_a_button_whose_work_fails_leaves_the_page(phantoms: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise WorkFailed(f"No process could be started for {name}.")

    monkeypatch.setattr(background_jobs, "audit", fail)
    test = visit("pages/data/audit.py")
    button = next(one for one in test.button if one.label == "Run the audit")
    button.click().run()
    assert not test.exception
    assert [one.value for one in test.title] == ["Audit"]
    assert ["No process could be started for phantoms." in one.value for one in test.toast] == [True]
