"""What a run says of one image: the image with what counted for the answer, the answer, and how far to trust it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.errors import CxrError
from cxr_core.evaluation import fitted, plots
from cxr_core.evaluation.fitted import Point
from cxr_core.inference.predict import LoadedModel, Prediction
from cxr_core.runs.run_store import Run
from pages.ui import cached_data, cached_metrics, heatmaps, run_card
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
    if answer.sure:
        st.header(formatting.class_title(answer.label), anchor=False)
        st.markdown(f"with a probability of **{share}** {_meaning(panel)}.")
    else:
        st.header("Unsure", anchor=False)
        if answer.label == answer.most_probable:
            st.markdown(
                f"The nearest is **{formatting.class_title(answer.label)}** with **{share}** {_meaning(panel)}."
            )
    if answer.label != answer.most_probable and panel.point:
        st.markdown(_by_point(panel.point, panel.classes, answer))
    _band(panel, answer)
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
    if panel.point:
        st.caption(_point(panel.run, panel.point))


def _point(run: Run, point: Point) -> str:
    """The operating point, and what it gives on the images that it was chosen on and on others."""
    told = (
        f":material/tune: Operating point: {formatting.operating_point(point)}. On {point.images:,} validation images it has a sensitivity of "
        f"{formatting.percent(point.sensitivity)} and a specificity of {formatting.percent(point.specificity)}"
    )
    try:
        test = cached_metrics.prediction_set_of(run, "test")
    except CxrError:  # it has none
        return f"{told}."
    gives = fitted.outcome(test, point)
    return f"{told}; on {len(test):,} test images {formatting.percent(gives.sensitivity)} and {formatting.percent(gives.specificity)}."


def _by_point(point: Point, classes: tuple[str, ...], answer: Prediction) -> str:
    """Why the answer is not the most probable class."""
    score = float(point.score([answer.probabilities[name] for name in classes], classes))
    named = " and ".join(formatting.class_title(name).lower() for name in point.positive)
    together = f"{named}{' together' if len(point.positive) > 1 else ''}"
    where = "below" if score < point.threshold else "at least"
    return (
        f"On the side of **{formatting.class_title(answer.label).lower()}** by the operating point: {together} have {formatting.percent(score)}, "
        f"{where} the {formatting.percent(point.threshold)} from which an image is called so. The most probable single class is "
        f"{formatting.class_title(answer.most_probable).lower()} ({formatting.percent(answer.calibrated[answer.most_probable])})."
    )


def _meaning(panel: LoadedModel) -> str:
    if panel.temperature:
        return "(calibrated: of 100 images with such an answer, about so many should be of this class)"
    return "by its own reckoning, which is not calibrated"


def _band(panel: LoadedModel, answer: Prediction) -> None:
    band = panel.band
    if band is None:
        st.caption(
            ":material/help: There are too few validation images, or too few errors on them, to know when this run is unsure."
        )
        return
    told = (
        f"Of the {band.images:,} validation images, {band.answered:,} had an answer of at least {formatting.percent(band.least)}; of "
        f"these {formatting.percent(band.right / band.answered)} were right (95 % interval {formatting.interval(band.interval)}), of all "
        f"{formatting.percent(band.right_of_all / band.images)}."
    )
    if answer.sure:
        st.caption(f":material/verified: Above the bar for a sure answer. {told}")
    else:
        st.info(f"**Below the bar for a sure answer.** {told}", icon=":material/help:")


def _picture(panel: LoadedModel, title: str, grey: np.ndarray, answer: Prediction) -> None:
    @st.fragment
    def chosen() -> None:
        way = st.segmented_control(
            "What to show", [HEATMAP, IMAGE], default=HEATMAP, required=True, key=f"way-{title}", persist_state="session",
            format_func={HEATMAP: "What counted", IMAGE: "Image"}.__getitem__, label_visibility="collapsed",
        )  # fmt: skip
        if way == IMAGE or not _heat(panel, title, grey, answer):
            st.image(cached_data.jpeg(grey), width="stretch", alt=f"The image {title}")

    chosen()


def _heat(panel: LoadedModel, title: str, grey: np.ndarray, answer: Prediction) -> bool:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        place = panel.classes.index(answer.label)
        label = st.selectbox(
            "Counted for", panel.classes, place, key=f"for-{title}", format_func=formatting.class_title, width=190,
            help="Which parts of the image raised the score of this class.",
        )  # fmt: skip
        strength = st.slider(
            "Strength", 0, 100, 60, 5, key=f"strength-{title}", persist_state="session", format="%d %%", width=150
        )
    try:
        laid = heatmaps.laid_over(grey, panel.relevance(grey, label), strength / 100)
    except CxrError as error:
        st.caption(f":material/info: {error}")
        return False
    st.image(
        laid,
        width="stretch",
        alt=f"The image {title} with what counted for {formatting.class_title(label).lower()} laid over it",
    )
    st.caption("Bright: this part counted most for the answer. It shows what the network used, not where illness is.")
    return True


def _opinions(panel: LoadedModel, answer: Prediction, others: Sequence[tuple[LoadedModel, Prediction]]) -> None:
    """What the members of an ensemble, and other runs that were asked, say."""
    titles = run_card.titles([one.run for one in (panel, *(other for other, _ in others))])
    rows = [
        (f"Member {number}: {_named(run_id)}", vote) for number, (run_id, vote) in enumerate(answer.votes.items(), 1)
    ]
    rows += [(titles[other.run.id], said.calibrated) for other, said in others]
    if not rows:
        return
    called = [max(vote, key=vote.__getitem__) for _, vote in rows]
    alike = sum(one == answer.label for one in called)
    st.markdown(f"**Other opinions**: {alike} of {len(rows)} say {formatting.class_title(answer.label).lower()} too.")
    table = pd.DataFrame(
        [
            {
                "Network": name,
                "Says": formatting.class_title(best),
                **{formatting.class_title(one): share for one, share in vote.items()},
            }
            for (name, vote), best in zip(rows, called, strict=True)
        ]
    )
    share = st.column_config.ProgressColumn(min_value=0, max_value=1, format="percent")
    shares = {formatting.class_title(one): share for one in panel.classes}
    st.dataframe(table, hide_index=True, column_config=shares, alt="What each network says")


def _named(run_id: str) -> str:
    return run_id.rsplit("-", 3)[0]


def _exact(answer: Prediction) -> None:
    with st.expander("Exact figures"):
        table = pd.DataFrame({"class": list(answer.probabilities)})
        table["probability"] = [f"{value:.7f}" for value in answer.probabilities.values()]
        if answer.calibrated != answer.probabilities:
            table["after calibration"] = [f"{value:.7f}" for value in answer.calibrated.values()]
        st.dataframe(table, hide_index=True, alt="Probability of each class to seven places")
        st.caption("The first column is what the network itself says, as in its predictions tables.")
