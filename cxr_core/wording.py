"""Words that pages, command line and endpoint say alike."""

DISCLAIMER = "Research software, not a medical device. Nothing it shows may guide the care of a patient."


def plural(count: int, noun: str) -> str:
    """'1 image', '5,856 images'."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
