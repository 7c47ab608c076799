"""Counts as people read them."""


def plural(count: int, noun: str) -> str:
    """'1 image', '5,856 images'."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
