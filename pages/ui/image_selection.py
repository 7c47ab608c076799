"""Selection of images in a gallery: the switch, the gallery, and selections made by a button."""

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.data.datasets import Dataset
from cxr_core.evaluation import plots
from pages.ui import cached_data, image_view
from pages.ui.gallery import Picked, Tile, gallery


def choosing_switch(key: str) -> bool:
    """Draw the switch by which a click selects an image instead of opening it."""
    return st.toggle(
        "Choose images",
        key=key,
        persist_state="session",
        help="A click selects an image; then exclude, relabel or tag the selected ones.",
    )


def dataset_gallery(
    dataset: Dataset, rows: pd.DataFrame, *, key: str, choosing: bool, groups: Mapping[str, int] | None = None
) -> tuple[str, ...]:
    """Show images of a dataset, each of which opens large, and return the ids of the selected ones.

    Args:
        rows: of `cached_data.index_of`, whose index labels are rows of the packed array.
        groups: numbers of images that belong together, by id.
    """
    picked = selectable_gallery(_tiles(dataset, rows, groups or {}), key=key, choosing=choosing)
    opened = rows[rows["id"] == picked.opened]
    if len(opened):
        image_view.show(dataset, opened.iloc[0])
    return picked.chosen


def selectable_gallery(tiles: Sequence[Tile], *, key: str, choosing: bool) -> Picked:
    """Show a gallery whose selection `preselect` and `selected_now` know under `key`."""
    preset = st.session_state.get(f"preset-{key}", ()) if choosing else ()
    st.session_state[f"shown-{key}"] = frozenset(tile.id for tile in tiles)
    return gallery(tiles, key=_widget_key(key, choosing), choosing=choosing, chosen=preset)


def _widget_key(key: str, choosing: bool) -> str:
    """The key of the component: another one whenever a selection is set from outside, so that it starts with that."""
    return f"{key}-{choosing}-{st.session_state.get(f'turn-{key}', 0)}"


def preselect(key: str, ids: tuple[str, ...]) -> None:
    """Select these images, and no others, when the gallery `key` is next shown."""
    st.session_state[f"preset-{key}"] = ids
    st.session_state[f"turn-{key}"] = st.session_state.get(f"turn-{key}", 0) + 1


def selected_now(key: str, selected: tuple[str, ...]) -> tuple[str, ...]:
    """The selection at the moment of a click, which may be more than when the button was drawn (`selected`)."""
    state = st.session_state.get(_widget_key(key, True))
    shown = st.session_state.get(f"shown-{key}", frozenset())
    if not state or state.get("chosen") is None:
        return selected
    elsewhere = (image_id for image_id in selected if image_id not in shown)
    return (*(image_id for image_id in state["chosen"] if image_id in shown), *elsewhere)


def _tiles(dataset: Dataset, rows: pd.DataFrame, groups: Mapping[str, int]) -> list[Tile]:
    tiles = []
    for label, (row_number, row) in zip(rows["class"].astype(str), rows.iterrows(), strict=True):
        image_id = str(row["id"])
        group = f"Group {groups[image_id]} · " if image_id in groups else ""
        tiles.append(
            Tile(
                image_id,
                cached_data.thumbnail(dataset, int(str(row_number))),
                formatting.class_title(label),
                group + formatting.split_title(str(row["split"])),
                formatting.shortened_start(image_id.rsplit("/", 1)[-1]),
                plots.class_colour(label, dataset.classes.index(label)),
                note=image_view.decisions_note(row),
                excluded=bool(row["excluded"]),
            )
        )
    return tiles
