"""Answers to many images as a table, a CSV file, or one HTML page to keep and to print."""

import base64
import math
from collections.abc import Sequence
from html import escape

import pandas as pd

from cxr_core import csv_export, images
from cxr_core.evaluation import decision_metrics, prediction_set
from cxr_core.evaluation.intervals import wilson
from cxr_core.formatting import DISCLAIMER, interval, percent, plural
from cxr_core.inference.predict import LoadedModel, Result

UNSURE, REFUSED, UNREADABLE = "unsure", "refused", "unreadable"
NO_ANSWER = (UNSURE, REFUSED, UNREADABLE)
_THUMBNAIL = 128


def table(panel: LoadedModel, results: Sequence[Result]) -> pd.DataFrame:
    """One row a file.

    Returns:
        file, answer (a class, or one of NO_ANSWER), nearest (the class even if it is unsure), then one column per class with its
        calibrated probability, alike (how many second opinions name the same class, as '1 of 2'; empty where none was asked),
        remarks (or why there is no answer), width and height in pixels (0 if it could not be read).
    """
    return pd.DataFrame(
        [_row(panel, one) for one in results],
        columns=["file", "answer", "nearest", *panel.classes, "alike", "remarks", "width", "height"],
    )


def csv(panel: LoadedModel, results: Sequence[Result], others: Sequence[LoadedModel] = ()) -> bytes:
    """The table as CSV that is safe to open in a spreadsheet, with the run and its decision rule.

    Args:
        others: who gave the second opinions.
    """
    told = table(panel, results).assign(
        most_probable=["" if one.answer is None or one.answer.refused else one.answer.most_probable for one in results],
        run=panel.run.id,
        second_opinions=", ".join(one.run.id for one in others),
        confident=["" if one.answer is None or one.answer.refused else _yes(one.answer.confident) for one in results],
        calibrated=_yes(panel.rule.is_calibrated),
        decision_rule=panel.rule.describe(),
        operating_point=panel.rule.describe() if panel.rule.threshold is not None else "",
        note=f"{DISCLAIMER} {panel.notice}".strip(),
    )
    return csv_export.csv(told)


def html(panel: LoadedModel, results: Sequence[Result], others: Sequence[LoadedModel] = ()) -> bytes:
    """One page with a thumbnail, the answer and its probabilities for each file; needs no internet. `others` as in `csv`."""
    good = "Its accuracy on test images is not known."
    if "test" in panel.run.metrics:
        counts = decision_metrics.count(prediction_set.read(panel.run.id, "test"), panel.rule)
        (right, n), (confident, _) = counts["accuracy_all"], counts["coverage"]
        good = (
            f"Of {n:,} test images of '{panel.run.config.data}' it got {percent(right / n)} right "
            f"(95 % interval {interval(wilson(right, n))}); it was confident of {confident:,} of them."
        )
    good += f" Decision rule: {panel.rule.describe()}."
    if others:
        good += f" Second opinions by {', '.join(one.run.name or one.run.id for one in others)}."
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", "File", "Answer", *panel.classes, "Remarks"))
    body = "".join(_html_row(panel, one) for one in results)
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Predictions</title><style>{_STYLE}</style>
<h1>Predictions for {plural(len(results), "file")}</h1><p class="warn">{escape(DISCLAIMER)}</p>
<p>Answered by {escape(panel.run.name or panel.run.id)}. {escape(good)} Probabilities are {
        "calibrated on validation images" if panel.rule.is_calibrated else "those of the network itself, not calibrated"
    }. {escape(panel.notice)}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></html>""".encode()


_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #14242e; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
.warn { border-left: 4px solid #b26a00; background: #fff6e5; padding: .6rem .9rem; font-weight: 600; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .4rem .6rem; border-bottom: 1px solid #d5dfe4; }
td { overflow-wrap: break-word; } td:nth-child(2) { min-width: 9rem; }
 img { width: 64px; height: 64px; object-fit: cover; background: #000; display: block; }
thead { display: table-header-group; } tr { break-inside: avoid; }
.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
"""


def _yes(so: bool) -> str:
    return "yes" if so else "no"


def _row(panel: LoadedModel, one: Result) -> list[object]:
    size, nothing = [one.width, one.height], [*[math.nan] * len(panel.classes), ""]
    if one.answer is None:
        return [one.name, UNREADABLE, "", *nothing, one.problem, *size]
    told = " ".join(remark.text for remark in one.answer.remarks)
    if one.answer.refused:
        return [one.name, REFUSED, "", *nothing, told, *size]
    label, alike = one.answer.label, f"{one.alike} of {len(one.opinions)}" if one.opinions else ""
    return [
        one.name,
        label if one.answer.confident else UNSURE,
        label,
        *one.answer.calibrated.values(),
        alike,
        told,
        *size,
    ]


def _html_row(panel: LoadedModel, one: Result) -> str:
    name, answer, nearest, *rest = _row(panel, one)
    shares, (alike, remarks, *_) = rest[: len(panel.classes)], rest[len(panel.classes) :]
    picture = ""
    if one.small is not None:
        content = images.encode(images.prepare(one.small, _THUMBNAIL), quality=80)
        picture = f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(content).decode()}">'
    called = escape(f"{answer}, nearest {nearest}" if answer == UNSURE else str(answer))
    called += f" ({alike} others alike)" if alike else ""
    cells = "".join(
        f'<td class="number">{"" if isinstance(share, float) and math.isnan(share) else f"{share:.1%}"}</td>'
        for share in shares
    )
    return f"<tr><td>{picture}</td><td>{escape(str(name))}</td><td>{called}</td>{cells}<td>{escape(str(remarks))}</td></tr>"
