"""Results of one run: every metric with its interval, and the images behind it."""

import streamlit as st

from cxr_core import formatting
from cxr_core.errors import CxrError, sentence
from cxr_core.evaluation import ensembles, metrics, rule_store
from cxr_core.evaluation.decision_rule import DecisionRule
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

VIEWS = {
    "matrix": "Matrix and images",
    "curves": "Curves",
    "calibration": "Calibration",
    "threshold": "Threshold",
    "groups": "Groups",
    "learning": "Learning",
    "files": "Export",
}
RULES = {"point": "Tuned threshold", "probable": "Highest probability"}
FORMER = {  # what older addresses hold
    "Take away": "files",
    "Operating point": "point",
    "Most probable class": "probable",
    "Validation, shifted": "shifted",
}


def choices(usable: list[Run]) -> tuple[Run, str, DecisionRule | None]:
    """The chosen run, split, and decision rule; None: the highest probability."""
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
            former=FORMER.get,
            help="The test split measures a model: it was neither trained nor selected on these images.",
        )
        rule = _rule(run)
        run_card.badge(run.status)
    return run, split, rule


def _rule(run: Run) -> DecisionRule | None:
    try:
        rule = rule_store.of_run(run.id)
    except CxrError:  # its file is damaged, as `show_rule` says
        return None
    if rule.threshold is None:
        return rule
    way = url_state.choice(
        "Decision rule",
        list(RULES),
        key="by",
        titles=RULES,
        default="point",
        former=FORMER.get,
        widget=st.segmented_control,
        required=True,
        help=f"As Predict answers: {formatting.verbatim(formatting.decision_rule(rule))}; or the highest "
        "probability, as in the paper's tables.",
    )
    return rule if way == "point" else None


def show_rule(run: Run, split: str, rule: DecisionRule | None) -> None:
    """Show the decision rule, the share of confident predictions, sensitivity and specificity."""
    if rule is None:
        st.caption("Decision rule: highest probability, without a reject threshold.")
        if notice := rule_store.of_run_or_default(run.id).notice:
            st.warning(formatting.verbatim(notice), icon=":material/error:")
        return
    if rule.notice:
        st.warning(formatting.verbatim(rule.notice), icon=":material/error:")
    counts = cached_metrics.counts_of(run, split, rule)
    shares = {name: formatting.percent(share.value) for name, share in counts.items()}
    sentences = [f"Decision rule: {formatting.verbatim(formatting.decision_rule(rule))}."]
    if rule.reject_threshold:
        sentences.append(
            f"Confident (from {formatting.percent(rule.reject_threshold)} on): {formatting.estimate(counts['coverage'])} of the "
            f"images, {formatting.estimate(counts['accuracy_answered'])} of them correct."
        )
    if counts["sensitivity"].of:
        sentences.append(
            f"Sensitivity {formatting.estimate(counts['sensitivity'])}, specificity {formatting.estimate(counts['specificity'])}; "
            f"among the confident answers {shares['sensitivity_answered']} and {shares['specificity_answered']}; with all others "
            f"counted as wrong {shares['sensitivity_confident']} and {shares['specificity_confident']}."
        )
    st.caption(" ".join(sentences))


def headline(n: int, estimates: metrics.Metrics) -> None:
    """Show accuracy, macro F1 and balanced accuracy with their intervals."""
    with st.container(horizontal=True):
        messages.metric("Images", f"{n:,}")
        for name in ("accuracy", "macro_f1", "balanced_accuracy"):
            messages.metric(
                metrics.TITLES[name],
                formatting.percent(estimates[name].value),
                interval=formatting.interval(estimates[name].interval),
                about=f"{metrics.DESCRIPTIONS[name]} Below: the 95 % interval, the range that other images of the same kind would "
                f"likely give ({estimates[name].method}).",
            )


def learning(run: Run) -> None:
    st.subheader("Learning curves", anchor=False)
    history = runs.history(run.id)
    if not len(history):
        st.caption(
            "An ensemble is not trained, so it has no learning curves."
            if run.config.model == ensembles.MODEL
            else "No epoch was recorded."
        )
        return
    run_card.curves(run)
    best = runs.best_epoch(history, run.config.keep)
    if best is not None:
        why = {"val_accuracy": "by validation accuracy", "val_loss": "by validation loss", "last": "the last one"}
        st.caption(f"Best epoch: {best} of {len(history)}, {why[run.config.keep]}.")


def show_members(run: Run, usable: list[Run]) -> None:
    """Show the members of an ensemble with their weights."""
    ensemble = ensembles.of_run(run.id)
    if ensemble is None:
        return
    titles = run_card.titles(usable)
    members = ", ".join(
        formatting.verbatim(titles.get(run_id, run_id)) + (f" ({weight:.0%})" if ensemble.way == "weighted" else "")
        for run_id, weight in zip(ensemble.members, ensemble.weights, strict=True)
    )
    st.caption(f":material/join: {ensembles.METHODS[ensemble.way]} Members: {members}.")


def one_run(usable: list[Run]) -> None:
    run, split, rule = choices(usable)
    messages.disclaimer()
    messages.synthetic_mark(run.config.data)
    if run.status.reason:
        st.info(formatting.verbatim(run.status.reason), icon=formatting.RUN_STATES[run.status.state][1])
    try:
        show_members(run, usable)
        predictions = cached_metrics.prediction_set_of(run, split)
        headline(len(predictions), cached_metrics.metrics_of(run, split, cached_metrics.COUNTS, rule=rule))
        show_rule(run, split, rule)
    except (CxrError, OSError) as error:
        st.error(formatting.verbatim(sentence(error)), icon=":material/error:")
        return
    view = url_state.choice(
        "View", list(VIEWS), key="view", titles=VIEWS, default="matrix", former=FORMER.get,
        widget=st.segmented_control, required=True, label_visibility="collapsed",
    )  # fmt: skip
    show(view, run, split, predictions, rule)
    messages.save_plot_hint()


def show(view: str, run: Run, split: str, predictions: PredictionSet, rule: DecisionRule | None) -> None:
    """Show one of VIEWS."""
    if view == "matrix":
        result_matrix.show(run, split, cached_metrics.decided_set_of(run, split, rule), rule)
    elif view == "curves":
        result_scores.curves(run, split, predictions)
        result_scores.histograms(run, split, predictions)
    elif view == "calibration":
        result_scores.calibrated(run, split, cached_metrics.decided_set_of(run, split, rule), rule)
    elif view == "threshold":
        result_threshold.show(run, split, predictions)
    elif view == "groups":
        result_subgroups.show(run, split, cached_metrics.decided_set_of(run, split, rule), rule)
    elif view == "files":
        result_export.show(run, split, predictions)
    else:
        learning(run)


st.title("Results", anchor=False)
usable = [run for run in runs.list_runs() if run.has_predictions]
if usable:
    one_run(usable)
else:
    if problem := selectors.why_no_results(st.query_params.get("run", "")):
        st.error(formatting.verbatim(problem), icon=":material/error:")
    words = "Train a model first; its results appear here. Those of the paper are on the leaderboard."
    messages.no_model("No results yet", words)
    st.page_link("pages/model/leaderboard.py", label="The paper's results", icon=":material/leaderboard:")
messages.paper_citation()
