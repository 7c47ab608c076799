"""A dataset of phantoms, written as files, so that it takes the same way as a real one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from cxr_core import images as image_codec
from cxr_core import process, workspace
from cxr_core.data.phantoms import CLASSES, draw_body, phantom
from cxr_core.data.progress import Progress, no_progress
from cxr_core.data.seeds import check_seed
from cxr_core.errors import BadInput

CITATION = "Synthetic phantoms drawn by this software, for trying it out. They show no patient."
_SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
_PER_PATIENT = 2
_CHUNK = 32
Plan = tuple[str, list[int], list[int]]  # path, seed of the body, seed of the image


def write(folder: Path, *, images: int, seed: int, progress: Progress = no_progress) -> None:
    """Draw phantoms, a third of each class, two a patient, into `folder/{train,val,test}/<class>/`.

    The same seed and number give the same bytes on the same machine, however many cores draw them.

    Raises:
        BadInput: fewer than 30 images, which would leave a class without an image in some split; a seed out of range.
    """
    if images < 30:
        raise BadInput(f"A synthetic dataset has at least 30 images. Received: {images}.")
    check_seed(seed)
    plans = _plan(images, seed)
    for label in CLASSES:
        for split in _SHARES:
            workspace.ensure_dir(folder / split / label)
    chunks = [plans[start : start + _CHUNK] for start in range(0, len(plans), _CHUNK)]
    done = 0
    with workspace.writing(), process.process_pool() as pool:
        for count in pool.map(_draw, [folder] * len(chunks), chunks):
            done += count
            progress("Drawing phantoms", done, images)


def _plan(images: int, seed: int) -> list[Plan]:
    plans: list[Plan] = []
    for kind, label in enumerate(CLASSES):
        total = images // 3 + (kind < images % 3)
        val, test = round(total * _SHARES["val"]), round(total * _SHARES["test"])
        number = 0
        for part, (split, count) in enumerate(zip(_SHARES, (total - val - test, val, test), strict=True)):
            for position in range(count):
                patient = position // _PER_PATIENT
                path = f"{split}/{label}/synthetic-p{patient:04d}-{position % _PER_PATIENT}.jpeg"
                plans.append((path, [seed, kind, part, patient], [seed, kind, part, patient, number]))
                number += 1
    return plans


@threadpool_limits.wrap(limits=1)  # one process per core: more threads than that only get in each other's way
def _draw(folder: Path, plans: Sequence[Plan]) -> int:
    for path, body_seed, image_seed in plans:
        body = draw_body(np.random.default_rng(body_seed))
        pixels = phantom(path.split("/")[1], np.random.default_rng(image_seed), body=body)
        (folder / path).write_bytes(image_codec.encode(pixels))
    return len(plans)
