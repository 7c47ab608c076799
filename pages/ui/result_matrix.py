"""The confusion matrix with the images behind each of its cells, and the classification report."""

import pandas as pd
import streamlit as st
from pandas.io.formats.style import Styler

from cxr_core import formatting
from cxr_core.evaluation import confusion, metrics, paper, plots
from cxr_core.evaluation.decision_rule import DecisionRule
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.runs.run_store import Run
from pages.ui import cached_metrics, image_drilldown, url_state
from pages.ui.theme import dark

UNITS = {"counts": "Images", "shares": "% of true", "called": "% of predicted"}
FORMER = {  # what older addresses hold
    "Share of the true class": "shares",
    "Share of what was called so": "called",
    "% of called": "called",
}


def show(run: Run, split: str, predictions: PredictionSet, rule: DecisionRule | None) -> None:
    """Show the matrix and the report of predictions by this decision rule; None: the highest probability."""
    left, right = st.columns(2, gap="large")
    with left:
        cell = _matrix(run, split, predictions)
    with right:
        _report(run, split, predictions, rule)
    if cell is None:
        st.caption(":material/ads_click: Click a cell, or choose one, to see its images.")
        return
    row, column = cell
    true, called = (formatting.class_markdown(predictions.classes[code]) for code in cell)
    st.subheader(f"{true} predicted {'correctly' if row == column else f'as {called.lower()}'}", anchor=False)
    mask = (predictions.true == row) & (predictions.predicted == column)
    metadata = cached_metrics.image_metadata_of(run, split)
    image_drilldown.show(run, predictions, metadata, mask, key=f"cell-{run.id}-{split}-{row}-{column}")


def _matrix(run: Run, split: str, predictions: PredictionSet) -> tuple[int, int] | None:
    """Draw the matrix and return the chosen cell."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Confusion matrix", anchor=False, width="content")
        unit = url_state.choice(
            "Unit", list(UNITS), key="unit", titles=UNITS, default="counts", former=FORMER.get,
            widget=st.segmented_control, required=True, label_visibility="collapsed",
        )  # fmt: skip
    counts = predictions.confusion
    titles = [formatting.class_title(name) for name in predictions.classes]
    cells = {
        f"{true},{called}": (row, column)
        for row, true in enumerate(predictions.classes)
        for column, called in enumerate(predictions.classes)
    }
    cell_titles = {
        name: f"{titles[row]} predicted as {titles[column].lower()}: {formatting.plural(int(counts[row, column]), 'image')}"
        for name, (row, column) in cells.items()
    }
    names = {title: name for name, title in cell_titles.items()}
    above = st.container()
    name = url_state.choice(
        "Images of a cell",
        ["none", *cells],
        key="cell",
        kind="cell",
        titles={"none": "None", **cell_titles},
        default="none",
        former=lambda text: names.get(text.replace(" called ", " predicted as "), ""),
        width=420,
    )
    chosen = cells.get(name)
    key = f"confusion-{run.id}-{split}"
    with above:
        st.plotly_chart(
            plots.confusion_matrix(
                counts.tolist(), titles, shares=unit != "counts", by="predicted" if unit == "called" else "true",
                chosen=chosen, dark=dark(),
            ),
            theme=None,
            config=plots.config(key),
            key=key,
            on_select=lambda: _clicked(key, predictions.classes),
            selection_mode="points",
            alt=f"Confusion matrix of {run.id} on {split}. " + "; ".join(cell_titles.values()),
        )  # fmt: skip
    return chosen


def _clicked(key: str, classes: tuple[str, ...]) -> None:
    points = st.session_state[key].selection.points
    if points:
        row, column = (int(points[0][axis]) for axis in ("y", "x"))
        st.session_state["cell"] = f"{classes[row]},{classes[column]}"


def _report(run: Run, split: str, predictions: PredictionSet, rule: DecisionRule | None) -> None:
    st.subheader(
        "Classification report",
        anchor=False,
        help="Precision: share of the images predicted as a class that belong to it. Recall: share of the images of a class that "
        "are predicted as it. F1: their harmonic mean. Support: number of images.",
    )
    table = confusion.classification_report(predictions.classes, predictions.confusion)
    table.index = [formatting.class_markdown(name) if name in predictions.classes else name for name in table.index]
    st.table(_printed(table))
    if run.config.model in paper.REPORTS.get(split, {}):
        with st.expander(f"The paper's report, {formatting.split_title(split).lower()} images"):
            printed = paper.report(run.config.model, split)
            printed.index = [formatting.class_title(name) if name in paper.CLASSES else name for name in printed.index]
            st.table(_printed(printed))
    _intervals(predictions, cached_metrics.metrics_of(run, split, cached_metrics.COUNTS, rule=rule))


def _printed(table: pd.DataFrame) -> Styler:
    """Format with two decimals, as in the paper; undefined values stay empty."""
    return table.style.format("{:.2f}", subset=["precision", "recall", "f1-score"], na_rep="")


def _intervals(predictions: PredictionSet, estimates: metrics.Metrics) -> None:
    """Show the metrics of each class with their 95 % intervals."""
    rows = {
        formatting.class_markdown(name): {
            metrics.PER_CLASS[of]: formatting.estimate(estimates[f"{of}:{name}"])
            for of in ("recall", "precision", "f1")
        }
        for name in predictions.classes
    }
    st.markdown("With 95 % intervals")
    st.table(pd.DataFrame.from_dict(rows, orient="index"))
    missing = [
        formatting.class_markdown(name).lower()
        for name, n in zip(predictions.classes, predictions.support, strict=True)
        if not n
    ]
    if missing:
        st.markdown(f"This split has no {' and no '.join(missing)} images, so they have no metrics here.")
