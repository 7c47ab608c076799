"""Words, counts and shares as pages, command line, endpoint and report say them alike."""

from collections.abc import Sequence

DISCLAIMER = "Research software, not a medical device. Nothing it shows may guide the care of a patient."


def plain(name: str) -> str:
    """A name that someone else has chosen, without the characters that steer a terminal or cannot be written at all."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in name)


def plural(count: int, noun: str) -> str:
    """'1 image', '5,856 images'."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def percent(value: float | None) -> str:
    """0.8125 as '81.2 %'; a figure that is not defined as a dash."""
    return "–" if value is None else f"{100 * value:.1f} %"


def interval(pair: Sequence[float] | None) -> str:
    """A 95 % interval of shares: '78.0 to 84.1 %'."""
    return "" if pair is None else f"{100 * pair[0]:.1f} to {100 * pair[1]:.1f} %"
