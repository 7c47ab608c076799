"""From a duplicate that the audit found, over its exclusion and the way back, to a balanced manifest."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from cxr_core.data import datasets, decisions, manifest

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MINUTE = 60_000


def test_curation(browser: Browser, serve: Callable[..., Any], trained_home: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(trained_home / "datasets" / "phantoms" / "images", tree)
    for number in (90, 91):
        shutil.copy(tree / "train/viral/synthetic-p0000-0.jpeg", tree / f"train/viral/synthetic-p00{number}-0.jpeg")
    datasets.add(str(tree), "doubled")
    address, _ = serve(trained_home)
    page = browser.new_page(viewport={"width": 1440, "height": 1100})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    # Find the duplicates.
    page.goto(f"{address}/audit?data=doubled")
    page.get_by_role("button", name="Run the audit").click()
    expect(page.get_by_text("3 images in 1 group")).to_be_visible(timeout=MINUTE)
    tiles = page.get_by_role("button", name="Choose it")
    expect(tiles).to_have_count(3)
    expect(tiles.first).to_be_visible()

    page.get_by_role("textbox", name="Your name").fill("Ada")
    page.get_by_role("textbox", name="Your name").press("Tab")

    # Exclude a selection: by mouse, and by keyboard.
    tiles.nth(1).click()
    expect(page.get_by_role("button", name="Exclude 1 image")).to_be_visible(timeout=MINUTE)
    tiles.nth(2).focus()
    page.keyboard.press("Space")
    expect(tiles.nth(2)).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Exclude 2 images").click()
    expect(page.get_by_text("2 of 3 are already excluded")).to_be_visible(timeout=MINUTE)
    (made,) = decisions.record("doubled")
    assert made.images == ("train/viral/synthetic-p0090-0.jpeg", "train/viral/synthetic-p0091-0.jpeg")

    # Undo it, and exclude all but the first in two clicks.
    page.get_by_role("button", name="Undo: Exclude 2 images").click()
    expect(page.get_by_text("are already excluded")).to_have_count(0, timeout=MINUTE)
    page.get_by_role("button", name="Select all but the first of each group").click()
    page.get_by_role("button", name="Exclude 2 images").click()
    expect(page.get_by_text("2 of 3 are already excluded")).to_be_visible(timeout=MINUTE)

    # Build a balanced manifest, and reach the training of it.
    page.goto(f"{address}/curate?data=doubled")
    page.get_by_role("radio", name="Official, as in the source").click()
    page.get_by_label("Strategy").click()
    page.get_by_role("option", name="Undersample").click()
    expect(page.get_by_text("2 images excluded by decision")).to_be_visible(timeout=MINUTE)
    expect(page.get_by_text("Undersampling leaves")).to_be_visible(timeout=MINUTE)
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning", timeout=MINUTE)
    page.get_by_role("button", name="Build", exact=True).click()
    expect(page.get_by_text("Just built")).to_be_visible(timeout=MINUTE)
    (built,) = manifest.list_manifests("doubled")
    assert (built.excluded, built.balance, set(built.counts["train"].values())) == (2, "undersample", {14})
    page.get_by_role("link", name="Train on this set").click()
    expect(page.get_by_role("heading", name="Train", level=1)).to_be_visible(timeout=MINUTE)
    expect(page.get_by_role("combobox", name="Manifest")).to_have_value(re.compile(built.id), timeout=MINUTE)
    assert errors == []
