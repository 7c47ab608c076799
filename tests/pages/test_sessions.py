"""Sessions whose tab has gone end by the clock, and a file is shown to those that have it."""

from types import SimpleNamespace
from typing import Any

import pytest

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
    shown.end(["a"], {"lungs"})
    assert not shown.is_shown_to("lungs", "Ann") and shown.is_shown_to("lungs", "Bob")
    shown.end([], set())  # Streamlit has dropped it
    assert not shown.is_shown_to("lungs", "Bob")


def test_a_session_without_a_cookie_shows_its_files_to_nobody() -> None:
    shown = sessions._ShownFiles()
    shown.show("lungs", "a")
    assert not shown.is_shown_to("lungs", "")
