"""Numbers and names as people read them."""

import re

from cxr_core import wording
from cxr_core.evaluation import metrics
from cxr_core.evaluation.fitted import Point

SPLITS = {"train": "Training", "val": "Validation", "shifted": "Validation, shifted", "test": "Test"}
CLASSES = {"normal": "Normal", "viral": "Viral pneumonia", "bacterial": "Bacterial pneumonia"}
SPLIT_RULES = {"official": "As the source has it", "patient": "A new one, patient by patient"}
STATES = {  # words, icon, badge colour
    "queued": ("Queued", ":material/schedule:", "gray"),
    "running": ("Running", ":material/progress_activity:", "blue"),
    "finished": ("Finished", ":material/check_circle:", "green"),
    "stopped": ("Stopped", ":material/stop_circle:", "orange"),
    "failed": ("Failed", ":material/error:", "red"),
    "interrupted": ("Interrupted", ":material/power_off:", "red"),
}

plural, percent, interval = wording.plural, wording.percent, wording.interval
figure, apart = metrics.describe, metrics.describe_difference


def split(name: str) -> str:
    return SPLITS.get(name, name)


def label(name: str) -> str:
    """A class's title; other datasets' classes are shown by their own name."""
    return CLASSES.get(name, name.replace("_", " ").capitalize())


def verbatim(name: str) -> str:
    """A name that someone else has chosen, for Markdown: no link, image, colour or formula comes of it."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|:$~-])", r"\\\1", name)


def point(kept: Point) -> str:
    """An operating point: 'viral pneumonia or bacterial pneumonia from 81.0 % on (finds at least 95 % of them …)'."""
    return kept.told(lambda name: label(name).lower())


def ending(name: str, most: int = 44) -> str:
    """A long name by its end, where names of a set differ."""
    return name if len(name) <= most else "…" + name[1 - most :]


def start(name: str, most: int) -> str:
    """A long name by its beginning."""
    return name if len(name) <= most else name[: most - 1] + "…"


def points(share: float) -> str:
    """A difference of shares: '+2.1 points', '−3.2 points'."""
    return f"{100 * share:+.1f} points".replace("-", "−")


def duration(seconds: float) -> str:
    """'45 s', '3 min 20 s', '1 h 05 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def roughly(seconds: float) -> str:
    """A time that is only estimated: '40 s', '19 min', '2.5 h'."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
