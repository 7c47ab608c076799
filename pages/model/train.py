"""Train: choose networks, their data and settings, start them, and watch."""

from dataclasses import dataclass
from typing import Any

import streamlit as st

from cxr_core import formatting, machine
from cxr_core.data import datasets, manifest
from cxr_core.data.datasets import Dataset
from cxr_core.errors import BadInput, CxrError
from cxr_core.jobs import queue, sweep
from cxr_core.models import catalogue, recipes
from cxr_core.runs import config as settings
from cxr_core.runs import groups
from cxr_core.runs import run_store as runs
from cxr_core.runs.config import RunConfig
from pages.ui import app_shell, messages, model_card, run_card, run_list, selectors
from pages.ui.settings_form import settings_form

WAYS = {**formatting.SPLIT_RULES, "manifest": "From a manifest"}
FIRST_LOOK = 10  # epochs proposed for a network that learns as a whole, which takes long on a processor


@dataclass(frozen=True)
class Splits:
    """The chosen data: a frozen manifest, or how to build one."""

    dataset: Dataset
    rule: str
    share: float
    frozen: manifest.Manifest | None

    @property
    def images(self) -> dict[str, int]:
        """About how many images each split has."""
        if self.frozen:
            return {split: sum(row.values()) for split, row in self.frozen.counts.items()}
        found = {split: sum(row.values()) for split, row in self.dataset.counts.items()}
        if self.rule == "patient":
            pool = found.get("train", 0) + found.get("val", 0)
            found |= {"train": round(pool * (1 - self.share)), "val": round(pool * self.share)}
        return found


def data_panel() -> Splits:
    with st.container(border=True):
        st.markdown("**Data**")
        names = datasets.list_names()
        asked = st.query_params.get("manifest", "").partition(":")[0]
        place = names.index(asked) if asked in names else 0
        with st.container(horizontal=True, vertical_alignment="bottom"):
            name = st.selectbox("Dataset", names, place, key="train_data", persist_state="session", width=320)
            dataset = datasets.get(name)
            messages.synthetic_notice(dataset)
            usual = "patient" if few_to_choose_by(dataset) else "official"
            rule = st.selectbox(
                "Validation split",
                list(WAYS),
                list(WAYS).index("manifest" if "manifest" in st.query_params else usual),
                format_func=WAYS.__getitem__,
                key=f"train_split-{name}",
                persist_state="session",
                width=320,
                help="They select the best epoch. " + " ".join(manifest.SPLIT_RULES.values()),
            )
            share = 0.15
            if rule == "patient":
                share = st.slider(
                    "Validation fraction",
                    0.05,
                    0.40,
                    0.15,
                    0.05,
                    key="train_share",
                    persist_state="session",
                    width=240,
                )
        if rule == "official" and few_to_choose_by(dataset):
            val = dataset.counts.get("val", {})
            missing = [formatting.class_title(one).lower() for one in dataset.classes if not val.get(one)]
            st.caption(
                f":material/warning: Only {formatting.plural(sum(val.values()), 'validation image')}"
                + (f", none of {' or '.join(missing)}" if missing else "")
                + ". Too few to select an epoch: use a new patient-wise split, except to repeat the paper's table."
            )
        return Splits(dataset, rule, share, built(name) if rule == "manifest" else None)


def few_to_choose_by(dataset: Dataset) -> bool:
    """Whether the source's own validation images are too few to choose an epoch by, as the paper's sixteen are."""
    val = dataset.counts.get("val", {})
    return sum(val.values()) < 100 or not all(val.values())


def built(data: str) -> manifest.Manifest:
    """The chosen one of the manifests that were built on the Curate page.

    Raises:
        BadInput: there is none.
    """
    found = {one.id: one for one in manifest.list_manifests(data)}
    if not found:
        raise BadInput(f"No manifest of '{data}' has been built yet. Build one on the Curate page.")
    asked = st.query_params.get("manifest", "").partition(":")[2]
    place = list(found).index(asked) if asked in found else 0
    chosen = st.selectbox(
        "Manifest",
        list(found),
        place,
        format_func=lambda one: f"{one}: {found[one].split} split, balance {found[one].balance}",
        key=f"train_manifest-{data}",
        persist_state="session",
    )
    counts = found[chosen].counts
    st.caption(
        "; ".join(f"{formatting.split_title(split)}: {sum(row.values()):,} images" for split, row in counts.items())
        + "."
    )
    return found[chosen]


def networks_panel(splits: Splits, done: list[runs.Run]) -> list[RunConfig]:
    """The chosen networks, a card for each; their settings, or none while one of them cannot be started."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.multiselect(
            "Architectures",
            list(catalogue.MODELS),
            default=["custom_cnn"],
            format_func=lambda one: catalogue.MODELS[one].title,
            key="train_models",
            persist_state="session",
            width=620,
            help="One or several; each is trained in a run of its own, one after the other.",
        )
        recipe = st.segmented_control(
            "Recipe",
            list(recipes.SUMMARIES),
            default="paper",
            required=True,
            format_func={"paper": "As in the paper", "tuned": "Tuned"}.__getitem__,
            key="train_recipe",
            persist_state="session",
        )
    st.caption(recipes.SUMMARIES[recipe])
    messages.paper_citation()
    cards = machine.list_gpus()
    where = (
        ", ".join(f"{one.name} ({one.memory_gb:.0f} GB)" for one in cards)
        or "this machine's processor; no graphics card found"
    )
    st.caption(f":material/memory: Trains on {where}.")
    if not chosen:
        st.info("Choose at least one architecture.", icon=":material/model_training:")
    configs = []
    for start in range(0, len(chosen), 2):
        for column, name in zip(st.columns(2), chosen[start : start + 2], strict=False):
            with column, st.container(border=True):
                try:
                    configs.append(network(name, recipe, splits, done))
                except CxrError as error:  # of this card; the others stay as they are
                    st.error(str(error), icon=":material/error:")
    return configs if len(configs) == len(chosen) else []


def network(name: str, recipe: str, splits: Splits, done: list[runs.Run]) -> RunConfig:
    """One architecture's card: what it is, what it starts from, how long it takes, its settings."""
    entry = catalogue.get(name)
    model_card.heading(entry)
    weights = model_card.starting_weights(entry)
    fitting = recipes.get(recipe, model=name, weights=weights)
    proposed = proposals(fitting, splits)
    key = f"{splits.dataset.name}-{name}-{recipe}-{weights}"
    epochs = st.number_input(
        "Epochs",
        1,
        1000,
        proposed["epochs"],
        key=f"train_epochs-{name}-{recipe}-{weights}",
        persist_state="session",
        help=settings.SETTINGS["epochs"].metadata["help"],
        width=160,
    )
    with st.expander("Advanced settings", icon=":material/tune:"):
        changes = settings_form(proposed, key=f"train_{key}", leave_out=("epochs", "weights"))
    config = settings.make(
        model=name,
        recipe=recipe,
        data=splits.dataset.name,
        manifest="",
        classes=splits.frozen.classes if splits.frozen else splits.dataset.classes,
        settings={**changes, "weights": weights, "epochs": epochs},
    )
    usual = fitting.settings.get("batch_size", settings.SETTINGS["batch_size"].default)
    if config.batch_size < usual and changes["batch_size"] == proposed["batch_size"]:
        st.caption(
            f":material/info: Small dataset: a batch size of {config.batch_size} instead of {usual} gives an epoch enough steps. "
            "The advanced settings change it."
        )
    if (
        proposed["epochs"] < fitting.settings.get("epochs", settings.SETTINGS["epochs"].default)
        and epochs == FIRST_LOOK
    ):
        full = fitting.settings.get("epochs", settings.SETTINGS["epochs"].default)
        st.caption(
            f":material/info: {FIRST_LOOK} epochs are proposed for a first look; the recipe has up to {full}, "
            "which take that much longer."
        )
    model_card.facts(entry, config, splits.images, done)
    model_card.layers(entry)
    return config


def proposals(recipe: recipes.Recipe, splits: Splits) -> dict[str, Any]:
    """The recipe's settings, with a batch for small sets and fewer epochs where each takes long."""
    found = {name: one.default for name, one in settings.SETTINGS.items()} | recipe.settings
    usual = settings.SETTINGS["batch_size"].default
    found["batch_size"] = recipes.batch_size(recipe, usual=usual, images=splits.images.get("train", 0))
    if found["trained"] == catalogue.ALL:
        found["epochs"] = min(found["epochs"], FIRST_LOOK)
    return found


def repeats() -> tuple[list[int], int]:
    """Seeds, and folds of a cross-validation, to measure how much a metric varies by chance."""
    with st.expander("Repeat: several seeds, cross-validation", icon=":material/repeat:"):
        st.caption(
            "How much does a metric vary by chance? Train with several seeds, or by cross-validation. The runs form one group, "
            "shown with its mean and stopped together."
        )
        with st.container(horizontal=True):
            seeds = st.number_input(
                "Seeds",
                1,
                20,
                1,
                key="train_seeds",
                persist_state="session",
                width=200,
                help="Number of runs that differ only in their seed.",
            )
            folds = st.selectbox(
                "Cross-validation",
                [0, 3, 5, 10],
                format_func=lambda one: f"{one} folds, by patient" if one else "None",
                key="train_folds",
                persist_state="session",
                width=240,
                help="Every training image is in the validation fold of exactly one run; no patient is in two folds.",
            )
    return list(range(seeds)), folds


def start(configs: list[RunConfig], splits: Splits, seeds: list[int], folds: int) -> None:
    every = [settings.with_settings(config, {"seed": config.seed + seed}) for config in configs for seed in seeds]
    if len(every) == 1 and not folds:
        config = every[0]
        frozen = splits.frozen or manifest.build(
            splits.dataset.name, split=splits.rule, val_fraction=splits.share, seed=config.seed
        )
        queue.submit(settings.with_manifest(config, frozen.id, frozen.classes))
    elif splits.frozen and not folds:
        sweep.submit_on_manifests(every, [splits.frozen])
    else:
        sweep.submit(every, folds=folds, split="patient" if folds else splits.rule, val_fraction=splits.share)
    count = len(every) * max(1, folds)
    what = "The training was" if count == 1 else f"{count} trainings were"
    waiting = sum(run.status.state == "queued" for run in runs.list_runs())
    done = f"queued; {waiting} wait now" if waiting else "started"
    st.toast(f"{what} {done}. It continues when you leave this page.", icon=":material/play_arrow:")


def form(found: list[runs.Run]) -> bool:
    """Whether a training was started by it just now."""
    splits = data_panel()
    above = st.container()  # beside the choice of networks, not below all their cards
    configs = networks_panel(splits, found)
    with above, st.container(horizontal=True, vertical_alignment="center"):
        seeds, folds = repeats()
        count = len(configs) * len(seeds) * max(1, folds)
        label = "Start training" if count < 2 else f"Start {count} trainings"
        if st.button(label, type="primary", icon=":material/play_arrow:", disabled=not configs):
            start(configs, splits, seeds, folds)
            return True
    return False


def watch(read: list[list[runs.Run]]) -> None:
    """The runs under way, redrawn every second; when one ends, the whole page is.

    Args:
        read: the runs as the page has read them just now, taken out by the first drawing; each later one looks again.
    """
    found = read.pop() if read else app_shell.start_waiting_runs(notice=False)
    now = [run for run in found if run.status.at_work]
    run_list.under_way(now, groups.list_groups(found))
    before = st.session_state.get("watched", set())
    st.session_state["watched"] = {run.id for run in now}
    for run_id in before - st.session_state["watched"]:
        if run_id in runs.list_ids():
            ended = runs.get(run_id)
            link = f" [Results](/results?run={run_id})" if ended.has_predictions else ""
            st.toast(
                f"{run_card.title(ended)}: {ended.status.state}.{link}",
                icon=formatting.RUN_STATES[ended.status.state][1],
            )
    if before != st.session_state["watched"]:
        st.rerun()


st.title("Train", anchor=False)
if not datasets.list_names():
    selectors.no_dataset("Nothing to learn from yet")
found = runs.list_runs()
try:
    if form(found):
        found = runs.list_runs()
except CxrError as error:
    st.error(str(error), icon=":material/error:")
st.page_link(
    "pages/model/leaderboard.py",
    label="All three models of the paper at once, and its Table 4.1: Leaderboard",
    icon=":material/replay:",
)
st.subheader("Running", anchor=False)
busy = any(run.status.at_work for run in found)
if not busy:
    st.caption("No training is running.")
st.fragment(watch, run_every=1.0 if busy else None)([found])
run_list.ended([run for run in found if not run.status.at_work])
