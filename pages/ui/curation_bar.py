"""Decisions about chosen images, from any page: the bar of actions, the person's name, the large view, undo and redo."""

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.data import decisions
from cxr_core.data.datasets import Dataset
from cxr_core.data.decisions import Decision
from cxr_core.errors import BadInput, CxrError
from cxr_core.evaluation import plots
from pages.ui import cached_data
from pages.ui.gallery import Tile, gallery


def image_tiles(dataset: Dataset, rows: pd.DataFrame, groups: Mapping[str, int]) -> list[Tile]:
    """Thumbnails of rows of `loaders.index_of`, whose index labels are rows of the packed array."""
    return [
        Tile(
            row.id,
            cached_data.thumbnail(dataset, row.Index),
            formatting.class_title(row.label),
            (f"Group {groups[row.id]} · " if row.id in groups else "") + formatting.split_title(row.split),
            formatting.shortened_start(row.id.rsplit("/", 1)[-1]),
            plots.class_colour(row.label, dataset.classes.index(row.label)),
            note=_note(row.excluded, row.relabelled, row.was, row.tags),
            excluded=bool(row.excluded),
        )
        for row in rows.rename(columns={"class": "label"}).itertuples()
    ]


def _note(excluded: bool, relabelled: bool, was: str, tags: str) -> str:
    said = ["Excluded"] if excluded else []
    said += [f"Was {formatting.class_title(was).lower()}"] if relabelled else []
    return " · ".join([*said, *(f"#{tag}" for tag in tags.split(", ") if tag)])


def choosing_switch(key: str) -> bool:
    """Whether a click ticks an image instead of opening it."""
    return st.toggle(
        "Choose images",
        key=key,
        persist_state="session",
        help="A click ticks an image; then exclude, relabel or tag what is ticked.",
    )


def choosing_gallery(
    dataset: Dataset, rows: pd.DataFrame, *, key: str, choosing: bool, groups: Mapping[str, int] | None = None
) -> tuple[str, ...]:
    """The gallery with its large view; returns the ids that are ticked. `groups` numbers images that belong together."""
    start = st.session_state.get(f"preset-{key}", ()) if choosing else ()
    st.session_state[f"shown-{key}"] = frozenset(rows["id"])
    picked = gallery(
        image_tiles(dataset, rows, groups or {}), key=_name(key, choosing), choosing=choosing, chosen=start
    )
    if picked.opened is not None and (rows["id"] == picked.opened).any():
        large_view(dataset, rows[rows["id"] == picked.opened].iloc[0])
    return picked.chosen


def _name(key: str, choosing: bool) -> str:
    """The gallery's own key: another one each time that ticks are set from outside."""
    return f"{key}-{choosing}-{st.session_state.get(f'turn-{key}', 0)}"


def _ticked_now(key: str, chosen: tuple[str, ...]) -> tuple[str, ...]:
    """What is ticked at the moment of a click, which may be more than when the button was drawn (`chosen`)."""
    state, shown = st.session_state.get(_name(key, True)), st.session_state.get(f"shown-{key}", frozenset())
    if not state or state.get("chosen") is None:
        return chosen
    return (*(one for one in state["chosen"] if one in shown), *(one for one in chosen if one not in shown))


def preselect(key: str, ids: tuple[str, ...]) -> None:
    """Tick these, and no others, when the gallery `key` is next shown."""
    st.session_state[f"preset-{key}"] = ids
    st.session_state[f"turn-{key}"] = st.session_state.get(f"turn-{key}", 0) + 1


REASONS = ("duplicate", "wrong label", "lateral view", "poor quality", "rotated or cut off", "not a chest X-ray")


RECORD = "Record of decisions"


def record_link(dataset: Dataset) -> None:
    st.page_link(
        "pages/data/curate.py",
        label=RECORD,
        icon=":material/history:",
        query_params={"data": dataset.name, "part": "record"},
    )


def curation_bar(
    dataset: Dataset, chosen: tuple[str, ...], *, key: str, reason: str | None = None, in_dialog: bool = False
) -> None:
    """What can be done with the chosen images of the gallery `key`, or with one image.

    Args:
        reason: of REASONS, is proposed.
        in_dialog: the bar of the page may be behind it, so it has no shortcut; what was done is told in place.
    """
    count = formatting.plural(len(chosen), "image")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        why = st.selectbox(
            "Reason",
            REASONS,
            None if reason is None else REASONS.index(reason),
            key=f"reason-{key}",
            persist_state="session",
            accept_new_options=True,
            placeholder="Choose or write",
            width=180,
        )
        name_field(key)
        act = st.container(horizontal=True, vertical_alignment="bottom", width="content")
        with st.popover("Class and tag", icon=":material/more_horiz:"):
            label = st.selectbox(
                "Class",
                dataset.classes,
                format_func=formatting.class_title,
                key=f"class-{key}",
                persist_state="session",
            )
            class_place = st.empty()
            tag = st.text_input("Tag", key=f"tag-{key}", persist_state="session", max_chars=80)
            tag_place = st.empty()
        common = {"disabled": not chosen, "on_click": _decide}
        target = (dataset.name, chosen, why or "", key)
        with act:
            st.button(
                f"Exclude {count}", key=f"exclude-{key}", icon=":material/block:", type="primary",
                shortcut=None if in_dialog else "E",
                args=("exclude", "", *target), **common,
            )  # fmt: skip
        class_place.button(
            f"Set the class of {count}", icon=":material/label:", args=("relabel", label, *target), **common
        )
        tag_place.button(f"Tag {count}", icon=":material/sell:", args=("tag", tag, *target), **common)
        undo_button(dataset, key=key)
    show_outcome(in_place=in_dialog)


def show_outcome(*, in_place: bool = False) -> None:
    """What became of the click before; not told by the click itself, since a dialog may not draw anything then."""
    if problem := st.session_state.pop("decision-problem", ""):
        st.error(problem, icon=":material/error:")
    if done := st.session_state.pop("decision-done", ()):
        (st.success if in_place else st.toast)(done[0], icon=done[1])


def name_field(key: str) -> None:
    """Ask who decides, once a session and on whatever page; empty at first but for a person who is known, see `person`.

    The account that the server runs under is nobody's name, so it is never proposed.
    """
    box = f"decider-{key}"
    if st.session_state.get(box) != person():  # given in another bar, or nowhere yet
        st.session_state[box] = person()
    st.text_input(
        "Your name",
        key=box,
        persist_state="session",
        max_chars=80,
        width=160,
        placeholder="First and last name",
        help="Saved with each decision. Asked once; later decisions are signed with it.",
        on_change=lambda: st.session_state.update({"decider": st.session_state[box].strip()}),
    )


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


def undo_button(dataset: Dataset, *, key: str) -> None:
    """Takes the latest decision in force back, whoever made it; so it says which."""
    latest = decisions.in_force(dataset.name)[-1:]
    st.button(
        f"Undo: {signed_sentence(latest[0])}" if latest else "Undo",
        key=f"undo-{key}",
        icon=":material/undo:",
        disabled=not latest,
        help=f"Takes back decision {latest[0].number}, the latest." if latest else "There is no decision to take back.",
        on_click=undo_or_redo,
        args=(dataset.name, latest[0].number if latest else 0, "undo", key),
    )


def undo_or_redo(name: str, number: int, action: str, key: str) -> None:
    """Undo or redo the decision `number`, signed with the name in the field `key`."""
    try:
        (decisions.undo if action == "undo" else decisions.redo)(name, number, who=_signature(key))
        made = signed_sentence(decisions.record(name)[number - 1])
        done = "taken back" if action == "undo" else "in force again"
        st.session_state["decision-done"] = (f"Decision {number} ({made}) is {done}.", ":material/undo:")
    except CxrError as error:
        st.session_state["decision-problem"] = str(error)


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


def _decide(action: str, value: str, name: str, chosen: tuple[str, ...], reason: str, key: str) -> None:
    chosen = _ticked_now(key, chosen)
    try:
        who = _signature(key)
        if action != "tag" and not reason.strip():
            raise BadInput("Choose a reason, or write your own. Nothing was recorded.")
        made = decisions.decide(name, action, chosen, value=value, reason=reason, who=who)
    except CxrError as error:
        st.session_state["decision-problem"] = str(error)
        preselect(key, chosen)
        return
    preselect(key, ())
    st.session_state["decision-done"] = (f"{sentence(made)}: recorded as decision {made.number}.", ":material/check:")


@st.dialog("X-ray", width="large")
def large_view(dataset: Dataset, row: pd.Series) -> None:
    """One image large, what is known of it, and what a network sees of it."""
    file = cached_data.file_of(dataset, int(row.name))
    picture, facts = st.columns([3, 2])
    with picture:
        shown = st.segmented_control(
            "What to show",
            ["original", "input", "views", "histogram"],
            default="original",
            required=True,
            format_func={
                "original": "Original",
                "input": "Network's input",
                "views": "Training views",
                "histogram": "Histogram",
            }.__getitem__,
            key="large-way",
            persist_state="session",
            label_visibility="collapsed",
        )
        _SHOWN[shown](dataset, row)
    with facts:
        st.markdown(f"**{formatting.class_title(row['class'])}**")
        if note := _note(row["excluded"], row["relabelled"], row["was"], row["tags"]):
            st.markdown(note)
        if dataset.synthetic:
            st.caption(":material/draw: Synthetic image")
        st.table(
            pd.Series(
                {
                    "Split": formatting.split_title(row["split"]),
                    "Patient": row["patient"],
                    "File": row["id"],
                    "Size": f"{row['width']:,} × {row['height']:,} pixels",
                    "Format": f"{file['format']}, {file['mode']}, {row['bytes'] / 1024:,.1f} KB",
                    "Source": row["source"],
                    "SHA-256": file["sha256"][:16] + "…",
                },
            ),
            hide_header=True,
        )
        st.page_link(
            "pages/model/predict.py",
            label="Ask a model about it",
            icon=":material/radiology:",
            query_params={"data": dataset.name, "image": row["id"]},
        )


def _original(dataset: Dataset, row: pd.Series) -> None:
    content = cached_data.original_jpeg(dataset.name, dataset.version, row["id"])
    st.image(content, width="stretch", alt=f"{formatting.class_title(row['class'])} chest image {row['id']}")


def _input(dataset: Dataset, row: pd.Series) -> None:
    pixels = cached_data.pixels_of(dataset, int(row.name))
    st.image(cached_data.jpeg(pixels), width="stretch", alt="The image as a network gets it")
    st.caption(f"{pixels.shape[1]} × {pixels.shape[0]} pixels, grey, squeezed to a square: all that a network sees.")


def _views(dataset: Dataset, row: pd.Series) -> None:
    from cxr_core.data.augment import AugmentationLimits, augmented_view

    with st.expander("How far a view may differ", icon=":material/tune:"), st.container(horizontal=True):
        limits = AugmentationLimits(
            rotation=st.slider("Rotation, degrees", 0.0, 45.0, 7.0, 1.0, width=140),
            translation=st.slider("Translation", 0.0, 0.5, 0.05, 0.05, width=140),
            zoom=st.slider("Zoom", 0.0, 0.5, 0.1, 0.05, width=140),
            stretch=st.slider("Stretch", 0.0, 0.5, 0.0, 0.05, width=140),
            brightness=st.slider("Brightness", 0.0, 0.9, 0.1, 0.05, width=140),
            contrast=st.slider("Contrast", 0.0, 0.9, 0.1, 0.05, width=140),
            flip=st.checkbox("Flip", True),
        )
    pixels = cached_data.pixels_of(dataset, int(row.name))
    for place, column in enumerate(st.columns(3)):
        for seed in range(place, 9, 3):
            column.image(
                cached_data.jpeg(augmented_view(pixels, seed, limits)), width="stretch", alt=f"Changed view {seed + 1}"
            )
    st.caption("Nine of the views that training draws anew in every epoch.")


def _histogram(dataset: Dataset, row: pd.Series) -> None:
    from pages.ui.theme import dark

    pixels = cached_data.pixels_of(dataset, int(row.name))
    st.plotly_chart(
        plots.pixel_histogram(pixels, dark=dark()),
        config=plots.CONFIG,
        key="histogram",
        alt="How often each grey value occurs",
    )
    st.caption(f"Mean {pixels.mean():.0f} of 255. {100 * (pixels == 0).mean():.0f} % of the pixels are black.")


_SHOWN = {"original": _original, "input": _input, "views": _views, "histogram": _histogram}
