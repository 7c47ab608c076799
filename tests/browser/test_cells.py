"""From a cell of the confusion matrix to its images and a decision in the record; and the report without internet."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from cxr_core.data import datasets, decisions
from cxr_core.evaluation import report
from cxr_core.runs import run_store as runs
from tests import synthetic_runs

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MINUTE = 60_000


@pytest.fixture
def answered(trained_home: Path) -> str:
    """A made-up run on the synthetic set that calls some normals viral."""
    (run,) = runs.list_runs()
    return synthetic_runs.on("phantoms", run.config.manifest, seed=4, skill=1.0, shift=2.0)


def settled(page: Page) -> None:
    """The page has been drawn after what was done last."""
    page.wait_for_timeout(400)
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning", timeout=MINUTE)


def test_cell_to_decision(browser: Browser, serve: Callable[..., Any], trained_home: Path, answered: str) -> None:
    address, _ = serve(trained_home)
    page = browser.new_page(viewport={"width": 1440, "height": 1300})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{address}/results?run={answered}&split=Training")
    plot = page.locator(".js-plotly-plot").first
    expect(plot).to_be_visible(timeout=MINUTE)
    page.wait_for_timeout(1500)

    # A real click on the cell normal × viral.
    place = plot.locator(".nsewdrag").first.bounding_box()
    assert place is not None
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 6
    page.mouse.move(x - 5, y - 5)
    page.mouse.move(x, y, steps=4)
    page.wait_for_timeout(400)
    page.mouse.down()
    page.mouse.up()
    expect(page.get_by_role("heading", name="Normal predicted as viral pneumonia")).to_be_visible(timeout=MINUTE)
    assert "cell=normal" in page.url

    page.wait_for_timeout(1100)  # the chart forgets the click, which runs the page once more
    settled(page)

    # One of its images, large, with the heatmap or word that there is none.
    page.get_by_role("button", name="Open the large view").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("Predicted: viral pneumonia. True class: normal.")).to_be_visible(timeout=MINUTE)
    dialog.get_by_role("radio", name="Heatmap").click()
    expect(dialog.get_by_text("This run has no heatmaps").or_(dialog.get_by_text("Bright:"))).to_be_visible(
        timeout=MINUTE
    )

    # Relabel it there: the decision is in the record.
    dialog.get_by_role("combobox", name="Reason").fill("looks viral")
    page.keyboard.press("Enter")
    settled(page)
    dialog.get_by_role("textbox", name="Your name").fill("Ada")
    dialog.get_by_role("textbox", name="Your name").press("Tab")
    settled(page)
    dialog.get_by_role("button", name="Class and tag").click()
    page.get_by_role("combobox", name="Class", exact=True).click()
    page.get_by_role("option", name="Viral pneumonia").click()
    settled(page)
    page.get_by_role("button", name="Set the class of 1 image").click()
    expect(page.get_by_text("recorded as decision 1")).to_be_visible(timeout=MINUTE)
    (made,) = decisions.record("phantoms")
    assert (made.action, made.value, made.reason, made.who) == ("relabel", "viral", "looks viral", "Ada")
    assert len(made.images) == 1

    # Closed again, the tile says so, and the way to the record leads there.
    page.keyboard.press("Escape")
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0, timeout=MINUTE)
    expect(page.get_by_role("button", name="Relabelled as viral pneumonia")).to_have_count(1, timeout=MINUTE)

    # The address shows the same on a cold start.
    again = browser.new_page(viewport={"width": 1440, "height": 1300})
    again.goto(page.url)
    expect(again.get_by_role("heading", name="Normal predicted as viral pneumonia")).to_be_visible(timeout=MINUTE)
    assert errors == []


def test_report_opens_without_internet(browser: Browser, trained_home: Path, answered: str, tmp_path: Path) -> None:
    assert datasets.list_names() == ["phantoms"]
    others = [run.id for run in runs.list_runs() if run.id != answered]
    path = tmp_path / "report.html"
    path.write_text(report.html([answered, *others]))
    assert path.stat().st_size <= 8 * 2**20
    context = browser.new_context(offline=True)
    page = context.new_page()
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: told.append(request.url) if request.url.startswith("http") else None)
    page.goto(path.as_uri())
    expect(page.locator(".js-plotly-plot")).to_have_count(16, timeout=MINUTE)
    assert not page.locator(".modebar-btn").count()
    for kind in ("PNG", "SVG"):
        with page.expect_download() as saved:
            page.get_by_role("button", name=f"Save Confusion matrix as {kind}").first.click()
        assert saved.value.suggested_filename.startswith("confusion-matrix-")
        assert saved.value.suggested_filename.endswith(f".{kind.lower()}")
    expect(page.get_by_text("not a medical device")).to_be_visible()
    assert told == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    context.close()


def test_report_is_whole_on_paper(browser: Browser, trained_home: Path, answered: str, tmp_path: Path) -> None:
    """On A4 no plot or table is wider than the paper, all that is folded is open, and no button is left."""
    path = tmp_path / "report.html"
    path.write_text(report.html([answered]))
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(path.as_uri())
    expect(page.locator(".js-plotly-plot")).to_have_count(8, timeout=MINUTE)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 688, "height": 970})  # A4 without its margins
    page.wait_for_timeout(500)
    wide = "elements => elements.filter((one) => one.getBoundingClientRect().right > 690).map((one) => one.textContent)"
    assert page.locator("table, figure, .main-svg").evaluate_all(wide) == []
    assert page.locator("details:not([open])").count() == 0
    expect(page.get_by_text("learning_rate")).to_be_visible()
    assert page.locator("button:visible, summary:visible").count() == 0
    page.close()
