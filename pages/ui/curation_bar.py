"""Decisions about selected images, on any page: the bar of actions, the name they are signed with, undo and redo."""

import streamlit as st

from cxr_core import formatting
from cxr_core.data import decisions
from cxr_core.data.datasets import Dataset
from cxr_core.data.decisions import Decision
from cxr_core.errors import BadInput, CxrError
from pages.ui import image_selection

REASONS = ("duplicate", "wrong label", "lateral view", "poor quality", "rotated or cut off", "not a chest X-ray")
RECORD = "Record of decisions"


def curation_bar(
    dataset: Dataset, selected: tuple[str, ...], *, key: str, reason: str | None = None, in_dialog: bool = False
) -> None:
    """Show what can be done with the selected images of the gallery `key`, or with one image.

    Args:
        reason: of REASONS, is proposed.
        in_dialog: without a shortcut, since the bar of the page may be behind it, and with the outcome in place.
    """
    count = formatting.plural(len(selected), "image")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        why = st.selectbox(
            "Reason", REASONS, None if reason is None else REASONS.index(reason), key=f"reason-{key}",
            persist_state="session", accept_new_options=True, placeholder="Choose or write", width=180,
        )  # fmt: skip
        name_field(key)
        exclude_slot = st.container(horizontal=True, vertical_alignment="bottom", width="content")
        with st.popover("Class and tag", icon=":material/more_horiz:"):
            label = st.selectbox(
                "Class",
                dataset.classes,
                format_func=formatting.class_title,
                key=f"class-{key}",
                persist_state="session",
            )
            class_slot = st.empty()
            tag = st.text_input("Tag", key=f"tag-{key}", persist_state="session", max_chars=80)
            tag_slot = st.empty()
        target = (dataset.name, selected, why or "", key)
        exclude_slot.button(
            f"Exclude {count}", key=f"exclude-{key}", icon=":material/block:", type="primary", disabled=not selected,
            shortcut=None if in_dialog else "E", on_click=_decide, args=("exclude", "", *target),
        )  # fmt: skip
        class_slot.button(
            f"Set the class of {count}", icon=":material/label:", disabled=not selected,
            on_click=_decide, args=("relabel", label, *target),
        )  # fmt: skip
        tag_slot.button(
            f"Tag {count}", icon=":material/sell:", disabled=not selected, on_click=_decide, args=("tag", tag, *target)
        )
        undo_button(dataset, key=key)
    show_outcome(in_place=in_dialog)


def record_link(dataset: Dataset) -> None:
    st.page_link(
        "pages/data/curate.py", label=RECORD, icon=":material/history:",
        query_params={"data": dataset.name, "part": "record"},
    )  # fmt: skip


def name_field(key: str) -> None:
    """Ask who decides, once a session and on whatever page; empty at first but for a person who is known, see `person`.

    The account that the server runs under is nobody's name, so it is never proposed.
    """
    box, proposed = f"decider-{key}", person()
    if st.session_state.get(box) != proposed:  # given in another bar, or nowhere yet
        st.session_state[box] = proposed
    st.text_input(
        "Your name", key=box, persist_state="session", max_chars=80, width=220,
        placeholder="Required: first and last name", icon=None if proposed else ":material/signature:",
        help="Saved with each decision. Asked once; later decisions are signed with it.",
        on_change=lambda: st.session_state.update({"decider": st.session_state[box].strip()}),
    )  # fmt: skip


def person() -> str:
    """The name given in this session, else of the account that is signed in, else what CXR_PERSON sets, else ""."""
    return str(st.session_state.get("decider") or st.user.get("name") or decisions.person())


def _signature(key: str) -> str:
    """The name in the field `key` at the moment of a click.

    Raises:
        BadInput: no name was given.
    """
    name = str(st.session_state.get(f"decider-{key}", "")).strip() or person()
    if not name:
        raise BadInput("Enter your name first: it is saved with each decision. Nothing was recorded.")
    return name


def _decide(action: str, value: str, name: str, selected: tuple[str, ...], reason: str, key: str) -> None:
    selected = image_selection.selected_now(key, selected)
    try:
        who = _signature(key)
        if action != "tag" and not reason.strip():
            raise BadInput("Choose a reason, or write your own. Nothing was recorded.")
        decision = decisions.decide(name, action, selected, value=value, reason=reason, who=who)
    except CxrError as error:
        st.session_state["decision-problem"] = str(error)
        image_selection.preselect(key, selected)
        return
    image_selection.preselect(key, ())
    message = f"{sentence(decision)}: recorded as decision {decision.number}."
    st.session_state["decision-done"] = (message, ":material/check:")


def undo_button(dataset: Dataset, *, key: str) -> None:
    """Offer to undo the latest decision in force, whoever made it; so the button names it."""
    latest = decisions.in_force(dataset.name)[-1:]
    st.button(
        f"Undo: {formatting.verbatim(signed_sentence(latest[0]))}" if latest else "Undo", key=f"undo-{key}", icon=":material/undo:",
        disabled=not latest, on_click=undo_or_redo, args=(dataset.name, latest[0].number if latest else 0, "undo", key),
        help=f"Undoes decision {latest[0].number}, the latest." if latest else "There is no decision to undo.",
    )  # fmt: skip


def undo_or_redo(name: str, number: int, action: str, key: str) -> None:
    """Undo or redo the decision `number`, signed with the name in the field `key`."""
    try:
        (decisions.undo if action == "undo" else decisions.redo)(name, number, who=_signature(key))
        decision = signed_sentence(decisions.record(name)[number - 1])
        state = "undone" if action == "undo" else "in force again"
        st.session_state["decision-done"] = (f"Decision {number} ({decision}) is {state}.", ":material/undo:")
    except CxrError as error:
        st.session_state["decision-problem"] = str(error)


def show_outcome(*, in_place: bool = False) -> None:
    """Report the outcome of the click before; the click itself cannot, since a dialog may not draw anything then."""
    if problem := st.session_state.pop("decision-problem", ""):
        st.error(formatting.verbatim(problem), icon=":material/error:")
    if done := st.session_state.pop("decision-done", ()):
        (st.success if in_place else st.toast)(formatting.verbatim(done[0]), icon=done[1])


def signed_sentence(decision: Decision) -> str:
    """'Exclude 3 images, by Ada'."""
    return sentence(decision) + (f", by {decision.who}" if decision.who else "")


def sentence(decision: Decision) -> str:
    """'Exclude 3 images', 'Relabel 1 image as viral pneumonia'."""
    count = formatting.plural(len(decision.images), "image")
    return {
        "exclude": f"Exclude {count}",
        "relabel": f"Relabel {count} as {formatting.class_title(decision.value).lower()}",
        "tag": f"Tag {count} '{decision.value}'",
        "undo": f"Undo decision {decision.value}",
        "redo": f"Redo decision {decision.value}",
    }[decision.action]
