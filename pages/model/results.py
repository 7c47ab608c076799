"""Results of one run: every figure with its uncertainty, and the images behind it."""

import streamlit as st

from cxr_core import formatting
from cxr_core.errors import CxrError
from cxr_core.evaluation import ensembles, fitted, metrics, plots
from cxr_core.evaluation.fitted import Point
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run
from pages.ui import (
    cached_metrics,
    messages,
    result_export,
    result_matrix,
    result_scores,
    result_subgroups,
    result_threshold,
    run_card,
    selectors,
    url_state,  # fmt: skip
)
from pages.ui.theme import dark

VIEWS = {
    "matrix": "Matrix and images",
    "curves": "Curves",
    "calibration": "Calibration",
    "threshold": "Threshold",
    "groups": "Groups",
    "learning": "Learning",
    "files": "Take away",
}


WAYS = {"probable": "Most probable class", "point": "Operating point"}


def choices(usable: list[Run]) -> tuple[Run, str, Point | None]:
    """The run, the split, and the operating point by which its images are called; None: the most probable class."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        run = selectors.run("Run", usable, width=440)
        splits = [split for split in ("test", "val", "shifted", "train") if split in run.metrics]
        split = url_state.choice(
            "Split",
            splits,
            key="split",
            titles=formatting.SPLITS,
            default=splits[0],
            widget=st.segmented_control,
            required=True,
            help="Test images judge a network: it has learned nothing from them and nothing was chosen by them.",
        )
        by = _point(run)
        run_card.badge(run.status)
    return run, split, by


def _point(run: Run) -> Point | None:
    try:
        kept = fitted.point(run.id)
    except CxrError:  # its file is damaged; Threshold says so
        return None
    if kept is None:
        return None
    way = st.segmented_control(
        "An image is called",
        list(WAYS),
        default="probable",
        required=True,
        format_func=WAYS.__getitem__,
        key="by",
        bind="query-params",
        help=f"The most probable class, as in the leaderboard; or as Predict answers: {formatting.operating_point(kept)}.",
    )
    return kept if way == "point" else None


def headline(n: int, card: metrics.Metrics) -> None:
    """Accuracy, macro F1, balanced accuracy with their intervals."""
    with st.container(horizontal=True):
        st.metric("Images", f"{n:,}", border=True, width=170, height="stretch")
        for name in ("accuracy", "macro_f1", "balanced_accuracy"):
            st.metric(
                metrics.TITLES[name],
                formatting.percent(card[name].value),
                delta=formatting.interval(card[name].interval),
                delta_color="off",
                delta_arrow="off",
                help=f"{metrics.DESCRIPTIONS[name]} Below: the 95 % interval, the range that other images of the same kind would "
                f"likely give ({card[name].method}).",
                border=True,
                width=170,
                height="stretch",
            )


def learning(run: Run) -> None:
    st.subheader("Learning curves", anchor=False)
    history = runs.history(run.id)
    if not len(history):
        st.caption(
            "It has learned nothing by itself, so there are no curves."
            if run.config.model == ensembles.MODEL
            else "No epoch of it was recorded."
        )
        return
    best = runs.best_epoch(history, run.config.keep)
    st.plotly_chart(
        plots.learning_curves(history, best_epoch=best, dark=dark()),
        config=plots.config(f"learning-{run.id}"),
        key="curves",
        alt=f"Accuracy and loss over {len(history)} epochs",
    )
    if best is not None:
        why = {
            "val_accuracy": "the best validation accuracy",
            "val_loss": "the least validation loss",
            "last": "the last",
        }
        st.caption(f"Epoch {best} of {len(history)} is kept: {why[run.config.keep]}.")


def made_of(run: Run, usable: list[Run]) -> None:
    """The members of an ensemble with their weights."""
    made = ensembles.of_run(run.id)
    if made is None:
        return
    named = run_card.titles(usable)
    members = ", ".join(
        f"{named.get(one, one)}" + (f" ({weight:.0%})" if made.way == "weighted" else "")
        for one, weight in zip(made.members, made.weights, strict=True)
    )
    st.caption(f":material/join: {ensembles.METHODS[made.way]} Its runs: {members}.")


def one_run(usable: list[Run]) -> None:
    run, split, by = choices(usable)
    messages.disclaimer()
    messages.synthetic_mark(run.config.data)
    if run.status.reason:
        st.info(run.status.reason, icon=formatting.RUN_STATES[run.status.state][1])
    try:
        made_of(run, usable)
        answers = cached_metrics.prediction_set_of(run, split)
        headline(len(answers), cached_metrics.metrics_of(run, split, cached_metrics.COUNTS, by=by))
    except (CxrError, OSError) as error:
        st.error(str(error), icon=":material/error:")
        return
    view = url_state.choice(
        "View", list(VIEWS), key="view", titles=VIEWS, default="matrix",
        widget=st.segmented_control, required=True, label_visibility="collapsed",
    )  # fmt: skip
    show(view, run, split, answers, by)
    messages.save_plot_hint()


def show(view: str, run: Run, split: str, answers: PredictionSet, by: Point | None) -> None:
    """One of VIEWS."""
    if view == "matrix":
        result_matrix.show(run, split, cached_metrics.decided_set_of(run, split, by), by)
    elif view == "curves":
        result_scores.curves(run, split, answers)
        result_scores.histograms(run, split, answers)
    elif view == "calibration":
        result_scores.calibrated(run, split, cached_metrics.decided_set_of(run, split, by), by)
    elif view == "threshold":
        result_threshold.show(run, split, answers)
    elif view == "groups":
        result_subgroups.show(run, split, cached_metrics.decided_set_of(run, split, by), by)
    elif view == "files":
        result_export.show(run, split, answers)
    else:
        learning(run)


st.title("Results", anchor=False)
usable = [run for run in runs.list_runs() if run.has_predictions]
if usable:
    one_run(usable)
else:
    if problem := selectors.why_no_results(st.query_params.get("run", "")):
        st.error(problem, icon=":material/error:")
    messages.empty(
        "No results yet",
        "Train a network first; its results appear here by themselves. The paper's own are on the leaderboard.",
        page="pages/model/train.py",
        link="Train a network",
        icon=":material/model_training:",
    )
    st.page_link("pages/model/leaderboard.py", label="The paper's results", icon=":material/leaderboard:")
