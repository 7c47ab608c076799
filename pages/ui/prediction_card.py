"""The prediction for one image: the image with its heatmap, the class, and the confidence."""

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.errors import CxrError
from cxr_core.evaluation import plots
from cxr_core.evaluation.decision_rule import DecisionRule
from cxr_core.inference.predict import LoadedModel, Prediction
from pages.ui import cached_data, cached_metrics, heatmaps, messages, run_card
from pages.ui.theme import dark

IMAGE, HEATMAP = "image", "heatmap"


def show(
    panel: LoadedModel,
    title: str,
    grey: np.ndarray,
    answer: Prediction,
    *,
    others: Sequence[tuple[LoadedModel, Prediction]] = (),
    true: str = "",
    facts: dict[str, str] | None = None,
) -> None:
    """The answer beside its image.

    Args:
        grey: uint8 (H, W).
        others: second opinions on it.
        true: its class, if that is known.
        facts: what its file says of itself.
    """
    with st.container(border=True):
        left, right = st.columns([3, 2], gap="large")
        with left:  # on a phone the left column is the upper one
            passed = _passed(title, answer)
            if passed:
                _words(panel, title, answer, true)
                _opinions(panel, answer, others)
                _exact(answer)
        with right:
            if passed:
                _picture(panel, title, grey, answer)
            else:
                st.image(cached_data.jpeg(grey), width="stretch", alt=f"The image {title}")
            st.caption(f"{formatting.verbatim(title)} · {grey.shape[1]:,} × {grey.shape[0]:,} pixels")
            if facts:
                st.caption(" · ".join(f"{name}: {value}" for name, value in facts.items()))


def _passed(title: str, answer: Prediction) -> bool:
    """Tell what is odd about the image; whether its answer is to be shown."""
    if not answer.remarks:
        return True
    for one in answer.remarks:
        if one.refuses:
            st.error(one.text, icon=":material/block:")
        else:
            st.warning(one.text, icon=":material/warning:")
    if answer.refused:
        st.markdown("**No answer is given for this image.** It would mean nothing.")
        return False
    return st.toggle("Show the answer all the same", key=f"override-{title}")


def _words(panel: LoadedModel, title: str, answer: Prediction, true: str) -> None:
    share = formatting.percent(answer.calibrated[answer.label])
    st.markdown("The network's answer" if len(panel.members) == 1 else "The answer of the ensemble")
    if answer.confident:
        st.header(formatting.class_title(answer.label), anchor=False)
        st.markdown(f"with a probability of **{share}** {_meaning(panel.rule)}.")
    else:
        st.header("Not confident", anchor=False)
        st.markdown(
            f"The nearest is **{formatting.class_title(answer.label)}** with **{share}** {_meaning(panel.rule)}."
        )
    if answer.label != answer.most_probable:
        st.markdown(_by_threshold(panel.rule, answer))
    _confidence(panel, answer)
    if true:
        right = true == answer.label
        st.badge(
            f"{'Right' if right else 'Wrong'}: the dataset says {formatting.class_title(true).lower()}",
            icon=":material/check:" if right else ":material/close:",
            color="green" if right else "red",
        )
    found = answer.calibrated
    st.plotly_chart(
        plots.class_probabilities(found, {name: formatting.class_title(name) for name in found}, dark=dark()),
        config=plots.config(f"probabilities-{title}"),
        key=f"probabilities-{title}",
        alt=", ".join(f"{formatting.class_title(name)} {formatting.percent(value)}" for name, value in found.items()),
    )
    if panel.rule.threshold is not None:
        st.caption(_rule(panel))


def _rule(panel: LoadedModel) -> str:
    """The decision rule, and what it gives on the images that it was fitted on and on others."""
    gives = []
    for split in ("val", "test"):
        with suppress(CxrError):  # it has none
            counts = cached_metrics.counts_of(panel.run, split, panel.rule)
            gives.append(
                f"on {counts['coverage'].of:,} {formatting.split_title(split).lower()} images its sensitivity is "
                f"{formatting.percent(counts['sensitivity'].value)} and its specificity "
                f"{formatting.percent(counts['specificity'].value)}, those of the confident answers "
                f"{formatting.percent(counts['sensitivity_answered'].value)} and "
                f"{formatting.percent(counts['specificity_answered'].value)}"
            )
    return f":material/tune: Decision rule: {'; '.join([formatting.decision_rule(panel.rule), *gives])}."


def _by_threshold(rule: DecisionRule, answer: Prediction) -> str:
    """Why the answer is not the most probable class."""
    score = sum(answer.calibrated[name] for name in rule.positive)
    named = " and ".join(formatting.class_title(name).lower() for name in rule.positive)
    together = f"{named}{' together' if len(rule.positive) > 1 else ''}"
    where = "at least" if answer.label in rule.positive else "below"
    most_probable = formatting.class_title(answer.most_probable).lower()
    return (
        f"On the side of **{formatting.class_title(answer.label).lower()}** by the tuned threshold: {together} have "
        f"{formatting.percent(score)}, {where} the {formatting.percent(rule.threshold)} from which an image is called so. The "
        f"most probable single class is {most_probable} ({formatting.percent(answer.calibrated[answer.most_probable])})."
    )


def _meaning(rule: DecisionRule) -> str:
    if rule.is_calibrated:
        return "(calibrated: of 100 images with such an answer, about so many should be of this class)"
    return "(uncalibrated)"


def _confidence(panel: LoadedModel, answer: Prediction) -> None:
    """Whether the answer is confident, and what that is worth on validation images."""
    least = panel.rule.reject_threshold
    try:
        counts = cached_metrics.counts_of(panel.run, "val", panel.rule)
    except CxrError:  # it has none
        counts = {}
    if not least or not counts:
        st.caption(
            ":material/help: There are too few validation images, or too few errors on them, to know when this model is not "
            "confident."
        )
        return
    (confident, n), (_, ill) = counts["coverage"], counts["sensitivity_confident"]
    told = (
        f"Of the {n:,} validation images, {confident:,} had an answer of at least {formatting.percent(least)}; of these "
        f"{formatting.estimate(counts['accuracy_answered'])} were right, of all {formatting.percent(counts['accuracy_all'].value)}."
    )
    if ill:
        told += (
            f" Of the ill ones {formatting.percent(counts['sensitivity_confident'].value)} were confidently called so, of the "
            f"others {formatting.percent(counts['specificity_confident'].value)} confidently not."
        )
    if answer.confident:
        st.caption(f":material/verified: Confident. {told}")
    else:
        st.info(f"**Not confident.** {told}", icon=":material/help:")


def _picture(panel: LoadedModel, title: str, grey: np.ndarray, answer: Prediction) -> None:
    @st.fragment
    def chosen() -> None:
        way = st.segmented_control(
            "What to show", [HEATMAP, IMAGE], default=HEATMAP, required=True, key=f"way-{title}", persist_state="session",
            format_func={HEATMAP: "Heatmap", IMAGE: "Image"}.__getitem__, label_visibility="collapsed",
        )  # fmt: skip
        if way == IMAGE or not _heat(panel, title, grey, answer):
            st.image(cached_data.jpeg(grey), width="stretch", alt=f"The image {title}")

    chosen()


def _heat(panel: LoadedModel, title: str, grey: np.ndarray, answer: Prediction) -> bool:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        place = panel.classes.index(answer.label)
        label = st.selectbox(
            "Class explained", panel.classes, place, key=f"for-{title}", format_func=formatting.class_title, width=190,
            help="The heatmap shows which parts of the image raised the score of this class.",
        )  # fmt: skip
        strength = st.slider(
            "Opacity", 0, 100, 60, 5, key=f"strength-{title}", persist_state="session", format="%d %%", width=150
        )
    try:
        laid = heatmaps.laid_over(grey, panel.relevance(grey, label), strength / 100)
    except CxrError as error:
        st.caption(f":material/info: {error}")
        return False
    st.image(
        laid,
        width="stretch",
        alt=f"Heatmap for {formatting.class_title(label).lower()} over the image {title}",
    )
    st.caption(messages.HEATMAP_MEANING)
    return True


def _opinions(panel: LoadedModel, answer: Prediction, others: Sequence[tuple[LoadedModel, Prediction]]) -> None:
    """What the members of an ensemble, and other runs that were asked, say."""
    titles = run_card.titles([one.run for one in (panel, *(other for other, _ in others))])
    rows = [
        (f"Member {number}: {_named(run_id)}", answer.member_labels[run_id], probabilities)
        for number, (run_id, probabilities) in enumerate(answer.votes.items(), 1)
    ]
    rows += [(titles[other.run.id], opinion.label, opinion.calibrated) for other, opinion in others]
    if not rows:
        return
    agreeing = sum(label == answer.label for _, label, _ in rows)
    st.markdown(
        f"**Second opinions**: {agreeing} of {len(rows)} say {formatting.class_title(answer.label).lower()} too.",
        help="Each by its own decision rule.",
    )
    table = pd.DataFrame(
        [
            {
                "Model": name,
                "Prediction": formatting.class_title(label),
                **{formatting.class_title(one): share for one, share in shares.items()},
            }
            for name, label, shares in rows
        ]
    )
    share = st.column_config.ProgressColumn(min_value=0, max_value=1, format="percent")
    shares = {formatting.class_title(one): share for one in panel.classes}
    st.dataframe(table, hide_index=True, column_config=shares, alt="Prediction of each model")


def _named(run_id: str) -> str:
    return run_id.rsplit("-", 3)[0]


def _exact(answer: Prediction) -> None:
    with st.expander("Exact probabilities"):
        table = pd.DataFrame({"class": list(answer.probabilities)})
        table["probability"] = [f"{value:.7f}" for value in answer.probabilities.values()]
        if answer.calibrated != answer.probabilities:
            table["after calibration"] = [f"{value:.7f}" for value in answer.calibrated.values()]
        st.dataframe(table, hide_index=True, alt="Probability of each class to seven places")
        st.caption("Probability: the output of the network, as in its prediction tables.")
