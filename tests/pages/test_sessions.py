"""Sessions whose tab has gone end by the clock, and a file is shown to those that have it."""

from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from streamlit import config

from pages.ui import sessions
from pages.ui.sessions import AWAY_SECONDS, LOOK_SECONDS, MOST_AWAY, SessionsAway


class Session:
    def __init__(self, session_id: str):
        self.id, self.is_ended = session_id, False

    def shutdown(self) -> None:
        self.is_ended = True


def leave(away: SessionsAway, session_id: str) -> Session:
    session = Session(session_id)
    info: Any = SimpleNamespace(session=session)
    away.save(info)
    return session


@pytest.fixture
def clock() -> SimpleNamespace:
    return SimpleNamespace(now=0.0)


def test_a_session_ends_when_its_tab_has_been_away_too_long(clock: SimpleNamespace) -> None:
    away = SessionsAway(lambda: clock.now)
    first = leave(away, "first")
    clock.now = AWAY_SECONDS - 1
    second = leave(away, "second")
    assert away.end_old() == [] and away.get("first") is not None
    clock.now = AWAY_SECONDS
    assert away.end_old() == ["first"] and first.is_ended and not second.is_ended
    assert away.get("first") is None and [info.session.id for info in away.list()] == ["second"]


def test_a_session_whose_tab_came_back_goes_on(clock: SimpleNamespace) -> None:
    away = SessionsAway(lambda: clock.now)
    session = leave(away, "a")
    away.delete("a")  # as Streamlit does when the tab is there again
    clock.now = 10 * AWAY_SECONDS
    assert away.end_old() == [] and not session.is_ended


def test_of_too_many_sessions_the_longest_away_end(clock: SimpleNamespace) -> None:
    away = SessionsAway(lambda: clock.now)
    for number in range(MOST_AWAY + 2):
        clock.now = number / 1000
        leave(away, str(number))
    assert away.end_old() == ["0", "1"]


def test_a_session_that_cannot_end_keeps_no_other_from_it(clock: SimpleNamespace) -> None:
    away = SessionsAway(lambda: clock.now)
    first, second = leave(away, "first"), leave(away, "second")
    first.shutdown = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    clock.now = AWAY_SECONDS
    assert away.end_old() == ["first", "second"] and second.is_ended


def test_two_minutes_are_kept() -> None:
    assert AWAY_SECONDS + LOOK_SECONDS < 120


def test_a_file_is_shown_to_the_browsers_of_its_sessions_until_they_end() -> None:
    shown = sessions._ShownFiles()
    shown.arrive("a", "Ann")
    shown.arrive("b", "Bob")
    shown.show("lungs", "a")
    assert shown.is_shown_to("lungs", "Ann")
    assert not any(shown.is_shown_to("lungs", visitor) for visitor in ("Bob", "", "Eve"))
    assert not shown.is_shown_to("heart", "Ann")
    shown.show("lungs", "b")  # the same picture has the same address
    assert shown.end(["a"], lambda: ["lungs"]) == set()
    assert not shown.is_shown_to("lungs", "Ann") and shown.is_shown_to("lungs", "Bob")
    shown.show("heart", "b")
    assert shown.end([], lambda: ["heart"]) == set() and not shown.is_shown_to(
        "lungs", "Bob"
    )  # Streamlit has dropped it
    assert shown.end(["b"], lambda: ["heart"]) == {"heart"}  # which nobody shows now
    assert shown.sessions() == set()


def test_a_session_without_a_cookie_shows_its_files_to_nobody() -> None:
    shown = sessions._ShownFiles()
    shown.show("lungs", "a")
    assert not shown.is_shown_to("lungs", "")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """A server that answers everything with 304, and shows the file `lungs` to Ann."""
    shown = sessions._ShownFiles()
    shown.arrive("a", "Ann")
    shown.show("lungs", "a")
    monkeypatch.setattr(sessions, "_SHOWN", shown)

    async def not_modified(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 304, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return TestClient(sessions.OwnFiles(not_modified))


PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_a_browser_gets_one_cookie_with_its_first_page_even_if_it_has_that_page_already(client: TestClient) -> None:
    cookie = client.get("/predict", headers=PAGE).headers["set-cookie"]
    assert cookie.startswith("cxr_visitor=") and "HttpOnly" in cookie and "SameSite=Lax" in cookie
    assert "set-cookie" not in client.get("/", headers=PAGE).headers  # it has one now
    client.cookies.clear()
    assert "set-cookie" not in client.get("/_stcore/health").headers


@pytest.mark.parametrize("path", ["/media/lungs.png", "/below/a/prefix/media/lungs.png", "/media/lungs"])
def test_a_file_is_there_for_those_only_that_it_is_shown_to(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
    assert client.get(path, headers={"Cookie": "cxr_visitor=Bob"}).status_code == 404
    assert client.get(path, headers={"Cookie": "cxr_visitor="}).status_code == 404
    answer = client.get(path, headers={"Cookie": "cxr_visitor=Ann"})
    assert answer.status_code == 304 and "private" in answer.headers["cache-control"]


def test_the_fonts_of_the_page_are_there_for_all(client: TestClient) -> None:
    assert client.get("/static/media/font.woff2").status_code == 304


def test_also_below_a_base_path_called_static(client: TestClient) -> None:
    config.set_option("server.baseUrlPath", "static")
    try:
        assert client.get("/static/media/lungs.png").status_code == 404
        assert client.get("/static/static/media/font.woff2").status_code == 304
    finally:
        config.set_option("server.baseUrlPath", "")


@pytest.mark.parametrize(
    ("visitor", "asked"), [("Ann", b"streamlit, token, a"), ("Bob", b"streamlit, token,"), ("", b"streamlit, token,")]
)
def test_a_session_goes_back_to_its_own_browser_alone(client: TestClient, visitor: str, asked: bytes) -> None:
    given = sessions._own_session(b"sec-websocket-protocol", b"streamlit, token, a", visitor)
    assert given == asked
    assert (
        sessions._own_session(b"sec-websocket-protocol", b"streamlit, token, new", visitor) == b"streamlit, token, new"
    )
    assert sessions._own_session(b"sec-websocket-protocol", b"streamlit", visitor) == b"streamlit"
