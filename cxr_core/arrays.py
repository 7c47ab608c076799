"""Array types named by what they hold, and the softmax."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]  # positions in a list, as the code of a class
Counts = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def softmax(logits: npt.ArrayLike) -> Floats:
    """(…, k) float64 in [0, 1], summing to 1 over the last axis, of finite logits (…, k)."""
    values = np.asarray(logits, dtype=np.float64)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return shares
