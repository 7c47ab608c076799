"""From the first start of a fresh clone, over a training, to the prediction of an uploaded file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect

from cxr_core.runs import run_store as runs
from tests import synthetic_runs

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MINUTE = 60_000


def go(page: Page, name: str) -> None:
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible(timeout=MINUTE)


def test_journey(browser: Browser, serve: Callable[..., Any], home: Path) -> None:
    address, server = serve(home)
    page = browser.new_page(viewport={"width": 1440, "height": 1000})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    # First start: nothing is there, and a synthetic set is drawn by itself.
    page.goto(address)
    expect(page.get_by_text("Synthetic images").first).to_be_visible(timeout=2 * MINUTE)
    expect(page.get_by_text("900 images of 450 patients")).to_be_visible()

    # Browse: filter, then open one image.
    go(page, "Browse")
    page.get_by_role("button", name="Viral pneumonia").first.click()
    expect(page.get_by_text("300 images")).to_be_visible(timeout=MINUTE)
    # The tiles of the choice before are gone when the page has been drawn.
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning", timeout=MINUTE)
    page.wait_for_timeout(1000)
    page.get_by_role("button", name="Open the large view").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("224 × 224 pixels")).to_be_visible(timeout=MINUTE)
    page.keyboard.press("Escape")

    # Train: one epoch; the run survives a reload and a restart of the server.
    go(page, "Train")
    epochs = page.get_by_label("Epochs", exact=True)
    epochs.fill("1")
    epochs.press("Tab")
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("button", name="Stop")).to_be_visible(timeout=MINUTE)
    expect(page.get_by_text("images/s")).to_be_visible(timeout=2 * MINUTE)
    page.reload()
    expect(page.get_by_role("button", name="Stop")).to_be_visible(timeout=MINUTE)
    server.terminate()
    server.wait(20)
    serve(home, port=int(address.rsplit(":", 1)[1]))
    page.goto(f"{address}/train")
    expect(page.get_by_text("Finished").first).to_be_visible(timeout=3 * MINUTE)

    # Results: every split, with its confusion matrix.
    page.get_by_test_id("stPageLink").get_by_role("link", name="Results", exact=True).first.click()
    expect(page.get_by_role("heading", name="Confusion matrix")).to_be_visible(timeout=MINUTE)
    for split, images in (("Validation", "108"), ("Training", "612"), ("Test", "180")):
        page.get_by_role("radio", name=split).click()
        expect(page.get_by_test_id("stMetricValue").first).to_have_text(images, timeout=MINUTE)
    expect(page.locator(".js-plotly-plot").first).to_be_visible()

    # Predict: an uploaded test image has the probabilities of its row in the predictions table.
    (table,) = [pd.read_parquet(path) for path in home.glob("runs/*/predictions/test.parquet")]
    row = table.iloc[7]
    go(page, "Predict")
    page.locator("input[type=file]").set_input_files(home / "datasets/synthetic/images" / row["id"])
    expect(page.get_by_text("(uncalibrated)")).to_be_visible(timeout=2 * MINUTE)
    best = max(("normal", "viral", "bacterial"), key=lambda name: float(row[f"p_{name}"]))
    expect(page.get_by_test_id("stVerticalBlock").get_by_text("Prediction of the model").first).to_be_visible()
    called = {"normal": "Normal"}.get(
        best, f"{best.capitalize()} pneumonia"
    )  # in the heading, or as what it is nearest to
    expect(page.locator("h2, strong").filter(has_text=called).first).to_be_visible()
    shown = f"{100 * row[f'p_{best}']:.1f} %"
    expect(page.get_by_text(shown, exact=True).first).to_be_visible()
    expect(page.get_by_text("not a medical device").first).to_be_visible()
    assert errors == []


def test_pages_fit_a_phone(browser: Browser, serve: Callable[..., Any], trained_home: Path) -> None:
    """Nothing sticks out sideways at 390 pixels, in light and in dark."""
    (run,) = runs.list_runs()
    synthetic_runs.on("phantoms", run.config.manifest, seed=4)  # Compare needs a second one
    runs.describe(run.id, name="A run with the longest name that a person may give to one, eighty letters in all")
    address, _ = serve(trained_home)
    for scheme in ("light", "dark"):
        context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
        page = context.new_page()
        for path in ("", "browse", "audit", "curate", "train", "results", "leaderboard", "compare", "predict"):
            page.goto(f"{address}/{path}")
            expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=MINUTE)
            page.wait_for_timeout(500)
            width = page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
            assert width <= 390, f"{path or 'home'} is {width} pixels wide ({scheme})"
            for plot in page.locator(".js-plotly-plot .main-svg:first-child").all():
                cut = plot.evaluate(
                    "svg => [...svg.querySelectorAll('text')].filter((one) => one.getBoundingClientRect().width"
                    " && (one.getBoundingClientRect().right > svg.getBoundingClientRect().right + 2"
                    " || one.getBoundingClientRect().left < svg.getBoundingClientRect().left - 2)).map((one) => one.textContent)"
                )
                assert not cut, f"{path or 'home'} cuts {cut} ({scheme})"
        context.close()
