"""The file as a whole. What is interactive comes from plotly.js, which is written into it; all a reader must know is text too."""

import time
from collections.abc import Sequence

from plotly.offline import get_plotlyjs

from cxr_core import __version__, formatting, html_templates
from cxr_core.data import datasets
from cxr_core.errors import BadInput, CxrError
from cxr_core.evaluation import metrics, prediction_set
from cxr_core.evaluation.report import comparison_section, run_section
from cxr_core.runs import run_store as runs

LIMITS = (
    "Metrics hold for images of the same kind as the ones tested; other hospitals, ages and devices may give others.",
    "Intervals express the chance of which images were in the split, not wrong labels.",
    "A network may use traits of the files instead of the lungs; see the results by group.",
    "The test split is for reporting: epoch, temperature and thresholds are chosen on validation images.",
)
_SPLITS = {"train": "training", "val": "validation", "shifted": "perturbed validation", "test": "test"}


def html(run_ids: Sequence[str], *, split: str = "test", title: str = "") -> str:
    """The whole file as text.

    Args:
        run_ids: one run, or several to compare.
        split: whose images are reported.

    Raises:
        UnknownName: no such run, or it has no predictions for the split.
        BadInput: no run.
    """
    ids = list(dict.fromkeys(run_ids))
    if not ids:
        raise BadInput("A report is about at least one run. Name one.")
    members = [(run, prediction_set.read(run.id, split)) for run in map(runs.get, ids)]
    several = len(members) > 1
    return html_templates.render(
        __package__,
        "report.html.j2",
        title=title or (f"Comparison of {len(members)} runs" if several else "Report of a run"),
        version=__version__,
        created=time.strftime("%d %B %Y, %H:%M"),
        disclaimer=formatting.DISCLAIMER,
        synthetic=sorted({run.config.data for run, _ in members if _is_synthetic(run.config.data)}),
        split=_SPLITS.get(split, split),
        comparison=comparison_section.context(members) if several else None,
        runs=[
            run_section.context(run, predictions, split, number) for number, (run, predictions) in enumerate(members)
        ],
        descriptions={
            title: metrics.DESCRIPTIONS[name] for name, title in (metrics.PER_CLASS | metrics.TITLES).items()
        },
        limits=LIMITS,
        plotlyjs=get_plotlyjs(),
    )


def _is_synthetic(data: str) -> bool:
    try:
        return datasets.get(data).synthetic
    except CxrError:  # it is gone
        return False
