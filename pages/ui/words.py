"""Numbers and names as people read them."""

from collections.abc import Sequence

from cxr_core import wording
from cxr_core.evaluation.scorecard import Figure

SPLITS = {"train": "Training", "val": "Validation", "test": "Test"}
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

plural = wording.plural


def split(name: str) -> str:
    return SPLITS.get(name, name)


def label(name: str) -> str:
    """A class's title; other datasets' classes are shown by their own name."""
    return CLASSES.get(name, name.replace("_", " ").capitalize())


def ending(name: str, most: int = 44) -> str:
    """A long name by its end, where names of a set differ."""
    return name if len(name) <= most else "…" + name[1 - most :]


def percent(value: float | None) -> str:
    """0.8125 as '81.2 %'; a figure that is not defined as a dash."""
    return "–" if value is None else f"{100 * value:.1f} %"


def interval(pair: Sequence[float] | None) -> str:
    """A 95 % interval of shares: '78.0 to 84.1 %'."""
    return "" if pair is None else f"{100 * pair[0]:.1f} to {100 * pair[1]:.1f} %"


def figure(one: Figure, *, share: bool = True) -> str:
    """A figure with its 95 % interval: '81.2 % (78.0 to 84.1 %)', or '0.312 (0.290 to 0.334)'."""
    if one.value is None:
        return "–"
    if share:
        return percent(one.value) + (f" ({interval(one.interval)})" if one.interval else "")
    return f"{one.value:.3f}" + (f" ({one.low:.3f} to {one.high:.3f})" if one.interval else "")


def apart(one: Figure, *, share: bool = True) -> str:
    """A difference with its 95 % interval: '+2.1 points (-0.4 to +4.6)'."""
    if one.value is None:
        return "–"
    scale, digits, unit = (100, 1, " points") if share else (1, 3, "")
    told = f"{scale * one.value:+.{digits}f}{unit}"
    if one.interval is None:
        return told
    return told + f" ({scale * one.interval[0]:+.{digits}f} to {scale * one.interval[1]:+.{digits}f})"


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
