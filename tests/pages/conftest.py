"""AppTest has no browser: by default its visitor is one on this machine."""

import re

import pytest
from streamlit.runtime.context import ContextProxy, StreamlitHeaders


def as_read(markdown: str) -> str:
    """What a person reads of words in which every mark is escaped."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", markdown).replace("\N{WORD JOINER}", "")


LOCAL = {"Host": "localhost:8501", "Origin": "http://localhost:8501"}


def set_visitor(monkeypatch: pytest.MonkeyPatch, address: str | None, headers: dict[str, str]) -> None:
    """Let pages be visited from this address, by requests with these headers."""
    monkeypatch.setattr(ContextProxy, "ip_address", address)
    monkeypatch.setattr(ContextProxy, "headers", StreamlitHeaders(headers.items()))


@pytest.fixture(autouse=True)
def local_visitor(monkeypatch: pytest.MonkeyPatch) -> None:
    set_visitor(monkeypatch, None, LOCAL)
