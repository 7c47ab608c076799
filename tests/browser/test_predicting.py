"""Predict in a real browser: an upload with its map, a pasted image, many at once, nothing on the disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MINUTE = 60_000

# What a browser does on Ctrl+V with a picture in the clipboard.
_PASTE = """async (address) => {
  const blob = await (await fetch(address)).blob()
  const data = new DataTransfer()
  data.items.add(new File([blob], "pasted.png", { type: "image/png" }))
  document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }))
}"""
_PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAQAAAAECAAAAACMmsGiAAAAHElEQVR4nGNg4BCQYBCQUNBgUNAwsG"
    "AwsHDwAAAPtAJBOCtgtgAAAABJRU5ErkJggg=="
)


def test_one_pasted_and_many(browser: Browser, serve: Callable[..., Any], trained_home: Path, tmp_path: Path) -> None:
    address, _ = serve(trained_home)
    page = browser.new_page(viewport={"width": 1440, "height": 1300})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{address}/predict")
    images = sorted((trained_home / "datasets/phantoms/images/test").rglob("*.jpeg"))
    expect(page.get_by_role("heading", level=1)).to_be_visible(timeout=MINUTE)

    # One: the map lies over it, for the class that is asked for.
    page.locator("input[type=file]").set_input_files(images[0])
    expect(page.get_by_text("Bright: contributed most to the score of the class")).to_be_visible(timeout=MINUTE)
    expect(page.get_by_alt_text("Heatmap for")).to_be_visible()
    page.get_by_role("radio", name="Image", exact=True).click()
    expect(page.get_by_alt_text(f"The image {images[0].name}", exact=True)).to_be_visible(timeout=MINUTE)

    # One more, from the clipboard.
    page.evaluate(_PASTE, _PNG)
    expect(page.get_by_text("pasted.png (2 of 2)").first).to_be_visible(timeout=MINUTE)

    # Many: a table, a filter, a row large, files to take away.
    page.goto(f"{address}/predict")
    page.locator("input[type=file]").set_input_files(images[:12])
    expect(page.get_by_text("12 files")).to_be_visible(timeout=MINUTE)
    with page.expect_download() as got:
        page.get_by_role("button", name="All answers as CSV").click()
    assert len(Path(got.value.path()).read_text().splitlines()) == 13
    with page.expect_download() as got:
        page.get_by_role("button", name="All answers as a report").click()
    assert b"not a medical device" in Path(got.value.path()).read_bytes()
    assert errors == []
