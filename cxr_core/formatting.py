"""Words, counts, shares and times as pages, command line, endpoint and report write them."""

import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Literal, Protocol

DISCLAIMER = "Research software, not a medical device. Nothing it shows may guide the care of a patient."

SPLITS = {"train": "Training", "val": "Validation", "shifted": "Validation, perturbed", "test": "Test"}
CLASSES = {"normal": "Normal", "viral": "Viral pneumonia", "bacterial": "Bacterial pneumonia"}
SPLIT_RULES = {"official": "Official, as in the source", "patient": "New, patient-wise"}
BadgeColour = Literal["blue", "gray", "green", "orange", "red"]
RUN_STATES: dict[str, tuple[str, str, BadgeColour]] = {  # title, icon, colour
    "queued": ("Queued", ":material/schedule:", "gray"),
    "running": ("Running", ":material/progress_activity:", "blue"),
    "finished": ("Finished", ":material/check_circle:", "green"),
    "stopped": ("Stopped", ":material/stop_circle:", "orange"),
    "failed": ("Failed", ":material/error:", "red"),
    "interrupted": ("Interrupted", ":material/power_off:", "red"),
}

_FOUND_LATER = re.compile(r":(?=//|(?!\d\d:)[\w+/-]+:)|www(?=\.)|@", re.IGNORECASE)
_MARKS = re.compile(r"[\\`*{}\[\]<>#|$~&@]|(?<![^\W_])_|_(?![^\W_])|:(?=[\w/])|^[-+=]|(?<=\s)[-=]")
_NUMBERED = re.compile(r"^(\d{1,9})([.)])")  # else a list


class _Estimate(Protocol):
    """A value with the ends of its 95 % interval; None where not defined."""

    @property
    def value(self) -> float | None: ...
    @property
    def interval(self) -> tuple[float, float] | None: ...


class _DecisionRule(Protocol):
    def describe(self, title: Callable[[str], str]) -> str: ...


def printable(name: str) -> str:
    """A name that someone else has chosen, without the characters that steer a terminal or cannot be written at all."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)


def plural(count: int, noun: str) -> str:
    """'1 image', '5,856 images'."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent(value: float | None) -> str:
    """0.8125 as '81.2 %'; a share that is not defined as a dash."""
    return "–" if value is None else f"{100 * value:.1f} %"


def interval(pair: Sequence[float] | None) -> str:
    """A 95 % interval of shares: '78.0 to 84.1 %'."""
    return "" if pair is None else f"{100 * pair[0]:.1f} to {100 * pair[1]:.1f} %"


def estimate(metric: _Estimate, *, share: bool = True) -> str:
    """A value with its 95 % interval: '81.2 % (78.0 to 84.1 %)', or '0.312 (0.290 to 0.334)'; a dash if undefined."""
    if metric.value is None:
        return "–"
    bounds = metric.interval
    if share:
        return percent(metric.value) + (f" ({interval(bounds)})" if bounds else "")
    return f"{metric.value:.3f}" + (f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else "")


def difference(metric: _Estimate, *, share: bool = True) -> str:
    """A difference with its 95 % interval: '+2.1 points (-0.4 to +4.6)'; a dash if undefined."""
    if metric.value is None:
        return "–"
    scale, digits, unit = (100, 1, " points") if share else (1, 3, "")
    text = f"{scale * metric.value:+.{digits}f}{unit}"
    if metric.interval is None:
        return text
    return text + f" ({scale * metric.interval[0]:+.{digits}f} to {scale * metric.interval[1]:+.{digits}f})"


def split_title(name: str) -> str:
    return SPLITS.get(name, name)


def class_title(name: str) -> str:
    """A class's title; other datasets' classes are shown by their own name."""
    return CLASSES.get(name, name.replace("_", " ").capitalize())


def verbatim(text: str) -> str:
    """Words that a person or a file gave, for Markdown, on one line: they are read as they are, whatever stands in them.

    No link, picture, icon, colour, formula, list or HTML comes of them. Some of that is found after Markdown's own marks are
    read (addresses, and names between colons), so a mark cannot prevent it; there an invisible word joiner stands between.
    """
    line = printable(" ".join(text.split()))
    line = _FOUND_LATER.sub(lambda match: match[0] + "\N{WORD JOINER}", line)
    return _NUMBERED.sub(r"\1\\\2", _MARKS.sub(r"\\\g<0>", line))


def class_markdown(name: str) -> str:
    """`class_title`, for Markdown."""
    return verbatim(class_title(name))


def plot_text(text: str) -> str:
    """Words that a person or a file gave, for a title, name or hover text of plotly: no HTML and no placeholder."""
    return escape(printable(" ".join(text.split())), quote=False).replace("%{", "&#37;{")


def decision_rule(rule: _DecisionRule) -> str:
    """'viral pneumonia or bacterial pneumonia from 81.0 % on (finds at least 95 % of them …)', or 'highest probability'."""
    return rule.describe(lambda name: class_title(name).lower())


def shortened_start(name: str, most: int = 44) -> str:
    """Keep the end of a long name, where names of a set differ."""
    return name if len(name) <= most else "…" + name[1 - most :]


def shortened_end(name: str, most: int) -> str:
    """Keep the beginning of a long name."""
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


def rough_duration(seconds: float) -> str:
    """A time that is only estimated: '40 s', '19 min', '2.5 h'."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
