"""Widgets whose choice is in the address of the page, so that a link, a reload and the browser's Back show the same.

The address holds names that stay (a run's id, a class, a split), never the words on screen. A widget that is not drawn
for a while, or whose page is left, comes back with its last choice; an address that asks for another one wins.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import streamlit as st

from cxr_core import formatting

T = TypeVar("T")
MARKDOWN = (st.radio, st.pills, st.segmented_control)  # the widgets that read the titles of their options as such
Texts = tuple[str, ...]  # the values of one parameter of the address


@dataclass(frozen=True)
class _Codec(Generic[T]):
    """Conversion of a choice to the texts of the address and back.

    Attributes:
        read: texts to the choice, and whether all of them could be used; (None, False) if none of them could.
        write: the choice to texts.
        refuse: reports texts that could not be used.
    """

    read: Callable[[Texts], tuple[T | None, bool]]
    write: Callable[[T], Texts]
    refuse: Callable[[Texts], None]


@dataclass(frozen=True)
class _Last:
    """State at the last drawing of a widget: address, value, titles of its options, and visit."""

    address: Texts
    value: Any
    titles: Texts
    visit: int


def enter(page: str) -> None:
    """Note which page is shown, once in every run and before its widgets."""
    if st.session_state.get("page-shown") != page:
        st.session_state["page-shown"] = page
        st.session_state["page-visit"] = st.session_state.get("page-visit", 0) + 1


def choice(
    label: str,
    names: Sequence[str],
    *,
    key: str,
    address: str = "",
    kind: str = "",
    titles: Mapping[str, str] | None = None,
    default: str | None = None,
    former: Callable[[str], str | None] | None = None,
    refused: Mapping[str, str] | None = None,
    widget: Callable[..., Any] = st.selectbox,
    **options: Any,
) -> str:
    """Draw a widget that chooses one of `names` and return the chosen name.

    A name in the address that cannot be chosen is reported, and the default is shown instead.

    Args:
        label: above the widget.
        names: at least one.
        key: of the widget.
        address: the parameter in the address, by default `key`.
        kind: what is chosen, as a noun; by default the label.
        titles: how names are shown; by default as they are. The widgets of MARKDOWN take Markdown.
        default: shown at first, and left out of the address. None: the first of `names`, and the address always holds
            the choice.
        former: the name of what an older address holds, "" if it holds none; titles are understood anyway.
        refused: sentences about what is there and cannot be chosen, by name.
        widget: `st.selectbox`, `st.radio` or `st.segmented_control`.
        options: passed on to the widget.
    """
    shown = {name: (titles or {}).get(name, name) for name in names}
    by_title = {title: name for name, title in shown.items()}
    first = names[0] if default is None else default
    instead = shown[first] if widget in MARKDOWN else formatting.verbatim(shown[first])

    def read(texts: Texts) -> tuple[str | None, bool]:
        text = texts[-1]
        name = text if text in shown else by_title.get(text) or (former(text) if former else "")
        return (name, True) if name in shown else (None, False)

    def refuse(texts: Texts) -> None:
        if problem := (refused or {}).get(texts[-1]):
            st.error(f"{formatting.verbatim(problem)} Shown instead: {instead}.", icon=":material/error:")
            return
        st.warning(
            f"There is no {kind or label.lower()} '{formatting.verbatim(texts[-1])}'. Shown instead: {instead}.",
            icon=":material/search_off:",
        )

    return _bound(
        lambda: widget(
            label, names, key=key, format_func=lambda name: shown.get(name, name), persist_state="session", **options
        ),
        _Codec(read, lambda name: (name,), refuse),
        key=key, address=address or key, first=first, omitted=default, titles=tuple(shown.values()),
    )  # fmt: skip


def choices(
    label: str,
    names: Sequence[str],
    *,
    key: str,
    address: str = "",
    titles: Mapping[str, str] | None = None,
    widget: Callable[..., Any] = st.pills,
    **options: Any,
) -> Texts:
    """Draw a widget that chooses any number of `names` and return the chosen ones; none at first. See `choice`.

    Args:
        widget: `st.pills` or `st.multiselect`.
    """
    shown = {name: (titles or {}).get(name, name) for name in names}
    by_title = {title: name for name, title in shown.items()}
    if widget is st.pills:
        options["selection_mode"] = "multi"

    def parts(texts: Texts) -> Texts:
        """Older addresses have titles, or names joined by commas."""
        whole = [[text] if text in shown or text in by_title else text.split(",") for text in texts]
        return tuple(by_title.get(part, part) for several in whole for part in several)

    def read(texts: Texts) -> tuple[list[str], bool]:
        named = [part for part in parts(texts) if part in shown]
        return named, len(named) == len(parts(texts))

    def refuse(texts: Texts) -> None:
        gone = ", ".join(formatting.verbatim(part) for part in parts(texts) if part not in shown)
        st.warning(f"{label}: not shown, since there is no such choice: {gone}.", icon=":material/search_off:")

    chosen = _bound(
        lambda: widget(
            label, names, key=key, format_func=lambda name: shown.get(name, name), persist_state="session", **options
        ),
        _Codec[list[str]](read, tuple, refuse),
        key=key, address=address or key, first=[], omitted=[], titles=tuple(shown.values()),
    )  # fmt: skip
    return tuple(chosen)


def value(
    label: str, *limits: T, key: str, default: T, widget: Callable[..., Any] = st.text_input, **options: Any
) -> T:
    """Draw a widget for a text or a number and return its value. See `choice`.

    Args:
        limits: least and greatest value of a number.
        default: shown at first, and left out of the address.
        widget: `st.text_input`, `st.slider` or `st.number_input`.
    """

    def read(texts: Texts) -> tuple[T | None, bool]:
        try:
            number: Any = cast(Any, type(default))(texts[-1])
        except ValueError:
            return None, False
        fits = not limits or limits[0] <= number <= limits[1]
        return (number, True) if fits else (None, False)

    def refuse(texts: Texts) -> None:
        st.warning(
            f"{label}: '{formatting.verbatim(texts[-1])}' cannot be shown. Shown instead: {formatting.verbatim(str(default))}.",
            icon=":material/search_off:",
        )

    return _bound(
        lambda: widget(label, *limits, key=key, persist_state="session", **options),
        _Codec(read, lambda number: (str(number),), refuse),
        key=key, address=key, first=default, omitted=default,
    )  # fmt: skip


def _bound(
    draw: Callable[[], T], codec: _Codec[T], *, key: str, address: str, first: T, omitted: T | None, titles: Texts = ()
) -> T:
    """Decide what a widget shows, draw it, and write what it holds into the address.

    Args:
        first: shown where nothing is asked for.
        omitted: the choice that the address leaves out, if any.
    """
    state = st.session_state
    texts: Texts = tuple(st.query_params.get_all(address))
    before: _Last | None = state.get(f"{key}-drawn")
    visit = state.get("page-visit", 0)
    emptied = before is not None and before.visit == visit and before.address and not texts  # by the browser's Back
    unasked = before is None or texts == before.address or not texts
    if key in state and not emptied and unasked and (before is None or not texts or state[key] != before.value):
        texts = codec.write(state[key])  # chosen just now, or before the widget or its page was left
    shown, whole = codec.read(texts) if texts else (None, True)
    if not whole:
        codec.refuse(texts)
    shown = first if shown is None else shown
    if key not in state or state[key] != shown or (before and titles != before.titles):
        state[key] = shown  # under other titles the browser would not know the choice again
    chosen = draw()
    if whole:  # what is gone for now stays in the address: it may come back
        _write(address, () if chosen == omitted else codec.write(chosen))
    state[f"{key}-drawn"] = _Last(tuple(st.query_params.get_all(address)), chosen, titles, visit)
    return chosen


def _write(address: str, texts: Texts) -> None:
    if texts == tuple(st.query_params.get_all(address)):
        return
    if texts:
        st.query_params[address] = texts[0] if len(texts) == 1 else list(texts)
    else:
        del st.query_params[address]
