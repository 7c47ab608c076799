"""A whole dataset of phantoms, written as files, so that it takes the same way as a real one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from cxr_core import images, process
from cxr_core.data import anatomy, phantoms
from cxr_core.data.progress import Progress, no_progress
from cxr_core.errors import BadInput

_SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
_PER_PATIENT = 2
_CHUNK = 32
Plan = tuple[str, str, int, int, int]  # path, class, seed, patient, image number


def write(folder: Path, *, images: int, seed: int, progress: Progress = no_progress) -> None:
    """Draw `images` phantoms, a third of each class, two a patient, into `folder/{train,val,test}/<class>/`.

    The same seed and number give the same bytes on the same machine, however many cores draw them.

    Raises:
        BadInput: fewer than 30 images, which would leave a class without an image in some split.
    """
    if images < 30:
        raise BadInput(f"A synthetic dataset has at least 30 images. Received: {images}.")
    plans = _plan(images, seed)
    chunks = [plans[start : start + _CHUNK] for start in range(0, len(plans), _CHUNK)]
    for _, label, *_ in plans:
        for split in _SHARES:
            (folder / split / label).mkdir(parents=True, exist_ok=True)
    folders = [folder] * len(chunks)
    done = 0
    with process.process_pool() as pool:
        for drawn in pool.map(_draw, folders, chunks):
            done += drawn
            progress("Drawing phantoms", done, images)


def _plan(count: int, seed: int) -> list[Plan]:
    plans: list[Plan] = []
    per_class = [count // 3 + (place < count % 3) for place in range(3)]
    for label, total in zip(phantoms.CLASSES, per_class, strict=True):
        val, test = round(total * _SHARES["val"]), round(total * _SHARES["test"])
        splits = ["train"] * (total - val - test) + ["val"] * val + ["test"] * test
        for number, split in enumerate(splits):
            first = splits.index(split)
            patient = (number - first) // _PER_PATIENT
            path = f"{split}/{label}/synthetic-p{patient:04d}-{(number - first) % _PER_PATIENT}.jpeg"
            plans.append((path, label, seed, patient, number))
    return plans


@threadpool_limits.wrap(limits=1)  # one process per core: more threads than that only get in each other's way
def _draw(folder: Path, plans: Sequence[Plan]) -> int:
    for path, label, seed, patient, number in plans:
        kind = phantoms.CLASSES.index(label)
        split = list(_SHARES).index(path.split("/", 1)[0])
        patient_body = anatomy.body(np.random.default_rng([seed, kind, split, patient]))
        pixels = phantoms.phantom(label, np.random.default_rng([seed, kind, split, patient, number]), body=patient_body)
        (folder / path).write_bytes(images.encode(pixels))
    return len(plans)
