"""Make the classes of the training images weigh the same. A manifest keeps what came of it."""

import zlib

import numpy as np
import pandas as pd

STRATEGIES = {
    "none": "Every training image once, as it is.",
    "undersample": "Training images of the larger classes are left out at random until all classes are as small as the smallest.",
    "oversample": "Training images of the smaller classes are repeated until all classes are as large as the largest.",
    "augment": "As oversample, but each repeat is a changed view: rotated, shifted, zoomed, lit differently.",
    "class_weights": "Every training image once; those of rarer classes weigh more in the loss.",
}


def balance(table: pd.DataFrame, strategy: str, seed: int) -> pd.DataFrame:
    """The rows of a plan (see manifest_rows.py), those of train drawn, repeated or weighed by a key of STRATEGIES.

    The same rows, strategy and seed give the same answer. Val and test stay as they are.
    """
    in_train = (table["split"] == "train").to_numpy()
    rows_of = {
        label: np.flatnonzero(in_train & (table["class"] == label)) for label in sorted(set(table["class"][in_train]))
    }
    if strategy == "none" or not rows_of:
        return table
    sizes = {label: len(positions) for label, positions in rows_of.items()}
    if strategy == "class_weights":
        weights = table["weight"].to_numpy(copy=True)
        for label, positions in rows_of.items():
            weights[positions] = sum(sizes.values()) / (len(sizes) * sizes[label])
        return table.assign(weight=weights)
    rng = np.random.default_rng([seed, 1])
    if strategy == "undersample":
        fewest = min(sizes.values())
        kept = np.concatenate([rng.permutation(positions)[:fewest] for positions in rows_of.values()])
        return table.iloc[np.sort(np.concatenate([np.flatnonzero(~in_train), kept]))].reset_index(drop=True)
    most = max(sizes.values())
    repeats = pd.concat(
        [_repeats(table.iloc[rng.permutation(positions)], most - len(positions)) for positions in rows_of.values()]
    )
    if strategy == "augment":
        keys = repeats["path"] + "/" + repeats["copy"].astype(str) + f"/{seed}"
        repeats["view"] = [zlib.crc32(key.encode()) | 1 for key in keys]
    return pd.concat([table, repeats], ignore_index=True)


def _repeats(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """The first `count` of the rows, over and over, numbered as copies."""
    turn = np.arange(count)
    return rows.iloc[turn % len(rows)].assign(copy=turn // len(rows) + 1)
