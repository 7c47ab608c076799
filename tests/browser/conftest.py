"""A real server and a real Chromium, for what only a browser shows."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.conftest import PROJECT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("There is no Chromium on this machine; on Debian: apt-get install chromium.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.fixture
def serve() -> Iterator[Callable[..., Any]]:
    """Starts `streamlit run streamlit_app.py` on a workspace; returns (address, process)."""
    started: list[subprocess.Popen[bytes]] = []

    def start(home: Path, port: int | None = None) -> tuple[str, subprocess.Popen[bytes]]:
        port = port or free_port()
        arguments = ["streamlit", "run", "streamlit_app.py", "--server.headless", "true", "--server.port", str(port)]
        server = subprocess.Popen(
            [sys.executable, "-m", *arguments, "--server.fileWatcherType", "none"],
            cwd=PROJECT,
            env={**os.environ, "CXR_HOME": str(home), "CXR_PERSON": "Ada"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        started.append(server)
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2) as answer:
                    if answer.status == 200:
                        return address, server
            except OSError:
                time.sleep(0.2)
        raise AssertionError("The server did not start within a minute.")

    yield start
    for server in started:
        server.terminate()
        server.wait(20)
