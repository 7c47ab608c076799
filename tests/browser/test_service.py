"""Training is a service: it continues without a browser, is the same in every browser, and outlives the server."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from cxr_core import process
from cxr_core.jobs import queue
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MINUTE = 60_000


@pytest.fixture
def home_of_runs(trained_home: Path) -> Iterator[Path]:
    """A workspace whose trainings end with the test."""
    yield trained_home
    for run in runs.list_runs():
        if run.status.state == "queued":
            queue.stop(run.id)
    for run in runs.list_runs():
        if run.status.at_work and run.status.owner is not None:
            process.kill(run.status.owner)


def by_state(state: str) -> list[Run]:
    return sorted((run for run in runs.list_runs() if run.status.state == state), key=lambda run: run.status.created)


def card(page: Page, run: Run) -> Locator:
    return page.locator(f".st-key-card-{run.id}")


def expect_moving(page: Page, run: Run) -> None:
    """The progress on screen changes by itself."""
    bar = card(page, run).get_by_test_id("stProgress")
    expect(bar).to_contain_text("images/s", timeout=2 * MINUTE)
    expect(bar).not_to_have_text(re.compile(f"^{re.escape(bar.inner_text())}$"), timeout=MINUTE)


def expect_waiting(page: Page, run: Run, place: int, count: int) -> None:
    expect(card(page, run)).to_contain_text(f"Number {place} of {count} in the queue", timeout=MINUTE)


def test_three_runs_are_there_and_moving_whatever_becomes_of_browser_and_server(
    browser: Browser, serve: Callable[..., Any], home_of_runs: Path
) -> None:
    address, server = serve(home_of_runs)
    page = browser.new_page(viewport={"width": 1440, "height": 1400})
    page.goto(f"{address}/train")
    epochs = page.get_by_label("Epochs", exact=True)
    epochs.fill("500")
    epochs.press("Tab")
    page.get_by_text("Repeat: several seeds").click()
    starts = page.get_by_label("Seeds", exact=True)
    starts.fill("3")
    starts.press("Tab")
    page.get_by_role("button", name="Start 3 trainings").click()
    expect(page.get_by_text("Number 2 of 2 in the queue")).to_be_visible(timeout=MINUTE)
    (first,) = by_state("running")
    second, third = by_state("queued")
    expect_moving(page, first)

    # A reload shows the same; so does another browser after this one was closed.
    page.reload()
    expect_moving(page, first)
    page.context.close()
    page = browser.new_context(viewport={"width": 1440, "height": 1400}).new_page()
    page.goto(f"{address}/train")
    expect_moving(page, first)
    expect_waiting(page, second, 1, 2)
    expect_waiting(page, third, 2, 2)

    # One is stopped: its best model is kept, and the next starts.
    card(page, first).get_by_role("button", name="Stop").click()
    expect(card(page, first)).to_contain_text("Stopped", timeout=MINUTE)
    expect_moving(page, second)
    expect_waiting(page, third, 1, 1)
    assert runs.get(first.id).has_model

    # The server goes and comes back in the middle: nothing is lost, and the training has not waited for it.
    before = runs.get(second.id).status
    server.terminate()
    server.wait(20)
    page.wait_for_timeout(3000)
    now = runs.get(second.id).status
    assert (now.state, now.owner) == ("running", before.owner)
    assert (now.epoch, now.batch) > (before.epoch, before.batch)
    serve(home_of_runs, port=int(address.rsplit(":", 1)[1]))
    page.goto(f"{address}/train")
    expect_moving(page, second)
    expect_waiting(page, third, 1, 1)
    assert [run.status.state for run in (runs.get(first.id), runs.get(second.id), runs.get(third.id))] == [
        "stopped",
        "running",
        "queued",
    ]
