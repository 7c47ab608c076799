"""The threshold of the decision rule, chosen on validation, and its metrics on a split and in other populations."""

from typing import Unpack

import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.errors import CxrError
from cxr_core.evaluation import decision_rule, operating_point, plots, rule_store
from cxr_core.evaluation.decision_rule import DecisionRule
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.runs.run_store import Run
from pages.ui import cached_metrics, messages, url_state
from pages.ui.cached_metrics import RuleChoice
from pages.ui.theme import dark

SHARES = {
    "sensitivity": ("Sensitivity", "Share of the positives that are predicted as positive."),
    "specificity": ("Specificity", "Share of the negatives that are predicted as negative."),
    "ppv": ("PPV", "Positive predictive value: share of true positives among those predicted as positive."),
    "npv": ("NPV", "Negative predictive value: share of true negatives among those predicted as negative."),
}

CRITERIA = {"hand": "Hand", "sensitivity": "Sensitivity at least", "youden": "Best balance"}


def questions(classes: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Name in the address to positive classes: pneumonia first where there is a normal class, then each class."""
    ill = operating_point.pneumonia_classes(classes)
    return ({"pneumonia": ill} if len(ill) > 1 else {}) | {name: (name,) for name in classes}


def show(run: Run, split: str, predictions: PredictionSet) -> None:
    positives = questions(predictions.classes)
    titles = {
        name: "Pneumonia against normal" if name == "pneumonia" else f"{formatting.class_title(name)} against the rest"
        for name in positives
    }
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = url_state.choice("Question", list(positives), key="question", titles=titles, width=330)
        criterion = url_state.choice(
            "Chosen by", list(CRITERIA), key="rule", titles=CRITERIA, default="hand",
            widget=st.segmented_control, required=True,
            help="On the validation images. Best balance: the largest sum of sensitivity and specificity (Youden).",
        )  # fmt: skip
        least = 0.0
        if criterion == "sensitivity":
            least = url_state.value(
                "Target sensitivity", 0.5, 1.0, key="least", default=0.95, widget=st.slider, step=0.01, width=220
            )
    positive = positives[name]
    try:
        choice = _choice(run, positive, criterion, least)
        has_validation = rule_store.SPLITS[0] in run.metrics
        rule = (
            cached_metrics.fitted_of(run, **choice) if has_validation else DecisionRule(predictions.classes, **choice)
        )
        if criterion != "hand":
            _on_validation(run, rule)
        calibrated = decision_rule.calibrated(predictions, rule.temperature)
        _outcome(run, split, calibrated, positive, rule.threshold or 0.0, titles[name])
        _saving(run, choice)
    except CxrError as error:
        st.warning(formatting.verbatim(str(error)), icon=":material/error:")


def _choice(run: Run, positive: tuple[str, ...], criterion: str, least: float) -> RuleChoice:
    """Arguments of `decision_rule.fit`."""
    if criterion == "hand" or rule_store.SPLITS[0] not in run.metrics:
        if criterion != "hand":
            st.caption("This run has no validation predictions, so the threshold is set by hand.")
        threshold = url_state.value("Threshold", 0.0, 1.0, key="threshold", default=0.5, widget=st.slider, step=0.01)
        return {"positive": positive, "threshold": threshold, "criterion": "by hand"}
    if criterion == "sensitivity":
        return {"positive": positive, "target_sensitivity": least}
    val = decision_rule.calibrated(
        cached_metrics.prediction_set_of(run, "val"), cached_metrics.fitted_of(run).temperature
    )
    threshold = operating_point.threshold_by_youden(*operating_point.question(val, positive))
    return {"positive": positive, "threshold": threshold, "criterion": "best balance on validation"}


def _on_validation(run: Run, rule: DecisionRule) -> None:
    counts = cached_metrics.counts_of(run, "val", rule)
    st.markdown(
        f"**Threshold {rule.threshold:.3f}**: {formatting.verbatim(rule.criterion)} ("
        f"{formatting.plural(counts['coverage'].of, 'image')}; there "
        f"sensitivity {formatting.percent(counts['sensitivity'].value)}, specificity "
        f"{formatting.percent(counts['specificity'].value)})."
    )
    if min(counts["sensitivity"].of, counts["specificity"].of) < 50:
        st.caption(":material/warning: So few validation images give a threshold that is mostly chance.")


def _outcome(
    run: Run, split: str, predictions: PredictionSet, positive: tuple[str, ...], threshold: float, title: str
) -> None:
    is_positive, score = operating_point.question(predictions, positive)
    outcome = operating_point.outcome_at(is_positive, score, threshold)
    st.subheader(f"{formatting.verbatim(title)}, on {formatting.split_title(split).lower()} images", anchor=False)
    with st.container(horizontal=True):
        for name, (short, meaning) in SHARES.items():
            share = getattr(outcome, name)
            about = f"{meaning} Below: the 95 % interval (Wilson)."
            messages.metric(
                short, formatting.percent(share.value), interval=formatting.interval(share.interval), about=about
            )
    left, right = st.columns(2, gap="large")
    with left:
        counts = [[outcome.tp, outcome.fn], [outcome.fp, outcome.tn]]
        st.plotly_chart(
            plots.confusion_matrix(counts, ["Positive", "Negative"], dark=dark()), theme=None,
            config=plots.config(f"at-threshold-{run.id}-{split}"), key=f"two-{run.id}",
            alt=f"{outcome.tp} true positive, {outcome.fn} false negative, {outcome.fp} false positive, {outcome.tn} true negative",
        )  # fmt: skip
    with right:
        names = " or ".join(formatting.class_title(name).lower() for name in positive)
        shades = (
            plots.class_colour(positive[0]),
            plots.class_colour("normal") if "normal" not in positive else "#7A828C",
        )
        st.plotly_chart(
            plots.score_distributions(
                {"Positive": score[is_positive], "Negative": score[~is_positive]}, shades,
                title=f"Probability of {names}", threshold=threshold, dark=dark(),
            ),
            config=plots.config(f"score-{run.id}-{split}"), key=f"score-{run.id}",
            alt="Distribution of the score among positive and negative images",
        )  # fmt: skip
    _adjusted(outcome, float(is_positive.mean()) if len(is_positive) else 0.5)


def _adjusted(outcome: operating_point.Outcome, here: float) -> None:
    st.markdown(
        "**In another population**",
        help="Predictive values depend on the prevalence. Sensitivity and specificity are those of this split.",
    )
    left, right = st.columns([1, 2], gap="large")
    with left:
        share = url_state.value(
            f"Prevalence, % (here {100 * here:.1f})", 0.1, 99.9, key="prevalence", default=10.0, widget=st.number_input,
            step=0.5, format="%.1f", help="Share of people who have the disease.",
        )  # fmt: skip
    ppv = operating_point.ppv_at_prevalence(outcome, share / 100)
    npv = operating_point.ppv_at_prevalence(outcome.mirrored, 1 - share / 100)
    if ppv.value is None and npv.value is None:
        right.caption("This needs positive and negative images.")
        return
    values = [formatting.estimate(ppv), formatting.estimate(npv)]
    right.table(pd.DataFrame({"at this prevalence (95 % interval)": values}, index=["PPV", "NPV"]))


def _saving(run: Run, choice: RuleChoice) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        if rule_store.SPLITS[0] in run.metrics:
            st.button(
                "Save with the run", icon=":material/save:", key="keep-point", on_click=save, args=(run.id,), kwargs=dict(choice),
                disabled=run.is_bundled,
                help="A model that ships is never changed." if run.is_bundled else "Predict then uses it.",
            )  # fmt: skip
        saved(run)


def save(run_id: str, **choice: Unpack[RuleChoice]) -> None:
    """Fit a decision rule (see `decision_rule.fit`) and save it with its run."""
    try:
        rule_store.save(run_id, rule_store.fit(run_id, min_images=1, **choice))
    except CxrError as error:
        st.toast(formatting.verbatim(str(error)), icon=":material/error:")


def saved(run: Run) -> None:
    """Show the saved rule of a run, if it has one, and the button that deletes it."""
    rule = rule_store.saved(run.id)
    if rule is None:
        return
    st.badge(
        f"Saved with the run: {formatting.verbatim(formatting.decision_rule(rule))}",
        icon=":material/check:",
        color="green",
    )
    if not run.is_bundled:
        st.button("Delete this rule", key="forget-rule", on_click=rule_store.delete, args=(run.id,))
