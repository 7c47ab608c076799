"""Predictions for many images as a table, a CSV file, or one HTML page to keep and to print."""

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


def table(model: LoadedModel, results: Sequence[Result]) -> pd.DataFrame:
    """One row a file.

    Returns:
        file, answer (a class, or one of NO_ANSWER), nearest (the class even if it is unsure), then one column per class with its
        calibrated probability, alike (how many second opinions name the same class, as '1 of 2'; empty where none was asked),
        remarks (or why there is no answer), width and height in pixels (0 if it could not be read).
    """
    return pd.DataFrame(
        [_row(model, result) for result in results],
        columns=["file", "answer", "nearest", *model.classes, "alike", "remarks", "width", "height"],
    )


def csv(model: LoadedModel, results: Sequence[Result], others: Sequence[LoadedModel] = ()) -> bytes:
    """The table as CSV that is safe to open in a spreadsheet, with the run and its decision rule.

    Args:
        others: the models that gave the second opinions.
    """
    answered = [None if (given := result.prediction) is None or given.refused else given for result in results]
    frame = table(model, results).assign(
        most_probable=["" if prediction is None else prediction.most_probable for prediction in answered],
        run=model.run.id,
        second_opinions=", ".join(other.run.id for other in others),
        confident=["" if prediction is None else _yes(prediction.confident) for prediction in answered],
        calibrated=_yes(model.rule.is_calibrated),
        decision_rule=model.rule.describe(),
        operating_point=model.rule.describe() if model.rule.threshold is not None else "",
        note=f"{DISCLAIMER} {model.notice}".strip(),
    )
    return csv_export.csv(frame)


def html(model: LoadedModel, results: Sequence[Result], others: Sequence[LoadedModel] = ()) -> bytes:
    """One page with a thumbnail, the answer and its probabilities for each file; needs no internet. `others` as in `csv`."""
    quality = "Its accuracy on test images is not known."
    if "test" in model.run.metrics:
        counts = decision_metrics.count(prediction_set.read(model.run.id, "test"), model.rule)
        (right, n), (confident, _) = counts["accuracy_all"], counts["coverage"]
        quality = (
            f"Of {n:,} test images of '{model.run.config.data}' it got {percent(right / n)} right "
            f"(95 % interval {interval(wilson(right, n))}); it was confident of {confident:,} of them."
        )
    quality += f" Decision rule: {model.rule.describe()}."
    if others:
        quality += f" Second opinions by {', '.join(other.run.name or other.run.id for other in others)}."
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", "File", "Answer", *model.classes, "Remarks"))
    body = "".join(_html_row(model, result) for result in results)
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><title>Predictions</title><style>{_STYLE}</style>
<h1>Predictions for {plural(len(results), "file")}</h1><p class="warn">{escape(DISCLAIMER)}</p>
<p>Answered by {escape(model.run.name or model.run.id)}. {escape(quality)} Probabilities are {
        "calibrated on validation images" if model.rule.is_calibrated else "those of the network itself, not calibrated"
    }. {escape(model.notice)}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></html>""".encode()


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


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _row(model: LoadedModel, result: Result) -> list[object]:
    size, nothing = [result.width, result.height], [*[math.nan] * len(model.classes), ""]
    prediction = result.prediction
    if prediction is None:
        return [result.name, UNREADABLE, "", *nothing, result.problem, *size]
    findings = " ".join(finding.text for finding in prediction.findings)
    if prediction.refused:
        return [result.name, REFUSED, "", *nothing, findings, *size]
    label, agreeing = prediction.label, f"{result.agreeing} of {len(result.opinions)}" if result.opinions else ""
    answer = label if prediction.confident else UNSURE
    return [result.name, answer, label, *prediction.calibrated.values(), agreeing, findings, *size]


def _html_row(model: LoadedModel, result: Result) -> str:
    name, answer, nearest, *rest = _row(model, result)
    shares, (agreeing, findings, *_) = rest[: len(model.classes)], rest[len(model.classes) :]
    thumbnail = ""
    if result.small is not None:
        content = images.encode(images.prepare(result.small, _THUMBNAIL), quality=80)
        thumbnail = f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(content).decode()}">'
    words = escape(f"{answer}, nearest {nearest}" if answer == UNSURE else str(answer))
    words += f" ({agreeing} others agree)" if agreeing else ""
    cells = "".join(
        f'<td class="number">{"" if isinstance(share, float) and math.isnan(share) else f"{share:.1%}"}</td>'
        for share in shares
    )
    return f"<tr><td>{thumbnail}</td><td>{escape(str(name))}</td><td>{words}</td>{cells}<td>{escape(str(findings))}</td></tr>"
