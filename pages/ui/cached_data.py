"""Cached data that pages read more than once; every key holds what changes when the content does."""

import base64
from functools import cache
from io import BytesIO
from typing import TypedDict, Unpack

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image, ImageDraw, ImageFont

from cxr_core import images
from cxr_core.data import audit, datasets, decisions, index, manifest, packing, query
from cxr_core.data.audit import Audit, Undecided
from cxr_core.data.datasets import Dataset
from cxr_core.data.query import Query
from cxr_core.workspace import Fingerprint


@st.cache_resource(max_entries=4, show_spinner=False)
def _index(name: str, version: str, fingerprint: Fingerprint) -> pd.DataFrame:  # noqa: ARG001 - part of the key
    return query.curated_index(name)


def index_of(dataset: Dataset) -> pd.DataFrame:
    """The index of a dataset after the decisions in force; shared by all sessions, so never change it."""
    return _index(dataset.name, dataset.version, decisions.fingerprint(dataset.name))


def row_of(dataset: Dataset, row_number: int) -> pd.Series:
    """One row of `index_of`."""
    return index_of(dataset).loc[[row_number]].iloc[0]


@st.cache_data(max_entries=8, show_spinner=False)
def _undecided(name: str, version: str, fingerprint: Fingerprint, audited: str) -> dict[str, Undecided]:  # noqa: ARG001
    return audit.undecided(name, _index(name, version, fingerprint))


def undecided_of(dataset: Dataset, latest: Audit) -> dict[str, Undecided]:
    """Images of each finding of the audit `latest` on which there is no decision in force."""
    return _undecided(dataset.name, dataset.version, decisions.fingerprint(dataset.name), latest.made)


@st.cache_resource(max_entries=16, show_spinner=False)
def _order(name: str, version: str, fingerprint: Fingerprint, sort: str) -> np.ndarray:
    return query.sort_order(_index(name, version, fingerprint), sort)


@st.cache_resource(max_entries=32, show_spinner=False)
def _selected(name: str, version: str, fingerprint: Fingerprint, filters: Query) -> np.ndarray:
    order = None if filters.sort == "source" else _order(name, version, fingerprint, filters.sort)
    return query.select(_index(name, version, fingerprint), filters, order=order)


def select(dataset: Dataset, filters: Query) -> np.ndarray:
    """Positions in `index_of` of the images that match the filters, sorted."""
    return _selected(dataset.name, dataset.version, decisions.fingerprint(dataset.name), filters)


@st.cache_resource(max_entries=8, show_spinner=False)
def _packed(name: str, version: str) -> np.ndarray:  # noqa: ARG001
    return packing.open_packed(name)


@st.cache_data(max_entries=4000, show_spinner=False)
def _thumbnail(name: str, version: str, row: int) -> str:
    content = images.encode(marked_synthetic(name, np.asarray(_packed(name, version)[row])), quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()


@st.cache_data(max_entries=200, show_spinner=False)
def _file(name: str, version: str, row: int) -> pd.Series:  # noqa: ARG001
    return index.row(name, row)


def file_of(dataset: Dataset, row: int) -> pd.Series:
    """The row of one image in the index."""
    return _file(dataset.name, dataset.version, row)


class BuildOptions(TypedDict):
    """Arguments of `manifest.build`."""

    split: str
    val_fraction: float
    seed: int
    balance: str
    supplements: tuple[manifest.Supplement, ...]


@st.cache_data(max_entries=8, show_spinner="Computing the splits …")
def _plan(name: str, versions: tuple[tuple[str, str, Fingerprint], ...], options: BuildOptions) -> pd.DataFrame:  # noqa: ARG001
    return manifest.plan(name, **options)


def plan_of(dataset: Dataset, **options: Unpack[BuildOptions]) -> pd.DataFrame:
    """The rows that `manifest.build` with these arguments would freeze."""
    names = datasets.list_names()
    versions = tuple((name, datasets.get(name).version, decisions.fingerprint(name)) for name in names)
    return _plan(dataset.name, versions, options)


def pixels_of(dataset: Dataset, row: int) -> np.ndarray:
    """The input of a network for row `row` of the index: uint8 (180, 180)."""
    return np.asarray(_packed(dataset.name, dataset.version)[row])


def thumbnail(dataset: Dataset, row: int) -> str:
    """A small picture of row `row` of the index, as a data address; read from the packed array, not from the file."""
    return _thumbnail(dataset.name, dataset.version, row)


@st.cache_data(max_entries=64, show_spinner=False)
def original_jpeg(name: str, version: str, image_id: str) -> bytes:  # noqa: ARG001
    """The decoded file of one image as a JPEG for the screen.

    Raises:
        CxrError: the file is gone or damaged.
    """
    return images.encode(marked_synthetic(name, images.read(datasets.image_path(name, image_id))), quality=92)


def marked_synthetic(name: str, grey: np.ndarray) -> np.ndarray:
    """A drawn image with the word "synthetic" on it, so that no picture of the screen passes for a patient's."""
    if not datasets.get(name).synthetic:
        return grey
    picture = Image.fromarray(grey)
    size = max(10, grey.shape[0] // 14)
    ImageDraw.Draw(picture).text(
        (size // 2, grey.shape[0] - size * 1.6), "SYNTHETIC", fill=230, font=_font(size), stroke_width=1, stroke_fill=0
    )
    return np.asarray(picture)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def jpeg(grey: np.ndarray) -> BytesIO:
    """uint8 (H, W) for `st.image`."""
    return BytesIO(images.encode(grey, quality=92))
