"""Train: choose a network, its data and settings, start it, and watch."""

from typing import Any

import streamlit as st

from cxr_core.data import datasets, manifest
from cxr_core.errors import BadInput, CxrError
from cxr_core.jobs import queue
from cxr_core.models import catalogue, recipes
from cxr_core.runs import config as settings
from cxr_core.runs import folder as runs
from pages.ui import choose, notices, run_card, words

WAYS = {**words.SPLIT_RULES, "manifest": "A manifest"}
RECENT = 5


def form() -> None:
    data, model = st.columns(2)
    with data, st.container(border=True, height="stretch"):
        st.markdown("**Data**")
        names = datasets.names()
        asked = st.query_params.get("manifest", "").partition(":")[0]
        place = names.index(asked) if asked in names else 0
        name = st.selectbox("Dataset", names, place, key="train_data", persist_state="session")
        dataset = datasets.get(name)
        notices.synthetic(dataset)
        rule = st.segmented_control(
            "Validation images",
            list(WAYS),
            default="manifest" if "manifest" in st.query_params else "official",
            required=True,
            format_func=WAYS.__getitem__,
            key="train_split",
            persist_state="session",
            help="They choose which epoch is kept. " + " ".join(manifest.SPLIT_RULES.values()),
        )
        val = dataset.counts.get("val", {})
        if rule == "official" and (sum(val.values()) < 100 or not all(val.values())):
            missing = [words.label(one).lower() for one in dataset.classes if not val.get(one)]
            st.caption(
                f":material/warning: Only {words.plural(sum(val.values()), 'validation image')}"
                + (f", none of {' or '.join(missing)}" if missing else "")
                + ". Too few to choose an epoch by: take a new split for anything but the paper's table."
            )
        share = 0.15
        if rule == "patient":
            share = st.slider("Share for validation", 0.05, 0.40, 0.15, 0.05, key="train_share")
        frozen = built(name) if rule == "manifest" else None
    with model, st.container(border=True, height="stretch"):
        st.markdown("**Network**")
        chosen = st.selectbox(
            "Architecture",
            list(catalogue.MODELS),
            format_func=lambda one: catalogue.MODELS[one].title,
            key="train_model",
        )
        entry = catalogue.get(chosen)
        st.caption(f"{entry.summary} {entry.parameters:,} parameters, {entry.gflops:.2f} GFLOP an image.")
        recipe = st.selectbox("Recipe", entry.recipes, format_func=str.capitalize, key="train_recipe")
        st.caption(recipes.get(recipe, model=chosen).summary)
        epochs = st.number_input(
            "Epochs",
            1,
            1000,
            10,
            key="train_epochs",
            persist_state="session",
            help=settings.SETTINGS["epochs"].metadata["help"],
        )
    entry_recipe = recipes.get(recipe, model=chosen)
    usual = settings.SETTINGS["batch_size"].default
    batch = recipes.batch_size(entry_recipe, usual=usual, images=sum(dataset.counts.get("train", {}).values()))
    changes = advanced({**entry_recipe.settings, "batch_size": batch}, data=name)
    if changes["batch_size"] < usual:
        st.caption(
            f":material/info: This set is small: with batches of {changes['batch_size']} instead of the paper's {usual} "
            "an epoch has enough steps to learn from. Advanced settings change it."
        )
    if st.button("Start training", type="primary", icon=":material/play_arrow:"):
        frozen = frozen or manifest.build(name, split=rule, val_fraction=share, seed=changes["seed"])
        config = settings.make(
            model=chosen,
            recipe=recipe,
            data=name,
            manifest=frozen.id,
            classes=frozen.classes,
            settings={**changes, "epochs": epochs},
        )
        queue.submit(config)
        st.toast("The training was started. It goes on when you leave this page.", icon=":material/play_arrow:")


def built(data: str) -> manifest.Manifest:
    """The chosen one of the manifests that were built on the Curate page.

    Raises:
        BadInput: there is none.
    """
    found = {one.id: one for one in manifest.every(data)}
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
    )
    counts = found[chosen].counts
    st.caption("; ".join(f"{words.split(split)}: {sum(row.values()):,} images" for split, row in counts.items()) + ".")
    return found[chosen]


def advanced(defaults: dict[str, Any], *, data: str) -> dict[str, Any]:
    """Every other setting of a run, with its limits and meaning; another dataset brings its own defaults."""
    chosen = {}
    with st.expander("Advanced settings", icon=":material/tune:"), st.container(horizontal=True):
        for name, one in settings.SETTINGS.items():
            if name == "epochs":
                continue
            value, about = defaults.get(name, one.default), one.metadata
            common = {"help": about["help"], "key": f"train_{name}-{data}", "width": 200}
            if isinstance(value, bool):
                chosen[name] = st.checkbox(about["title"], value, **common)
            elif about.get("options"):
                chosen[name] = st.selectbox(about["title"], about["options"], about["options"].index(value), **common)
            else:
                step = 1 if isinstance(value, int) else 0.0001 if name == "learning_rate" else 0.05
                form_ = "%d" if isinstance(value, int) else "%.4f" if name == "learning_rate" else "%.2f"
                low, high = (type(value)(about[edge]) for edge in ("low", "high"))
                chosen[name] = st.number_input(about["title"], low, high, value, step=step, format=form_, **common)
    return chosen


def active() -> list[runs.Run]:
    return [run for run in runs.every() if run.status.state in ("queued", "running")]


def watch() -> None:
    """The runs under way, redrawn every second; when one ends, the whole page is."""
    queue.dispatch()
    now = active()
    for run in now:
        run_card.card(run)
    before = st.session_state.get("watched", set())
    st.session_state["watched"] = {run.id for run in now}
    for run_id in before - st.session_state["watched"]:
        if run_id in runs.ids():
            ended = runs.get(run_id)
            st.toast(f"{run_card.title(ended)}: {ended.status.state}.", icon=words.STATES[ended.status.state][1])
    if before != st.session_state["watched"]:
        st.rerun()


@st.dialog("Delete this run?")
def confirm_delete(run_id: str) -> None:
    st.markdown(f"**{run_id}** with its model, predictions and log will be gone for good.")
    if st.button("Delete it", type="primary", icon=":material/delete:"):
        runs.delete(run_id)
        st.rerun()


st.title("Train", anchor=False)
if not datasets.names():
    choose.no_dataset("Nothing to learn from yet")
try:
    form()
except CxrError as error:
    st.error(str(error), icon=":material/error:")
st.subheader("Under way", anchor=False)
if not active():
    st.caption("No training is under way.")
st.fragment(watch, run_every=1.0 if active() else None)()
ended = [run for run in runs.every() if run.status.state not in ("queued", "running")]
if ended:
    st.subheader("Latest runs", anchor=False)
    for run in ended[:RECENT]:
        run_card.card(run, delete=confirm_delete)
    if len(ended) > RECENT:
        st.page_link(
            "pages/model/results.py", label=f"All {len(ended)} runs are in Results", icon=":material/query_stats:"
        )
