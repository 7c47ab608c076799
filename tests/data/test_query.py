"""Queries: filters and orders over the index as decided."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cxr_core.data import datasets, decisions, query
from cxr_core.data.query import Query
from cxr_core.errors import UnknownName

Tree = Callable[..., Path]


@pytest.fixture
def table(xray_tree: Tree) -> pd.DataFrame:
    """Of 13 images: the first is excluded, the second made viral, the third tagged."""
    datasets.add(str(xray_tree()), "small")
    ids = query.curated_index("small")["id"].tolist()
    decisions.decide("small", "exclude", ids[:1], who="Ada")
    decisions.decide("small", "relabel", ids[1:2], value="viral", who="Ada")
    decisions.decide("small", "tag", ids[2:3], value="Look again", who="Ada")
    return query.curated_index("small")


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        (Query(), 13),
        (Query(splits=("train",)), 6),
        (Query(splits=("train", "val")), 7),
        (Query(classes=("viral",)), 5),
        (Query(classes=("viral",), splits=("test",)), 2),
        (Query(sources=("folder",)), 13),
        (Query(sources=("nih",)), 0),
        (Query(text="PERSON1_"), 5),
        (Query(text="look again"), 1),
        (Query(text="test/bacterial/2"), 1),
        (Query(text=".*"), 0),
        (Query(states=("excluded",)), 1),
        (Query(states=("relabelled", "tagged")), 2),
        (Query(states=("open",)), 10),
    ],
)
def test_filters(table: pd.DataFrame, asked: Query, count: int):
    assert len(query.select(table, asked)) == count


@pytest.mark.parametrize("sort", query.SORTS)
def test_orders_hold_with_filters_and_when_they_are_given(table: pd.DataFrame, sort: str):
    asked = Query(sort=sort, splits=("train",))
    found = query.select(table, asked)
    assert found.tolist() == query.select(table, asked, order=query.sort_order(table, sort)).tolist()
    rows = table.iloc[found]
    keys = {
        "source": rows.index.tolist(),
        "id": rows["id"].tolist(),
        "patient": rows["patient"].tolist(),
        "pixels": (-rows["width"] * rows["height"]).tolist(),
        "bytes": (-rows["bytes"]).tolist(),
    }[sort]
    assert keys == sorted(keys)


def test_an_unknown_order_or_state_lists_the_known_ones(table: pd.DataFrame):
    with pytest.raises(UnknownName, match="Known: source, id"):
        query.sort_order(table, "age")
    with pytest.raises(UnknownName, match="Known: open, excluded"):
        query.select(table, Query(states=("gone",)))
