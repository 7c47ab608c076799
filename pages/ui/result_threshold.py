"""The operating point: a question, a threshold chosen on validation, and what it gives on test and in other populations."""

import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.errors import CxrError
from cxr_core.evaluation import fitted, operating_point, plots
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.runs.run_store import Run
from pages.ui import cached_metrics, url_state
from pages.ui.theme import dark

SHARES = {
    "sensitivity": ("Sensitivity", "Of those who have it, how many are called so."),
    "specificity": ("Specificity", "Of those who do not have it, how many are called free of it."),
    "ppv": ("PPV", "Positive predictive value: of those called so, how many have it."),
    "npv": ("NPV", "Negative predictive value: of those called free of it, how many are."),
}


def questions(classes: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Name in the address to positive classes: pneumonia first where there is a normal class, then each class."""
    found = {}
    if len(ill := operating_point.pneumonia_classes(classes)) > 1:
        found["pneumonia"] = ill
    return found | {name: (name,) for name in classes}


def show(run: Run, split: str, answers: PredictionSet) -> None:
    asked = questions(answers.classes)
    titles = {
        name: "Pneumonia against normal" if name == "pneumonia" else f"{formatting.class_title(name)} against the rest"
        for name in asked
    }
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = url_state.choice("Question", list(asked), key="question", titles=titles, width=330)
        rule = st.segmented_control(
            "Chosen by", ["hand", "sensitivity", "youden"], default="hand", required=True, key="rule", bind="query-params",
            format_func={"hand": "Hand", "sensitivity": "Sensitivity at least", "youden": "Best balance"}.__getitem__,
            help="On the validation images. Best balance: the largest sum of sensitivity and specificity (Youden).",
        )  # fmt: skip
        least = 0.0
        if rule == "sensitivity":
            least = st.slider("Sensitivity at least", 0.5, 1.0, 0.95, 0.01, key="least", bind="query-params", width=220)
    positive = asked[name]
    try:
        temperature = fitted.temperature(run.id)
        heat = temperature.value if temperature else 1.0
        known = {
            one: fitted.tempered(cached_metrics.prediction_set_of(run, one), heat) for one in fitted.splits_of(run)
        }
        threshold, told = _threshold(known, positive, rule, least)
        _shown(run, split, fitted.tempered(answers, heat), positive, threshold, titles[name])
        _keeping(run, positive, threshold, heat, told)
    except CxrError as error:
        st.warning(str(error), icon=":material/error:")


def _threshold(
    known: dict[str, PredictionSet], positive: tuple[str, ...], rule: str, least: float
) -> tuple[float, str]:
    """The threshold, and how it was chosen in words, by what is known of validation images."""
    if rule == "hand" or fitted.SPLIT not in known:
        if rule != "hand":
            st.caption("This run has no validation predictions, so the threshold is set by hand.")
        value = st.slider("Threshold", 0.0, 1.0, 0.5, 0.01, key="threshold", bind="query-params")
        return float(value), "by hand"
    val = known[fitted.SPLIT]
    asked = operating_point.question(val, positive)
    if rule == "sensitivity":
        found = fitted.threshold_for(list(known.values()), positive, least)
        told = f"finds at least {100 * least:g} % of them {fitted.told(list(known))}"
    else:
        found, told = operating_point.threshold_by_youden(*asked), "best balance on validation"
    outcome = operating_point.outcome_at(*asked, found)
    st.markdown(
        f"**Threshold {found:.3f}**: {told} ({formatting.plural(len(val), 'image')}; there sensitivity "
        f"{formatting.percent(outcome.sensitivity)}, specificity {formatting.percent(outcome.specificity)})."
    )
    if min(int(asked[0].sum()), int((~asked[0]).sum())) < 50:
        st.caption(":material/warning: So few validation images give a threshold that is mostly chance.")
    return found, told


def _shown(
    run: Run, split: str, answers: PredictionSet, positive: tuple[str, ...], threshold: float, title: str
) -> None:
    is_positive, score = operating_point.question(answers, positive)
    outcome = operating_point.outcome_at(is_positive, score, threshold)
    st.subheader(f"{title}, on {formatting.split_title(split).lower()} images", anchor=False)
    with st.container(horizontal=True):
        for name, (short, meaning) in SHARES.items():
            st.metric(
                short, formatting.percent(getattr(outcome, name)), delta=formatting.interval(outcome.intervals[name]),
                delta_color="off", delta_arrow="off", help=f"{meaning} Below: the 95 % interval (Wilson).", border=True,
                width=170, height="stretch",
            )  # fmt: skip
    left, right = st.columns(2, gap="large")
    with left:
        counts = [[outcome.tp, outcome.fn], [outcome.fp, outcome.tn]]
        st.plotly_chart(
            plots.confusion_matrix(counts, ["Positive", "Negative"], dark=dark()), theme=None,
            config=plots.config(f"at-threshold-{run.id}-{split}"), key=f"two-{run.id}",
            alt=f"{outcome.tp} found, {outcome.fn} missed, {outcome.fp} false alarms, {outcome.tn} free",
        )  # fmt: skip
    with right:
        called = " or ".join(formatting.class_title(name).lower() for name in positive)
        shades = (
            plots.class_colour(positive[0]),
            plots.class_colour("normal") if "normal" not in positive else "#7A828C",
        )
        st.plotly_chart(
            plots.score_distributions(
                {"Positive": score[is_positive], "Negative": score[~is_positive]}, shades,
                title=f"Probability of {called}", threshold=threshold, dark=dark(),
            ),
            config=plots.config(f"score-{run.id}-{split}"), key=f"score-{run.id}",
            alt="How the score is spread among positive and negative images",
        )  # fmt: skip
    _adjusted(outcome, float(is_positive.mean()) if len(is_positive) else 0.5)


def _adjusted(outcome: operating_point.Outcome, here: float) -> None:
    st.markdown(
        "**In another population**",
        help="Predictive values depend on how many have the illness. Sensitivity and specificity are taken as they are here.",
    )
    left, right = st.columns([1, 2], gap="large")
    share = left.number_input(
        f"Prevalence, % (here {100 * here:.1f})",
        0.1,
        99.9,
        10.0,
        0.5,
        "%.1f",
        key="prevalence",
        bind="query-params",
        help="How many of 100 people have it.",
    )
    found = operating_point.adjusted_for_prevalence(outcome, share / 100)
    if found is None:
        right.caption("This needs positive and negative images.")
        return
    right.table(
        pd.DataFrame(
            {
                "at this prevalence": [formatting.percent(found.ppv), formatting.percent(found.npv)],
                "95 % interval": [formatting.interval(found.ppv_interval), formatting.interval(found.npv_interval)],
            },
            index=["PPV", "NPV"],
        )
    )


def _keeping(run: Run, positive: tuple[str, ...], threshold: float, heat: float, told: str) -> None:
    kept = fitted.point(run.id)
    with st.container(horizontal=True, vertical_alignment="center"):
        if fitted.SPLIT in run.metrics:
            st.button(
                "Keep this point with the run", icon=":material/save:", key="keep-point", on_click=_keep,
                args=(run.id, positive, threshold, told, heat), disabled=run.is_bundled,
                help="What ships stays as it is." if run.is_bundled else "Predict then answers by it.",
            )  # fmt: skip
        if kept is not None:
            st.badge(f"Kept: {formatting.operating_point(kept)}", icon=":material/check:", color="green")
            if not run.is_bundled:
                st.button("Forget it", key="forget-point", on_click=fitted.forget, args=(run.id, "point"))


def _keep(run_id: str, positive: tuple[str, ...], threshold: float, told: str, heat: float) -> None:
    try:
        fitted.keep_point(run_id, positive, threshold, rule=told, temperature_=heat)
    except CxrError as error:
        st.toast(str(error), icon=":material/error:")
