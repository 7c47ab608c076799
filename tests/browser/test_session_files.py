"""What a session has uploaded is shown to its own browser alone, and is gone two minutes after its tab was closed."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from playwright.sync_api import Browser, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MINUTE = 60_000


def test_pictures_and_downloads_of_uploads_belong_to_their_session(
    browser: Browser, serve: Callable[..., Any], trained_home: Path
) -> None:
    address, _ = serve(trained_home)
    images = sorted((trained_home / "datasets/phantoms/images/test").rglob("*.jpeg"))
    own, other = browser.new_context(), browser.new_context()
    page, many, stranger = own.new_page(), own.new_page(), other.new_page()

    def statuses(visitor: Any) -> set[int]:
        return {visitor.request.get(url).status for url in urls}

    missing: list[str] = []
    page.on(
        "response",
        lambda answer: missing.append(answer.url) if answer.status >= 400 and "/static/" in answer.url else None,
    )
    for tab, chosen in ((page, images[:1]), (many, images[:12])):
        tab.goto(f"{address}/predict")
        tab.locator("input[type=file]").set_input_files(chosen)
    picture = page.get_by_alt_text("Heatmap for").locator("visible=true").first
    expect(picture).to_be_visible(timeout=MINUTE)
    expect(many.get_by_text("12 files")).to_be_visible(timeout=MINUTE)
    with many.expect_download(timeout=MINUTE) as csv:
        many.get_by_role("button", name="All answers as CSV").click()
    with many.expect_download(timeout=MINUTE) as report:
        many.get_by_role("button", name="All answers as a report").click()
    urls = [csv.value.url, report.value.url, urljoin(address, picture.get_attribute("src"))]
    assert all("/media/" in url for url in urls), urls
    assert statuses(own) == {200}
    assert missing == []  # the fonts of the page lie in a folder called media too

    # The addresses alone, without the cookie of this browser or with that of another one, open nothing.
    assert statuses(other) == {404}
    stranger.goto(address)
    expect(stranger.get_by_role("heading", level=1)).to_be_visible(timeout=MINUTE)
    assert statuses(other) == {404}

    page.close()
    many.close()
    closed = time.monotonic()
    while statuses(own) != {404} and time.monotonic() - closed < 120:
        time.sleep(3)
    assert statuses(own) == {404}
