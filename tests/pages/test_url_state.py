"""Choices in the address of a page: by names that stay, with older words understood, and never lost in silence."""

import ast
import sys
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.conftest import PROJECT

WIDGETS = (
    "checkbox", "multiselect", "number_input", "pills", "radio", "segmented_control", "select_slider", "selectbox", "slider",
    "text_area", "text_input", "toggle",
)  # fmt: skip
FORGOTTEN = {  # widgets that begin anew on purpose when they are drawn again
    "Show the prediction anyway": "a refusal is overridden for one image, not for the next of the same name",
    "Class explained": "of one image",
    "label": "a frame of one file",
    "Image": "the link to Predict decides",
    # in a form or dialog, whose fields are sent or thrown away as a whole
    "Path": "", "Name": "", "Table of findings": "", "Class = findings": "", "Images": "", "Note": "",
    "Rotation, degrees": "", "Translation": "", "Zoom": "", "Aspect jitter": "", "Brightness": "", "Contrast": "", "Flip": "",
}  # fmt: skip


@pytest.fixture(autouse=True)
def same_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit makes the script `__main__`; a process pool of a later test would look for its deleted file."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


def script() -> None:
    """A page with one widget of each kind, as the test has put into the session."""
    import streamlit as st

    from pages.ui import url_state

    given = st.session_state["given"]
    url_state.enter(given.get("page", "first"))
    if given.get("drawn", True):
        titles = given.get("titles", {"val": "Validation", "test": "Test"})
        options: dict = {"titles": titles, "kind": "split"} | given.get("options", {})
        st.session_state["split-chosen"] = url_state.choice("Images", list(titles), key="split", **options)
        st.session_state["class-chosen"] = url_state.choices(
            "Class", ["normal", "viral"], key="class", titles={"viral": "Viral pneumonia"}
        )
        st.session_state["least-chosen"] = url_state.value(
            "At least", 0.5, 1.0, key="least", default=0.95, widget=st.slider
        )
        st.session_state["search-chosen"] = url_state.value("File", key="search", default="")


def page(address: dict[str, str] | None = None, **given: Any) -> AppTest:
    test = AppTest.from_function(script, default_timeout=30)
    for name, text in (address or {}).items():
        test.query_params[name] = text
    test.session_state["given"] = given
    test.run()
    assert not test.exception, test.exception[0].message
    return test


def again(test: AppTest, **given: Any) -> AppTest:
    test.session_state["given"] = given
    test.run()
    assert not test.exception, test.exception[0].message
    return test


def chosen(test: AppTest, key: str = "split") -> Any:
    return test.session_state[f"{key}-chosen"]


def held(test: AppTest, key: str = "split") -> Any:
    """Values of a key in the address."""
    texts = test.query_params.get(key, [])
    return texts if isinstance(texts, list) else [texts]


def test_the_first_is_shown_and_held_by_the_address_unless_it_is_the_default() -> None:
    test = page()
    assert (chosen(test), held(test)) == ("val", ["val"])
    test = page(options={"default": "test"})
    assert (chosen(test), held(test)) == ("test", [])
    test.selectbox(key="split").set_value("val").run()
    assert (chosen(test), held(test)) == ("val", ["val"])


@pytest.mark.parametrize("text", ["test", "Test", "Examination"])
def test_a_name_a_title_and_what_older_addresses_said_are_understood(text: str) -> None:
    test = page({"split": text}, options={"former": {"Examination": "test"}.get, "default": "val"})
    assert (chosen(test), held(test)) == ("test", ["test"])
    assert not test.warning


def test_what_is_not_there_is_reported_on_every_run_until_it_comes_back() -> None:
    test = page({"split": "gone"})
    for _ in range(2):
        assert [one.value for one in test.warning] == ["There is no split 'gone'. Shown instead: Validation."]
        assert (chosen(test), held(test)) == ("val", ["gone"])
        again(test)
    again(test, titles={"val": "Validation", "test": "Test", "gone": "Back"})
    assert (chosen(test), held(test)) == ("gone", ["gone"])
    assert not test.warning


def test_why_something_cannot_be_chosen_is_an_error() -> None:
    test = page({"split": "gone"}, options={"refused": {"gone": "It is damaged."}})
    assert [one.value for one in test.error] == ["It is damaged. Shown instead: Validation."]


def test_a_choice_replaces_the_address_and_a_new_address_the_choice() -> None:
    test = page({"split": "gone"})
    test.selectbox(key="split").set_value("test").run()
    assert (chosen(test), held(test)) == ("test", ["test"])
    test.query_params["split"] = "val"
    again(test)
    assert (chosen(test), test.selectbox(key="split").value) == ("val", "val")


def test_an_address_emptied_by_the_browsers_back_shows_the_default() -> None:
    test = page(options={"default": "val"})
    test.selectbox(key="split").set_value("test").run()
    test.query_params.clear()
    assert chosen(again(test, options={"default": "val"})) == "val"


def test_what_is_not_drawn_for_a_while_comes_back_with_its_choice() -> None:
    test = page()
    test.selectbox(key="split").set_value("test")
    test.slider(key="least").set_value(0.8)
    test.text_input(key="search").set_value("virus").run()
    again(test, drawn=False)
    again(test)
    assert (chosen(test), chosen(test, "least"), chosen(test, "search")) == ("test", 0.8, "virus")
    assert (test.selectbox(key="split").value, test.slider(key="least").value) == ("test", 0.8)


def test_a_page_that_is_left_comes_back_with_its_choices() -> None:
    test = page()
    test.selectbox(key="split").set_value("test").run()
    test.query_params.clear()  # as the browser does when it goes to another page
    again(test, page="second", drawn=False)
    again(test, page="first")
    assert (chosen(test), held(test)) == ("test", ["test"])


def test_other_titles_keep_the_choice() -> None:
    test = page({"split": "test"})
    again(test, titles={"val": "A", "test": "B", "train": "C"})
    assert (chosen(test), test.selectbox(key="split").value) == ("test", "test")
    assert not test.warning


def test_several_are_read_by_name_by_title_and_joined_by_commas() -> None:
    for text in ("normal,viral", "normal,Viral pneumonia"):
        test = page({"class": text})
        assert (chosen(test, "class"), held(test, "class")) == (("normal", "viral"), ["normal", "viral"])
    test.pills(key="class").set_value(["viral"]).run()
    assert (chosen(test, "class"), held(test, "class")) == (("viral",), ["viral"])
    test = page({"class": "normal,gone"})
    assert chosen(test, "class") == ("normal",)
    assert "there is no such choice: gone" in test.warning[0].value


def test_a_number_out_of_its_limits_is_reported() -> None:
    assert chosen(page({"least": "0.7"}), "least") == 0.7
    for text in ("2", "much", "nan"):
        test = page({"least": text})
        assert chosen(test, "least") == 0.95
        assert f"'{text}' cannot be shown" in test.warning[0].value


def test_every_widget_keeps_its_value_while_it_is_not_drawn() -> None:
    """In the address or in the session, unless it is named above with the reason."""
    lost = []
    for path in sorted((PROJECT / "pages").glob("*/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WIDGETS):
                continue
            given = {one.arg for one in node.keywords}
            label = ast.unparse(node.args[0]).strip("'")
            assert "bind" not in given, f"{path.name}:{node.lineno} has another way into the address than url_state"
            if not given & {"persist_state", None} and label not in FORGOTTEN:
                lost.append(f"{path.relative_to(PROJECT)}:{node.lineno} {label}")
    assert not lost
