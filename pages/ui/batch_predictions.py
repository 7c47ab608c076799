"""Predictions for many images: in chunks, each shown when it is done; can be stopped and resumed."""

import base64
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import streamlit as st

from cxr_core import formatting, images
from cxr_core.inference import predict, prediction_export
from cxr_core.inference.litert_model import CHUNK
from cxr_core.inference.predict import InputFile, LoadedModel, Result
from pages.ui import messages

ALL, UNSURE, ODD, NONE = "all", "unsure", "odd", "none"
FILTERS = {ALL: "All", UNSURE: "Not confident", ODD: "With a finding", NONE: "Without an answer"}


@dataclass
class Batch:
    """The results of one session so far, in the order of the items."""

    key: tuple[object, ...]
    results: list[Result] = field(default_factory=list)
    seconds: float = 0.0
    stopped: bool = False


def show(
    model: LoadedModel,
    others: Sequence[LoadedModel],
    items: list[InputFile],
    problems: list[tuple[str, str]],
    *,
    key: tuple[object, ...],
) -> int | None:
    """Predict the items and show a table of them.

    Args:
        others: models for a second opinion on each.
        problems: names and sentences of what could not be taken.
        key: of these files and this run; others begin anew.

    Returns:
        The position of the chosen item, if one was chosen that can be shown.
    """
    batch: Batch = st.session_state.get("batch") or Batch(())
    if batch.key != key:
        batch = st.session_state["batch"] = Batch(key, [Result(name, problem=text) for name, text in problems])
    left = items[len(batch.results) - len(problems) :]
    bar = st.container()
    if left:
        _work(model, others, batch, left, len(items) + len(problems), bar)
    position = _table(model, others, batch)
    if position is not None and position < len(problems):
        messages.unreadable(*problems[position])
        return None
    return None if position is None else position - len(problems)


def _work(
    model: LoadedModel,
    others: Sequence[LoadedModel],
    batch: Batch,
    left: list[InputFile],
    total: int,
    bar: st.delta_generator.DeltaGenerator,
) -> None:
    with bar, st.container(horizontal=True, vertical_alignment="center"):
        done = len(batch.results)
        if batch.stopped:
            st.markdown(f"Stopped after {done:,} of {formatting.plural(total, 'file')}.", width="content")
            st.button("Resume", icon=":material/play_arrow:", on_click=_set, args=(batch, False))
            return
        progress = st.progress(done / total, text=f"{done:,} of {total:,}")
        # A click runs the page again, which ends this loop where it is; what is done stays in the session.
        st.button("Stop", icon=":material/stop:", on_click=_set, args=(batch, True))
    begun = time.monotonic()
    before = batch.seconds
    for count, result in enumerate(predict.stream(model, left, others=others), start=1):
        batch.results.append(result)
        spent = time.monotonic() - begun
        batch.seconds = before + spent
        if count % CHUNK == 0 or count == len(left):
            rest = spent / count * (len(left) - count)
            progress.progress(
                len(batch.results) / total,
                text=f"{len(batch.results):,} of {total:,}, {count / spent:.0f} images a second, about "
                f"{formatting.duration(rest)} left",
            )
    st.rerun()


def _set(batch: Batch, stopped: bool) -> None:
    batch.stopped = stopped


def _table(model: LoadedModel, others: Sequence[LoadedModel], batch: Batch) -> int | None:
    """Show the table and return the position of the chosen result, if any."""
    results = batch.results
    if not results:
        return None
    answers = [result.prediction for result in results if result.prediction and not result.prediction.refused]
    counts = Counter(answer.label for answer in answers if answer.confident)
    unsure = sum(not answer.confident for answer in answers)
    parts = [f"**{formatting.class_markdown(name)}** {counts[name]:,}" for name in model.classes]
    st.markdown(
        f"{formatting.plural(len(results), 'file')}: {', '.join(parts)}; **not confident** {unsure:,}; **without an answer** "
        f"{len(results) - len(answers):,}. {batch.seconds:.1f} s."
    )
    wanted = (
        st.pills(
            "Show",
            list(FILTERS),
            default=ALL,
            format_func=FILTERS.__getitem__,
            key="batch-filter",
            persist_state="session",
        )
        or ALL
    )
    positions = [position for position, result in enumerate(results) if _matches(result, wanted)]
    shown = [results[position] for position in positions]
    if not shown:
        st.caption("There is no such file.")
        return None
    share = st.column_config.ProgressColumn(min_value=0, max_value=1, format="percent", width=130)
    shares = {formatting.class_title(name): share for name in model.classes}
    table = prediction_export.table(model, shown).rename(
        columns={name: formatting.class_title(name) for name in model.classes}
    )
    table["answer"] = [_short(*pair) for pair in zip(table["answer"], table["nearest"], strict=True)]
    table.insert(0, "image", [_thumbnail(result) for result in shown])
    picked = st.dataframe(
        table[["image", "file", "answer", *(["alike"] if others else []), *shares, "remarks"]],
        hide_index=True, key=f"batch-{wanted}", on_select="rerun",
        selection_mode="single-row", row_height=56, height=min(600, 60 + 56 * len(shown)),
        column_config={
            "image": st.column_config.ImageColumn("", width=56), "file": st.column_config.TextColumn("File", width=150),
            "answer": st.column_config.TextColumn("Prediction", width=140),
            "alike": st.column_config.TextColumn("Agreeing", width=100, help="Second opinions of the same class."),
            "remarks": st.column_config.TextColumn("Findings", width=200),
            **shares,
        },
        alt="Answers by file",
    )  # fmt: skip
    st.caption(f"Decision rule: {formatting.verbatim(formatting.decision_rule(model.rule))}.")
    with st.container(horizontal=True):
        st.download_button(
            "All answers as CSV", prediction_export.csv(model, results, others), "predictions.csv", "text/csv",
            icon=":material/download:", on_click="ignore",
        )  # fmt: skip
        st.download_button(
            "All answers as a report", lambda: prediction_export.html(model, results, others), "predictions.html",
            "text/html", icon=":material/description:", on_click="ignore",
            help="One file with all images and answers; works without internet and on paper.",
        )  # fmt: skip
    st.caption("Choose a row to see its image with the heatmap.")
    rows = [row for row in picked.selection.rows if row < len(shown)]
    return positions[rows[0]] if rows else None


def _short(answer: str, nearest: str) -> str:
    """An answer in a few words, the telling ones first: a phone shows no more."""
    if answer == prediction_export.UNSURE:
        return f"Not confident ({formatting.class_title(nearest).lower()}?)"
    return {prediction_export.REFUSED: "Refused", prediction_export.UNREADABLE: "Unreadable"}.get(
        answer
    ) or formatting.class_title(answer)


def _matches(result: Result, wanted: str) -> bool:
    answer = result.prediction
    return {
        ALL: True,
        UNSURE: answer is not None and not answer.confident and not answer.refused,
        ODD: answer is not None and bool(answer.findings),
        NONE: answer is None or answer.refused,
    }[wanted]


def _thumbnail(result: Result) -> str:
    if result.small is None:
        return ""
    content = images.encode(images.prepare(result.small, 96), quality=75)
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
