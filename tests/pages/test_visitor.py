"""Paths that a visitor of the pages may type; nothing of a file that they may not open is ever shown."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from cxr_core import process
from cxr_core.data import allowed_paths, datasets
from cxr_core.errors import BadInput
from cxr_core.jobs import background_jobs
from cxr_core.runs import run_store as runs
from pages.ui import run_card, visitor
from tests.pages.conftest import LOCAL, as_read, set_visitor
from tests.pages.test_pages import choose_networks, text, visit

HOME, TRAIN = "pages/overview/home.py", "pages/model/train.py"
SECRET = "TOKEN-5f2c91"
REMOTE = ("203.0.113.7", {"Host": "xray.example.org", "Origin": "https://xray.example.org"})
Tree = Callable[..., Path]


@pytest.fixture(autouse=True)
def fresh_caches() -> None:
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture
def workspace_without_data(home: Path) -> None:
    (home / "datasets").mkdir(parents=True)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "outside" / "secret.csv"
    path.parent.mkdir()
    path.write_text(f"{SECRET},password\n1,2\n")
    return path


@pytest.fixture
def root(tmp_path: Path, xray_tree: Tree, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder that visitors may open, with the dataset `tree` in it."""
    folder = tmp_path / "root"
    folder.mkdir()
    xray_tree().rename(folder / "tree")
    monkeypatch.setenv(allowed_paths.ROOTS, str(folder))
    return folder


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The sources that a page has begun to add, with their options."""
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(background_jobs, "add", lambda source, name, *, options: calls.append((source, *options)))
    return calls


def labels(test: AppTest) -> set[str]:
    return {field.label for field in test.text_input}


def add(path: str, table: str = "") -> AppTest:
    """Home, once the form has been sent with this path and table of findings."""
    test = visit(HOME)
    for label, value in (("Path", path), ("Table of findings", table), ("Name", "typed")):
        next(field for field in test.text_input if field.label == label).set_value(value)
    next(button for button in test.button if button.label == "Add").click().run()
    assert not test.exception
    return test


def job_problem() -> str:
    """Reason for which the only job failed."""
    limit = time.monotonic() + 60
    while (job := background_jobs.list_jobs()[0]).running:
        assert time.monotonic() < limit
        time.sleep(0.05)
    return job.problem


def is_local(monkeypatch: pytest.MonkeyPatch, address: str | None, headers: dict[str, str]) -> bool:
    set_visitor(monkeypatch, address, headers)
    return visitor.is_local()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8501", "127.0.0.1:8501", "[::1]:8501", "[::1]"])
@pytest.mark.parametrize("address", [None, "127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_a_browser_on_this_machine_is_local(monkeypatch: pytest.MonkeyPatch, address: str | None, host: str) -> None:
    assert is_local(monkeypatch, address, {"Host": host})
    assert is_local(monkeypatch, address, {"host": host, "origin": f"http://{host}"})


@pytest.mark.parametrize("address", ["203.0.113.7", "192.168.0.2", "::ffff:203.0.113.7", "0.0.0.0", "", "localhost"])
def test_another_machine_is_remote(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    assert not is_local(monkeypatch, address, LOCAL)


@pytest.mark.parametrize("header", ["Forwarded", "x-forwarded-for", "X-Forwarded-Host", "X-Real-Ip", "Via"])
def test_a_visitor_behind_a_proxy_is_remote(monkeypatch: pytest.MonkeyPatch, header: str) -> None:
    assert not is_local(monkeypatch, None, {**LOCAL, header: "127.0.0.1"})


@pytest.mark.parametrize("host", ["xray.example.org", "localhost.example.org", "127.0.0.1.example.org", "", "0.0.0.0"])
def test_a_visitor_by_another_name_is_remote(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    assert not is_local(monkeypatch, None, {"Host": host})
    assert not is_local(monkeypatch, None, {"Host": "localhost", "Origin": f"https://{host}"}), "a proxy that hides"


def test_a_session_that_has_been_disconnected_is_remote(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_local(monkeypatch, None, {}), "Streamlit knows neither its address nor its headers"


def test_a_local_visitor_adds_any_path(
    workspace_without_data: None, secret: Path, added: list[tuple[str, ...]]
) -> None:
    add("/data/nih", str(secret))
    assert added == [("/data/nih", "--labels", str(secret))]


def test_a_remote_visitor_has_no_field_for_a_path(
    workspace_without_data: None, monkeypatch: pytest.MonkeyPatch, added: list[tuple[str, ...]]
) -> None:
    set_visitor(monkeypatch, *REMOTE)
    test = visit(HOME)
    assert not {"Path", "Table of findings"} & labels(test)
    assert {tab.label for tab in test.tabs} >= {"Kaggle", "Upload a zip", "Synthetic"}
    assert "Folder or zip on this machine" not in {tab.label for tab in test.tabs}
    with pytest.raises(BadInput, match="same machine"):
        visitor.checked_path("/etc/passwd")


def test_a_visitor_who_was_local_when_the_form_was_drawn_is_checked_when_it_is_sent(
    workspace_without_data: None, monkeypatch: pytest.MonkeyPatch, added: list[tuple[str, ...]]
) -> None:
    monkeypatch.setattr(visitor, "may_type_paths", lambda: True)
    set_visitor(monkeypatch, *REMOTE)
    assert "same machine" in text(add("/etc/passwd"))
    assert added == []


def test_no_roots_close_the_fields_to_everybody(workspace_without_data: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(allowed_paths.ROOTS, "")
    assert "Path" not in labels(visit(HOME))


@pytest.mark.parametrize("who", [(None, LOCAL), REMOTE])
def test_with_roots_everybody_adds_what_is_below_them_only(
    workspace_without_data: None,
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
    secret: Path,
    added: list[tuple[str, ...]],
    who: tuple[str | None, dict[str, str]],
) -> None:
    set_visitor(monkeypatch, *who)
    (root / "link.csv").symlink_to(secret)
    add(str(root / "tree"))
    assert added == [(str(root / "tree"),)]
    added.clear()
    outside = (
        "/proc/self/environ",
        str(secret),
        str(secret.parent),
        f"{root}/../outside/secret.csv",
        str(root / "link.csv"),
        str(secret.with_name("missing.csv")),
        f"{root}-beside",
    )
    for path in outside:
        refusal = f"'{path}' is not below a folder that this server opens for visitors (CXR_DATA_ROOTS)."
        for test in (add(path), add(str(root / "tree"), path)):
            assert [as_read(error.value) for error in test.error] == [refusal]
            assert SECRET not in text(test)
    assert added == []


@pytest.mark.parametrize("table", ["environ", "secret"])
def test_a_job_says_nothing_of_a_file_that_is_no_table(
    workspace_without_data: None, monkeypatch: pytest.MonkeyPatch, xray_tree: Tree, secret: Path, table: str
) -> None:
    monkeypatch.setenv("MY_API_TOKEN", SECRET)
    add(str(xray_tree()), "/proc/self/environ" if table == "environ" else str(secret))
    assert "Expected: a CSV with the columns" in job_problem()
    assert SECRET not in job_problem() + text(visit(HOME))


def test_a_job_does_not_open_an_archive_that_is_none(
    workspace_without_data: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_TOKEN", SECRET)
    add("/proc/self/environ")
    assert job_problem() == "environ is not a zip archive that can be read."


def test_a_job_says_nothing_of_an_unexpected_error(home: Path, workspace_without_data: None) -> None:
    background_jobs.add_upload(b"no zip", "typed")
    job_problem()
    log = home / "datasets" / ".errands" / "typed" / "log.txt"
    log.write_text(f"Traceback (most recent call last):\n  File\nValueError: could not convert {SECRET}\n")
    assert job_problem() == f"An unexpected error ended it. The log has the details: {log}."


def test_a_remote_visitor_cannot_start_from_a_weights_file(trained_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_visitor(monkeypatch, *REMOTE)
    test = choose_networks(visit(TRAIN), "vgg16")
    assert "A file" not in test.selectbox(key="train_weights-vgg16").options
    monkeypatch.setattr(visitor, "may_type_paths", lambda: True)  # as if the state of the widgets were sent by hand
    test.run().selectbox(key="train_weights-vgg16").set_value("file").run()
    test.text_input(key="train_file-vgg16").set_value("/proc/self/environ").run()
    assert any("same machine" in as_read(error.value) for error in test.error)


@pytest.mark.parametrize("file", ["outside/secret.csv", "outside/missing.h5", "root/link.h5"])
def test_a_weights_file_lies_below_the_roots(trained_home: Path, root: Path, secret: Path, file: str) -> None:
    (root / "link.h5").symlink_to(secret)
    path = root.parent / file
    test = choose_networks(visit(TRAIN), "vgg16")
    test.selectbox(key="train_weights-vgg16").set_value("file").run()
    test.text_input(key="train_file-vgg16").set_value(str(path)).run()
    refusal = f"'{path}' is not below a folder that this server opens for visitors (CXR_DATA_ROOTS)."
    assert [as_read(error.value) for error in test.error] == [refusal]


def test_a_run_is_trained_again_from_no_other_file(
    trained_home: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    (run,) = runs.list_runs()
    with pytest.raises(BadInput, match="CXR_DATA_ROOTS"):
        run_card._checked({"weights": "/proc/self/environ"}, run.config)
    assert run_card._checked({"weights": run.config.weights}, run.config) == {"weights": run.config.weights}
    assert run_card._checked({"weights": "imagenet"}, run.config) == {"weights": "imagenet"}
    inside = root / "tree" / ".." / "weights.h5"
    assert run_card._checked({"weights": str(inside)}, run.config) == {"weights": str(root / "weights.h5")}
    monkeypatch.delenv(allowed_paths.ROOTS)
    set_visitor(monkeypatch, *REMOTE)
    monkeypatch.setattr(process, "start", lambda arguments, log, variables=None: process.process_id())
    test = visit(TRAIN)
    test.button(key=f":material/content_copy:-{run.id}").click().run()
    assert f"again-{run.id}-weights" not in {field.key for field in test.text_input}


def test_a_job_follows_no_link_out_of_the_roots(
    workspace_without_data: None, root: Path, secret: Path, xray_tree: Tree
) -> None:
    elsewhere = xray_tree("elsewhere")
    (root / "tree/train/NORMAL/linked.jpeg").symlink_to(elsewhere / "train/NORMAL/IM-0001-0001.jpeg")
    (root / "tree/train/OTHER").symlink_to(elsewhere / "train/PNEUMONIA")
    (root / "tree/train/NORMAL/inside.jpeg").symlink_to(root / "tree/train/NORMAL/IM-0001-0001.jpeg")
    add(str(root / "tree"))
    limit = time.monotonic() + 60
    while background_jobs.list_jobs():
        assert time.monotonic() < limit
        time.sleep(0.05)
    dataset = datasets.get("typed")
    assert dataset.classes == ("normal", "viral", "bacterial") and dataset.images == 14
    assert {(skipped["file"], skipped["reason"]) for skipped in dataset.skipped} == {
        ("train/NORMAL/linked.jpeg", allowed_paths.LINK_REASON),
        ("train/OTHER", allowed_paths.LINK_REASON),
    }
    assert allowed_paths.FROM_PAGE not in os.environ
