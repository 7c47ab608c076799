"""Range of the seeds of splits, trainings and synthetic images."""

from cxr_core.errors import BadInput

MAX_SEED = 2**31 - 1


def check_seed(seed: int) -> None:
    """Refuse a seed that lies out of range.

    Raises:
        BadInput: it is negative, or larger than MAX_SEED.
    """
    if not 0 <= seed <= MAX_SEED:
        raise BadInput(f"The seed is a whole number from 0 to {MAX_SEED:,}. Received: {seed}.")
