"""Hard negatives: parts of a run's own images, which show no whole chest.

The same images turned and inverted are classes of their own in ood.py; what has nothing to do with X-rays is in
synthetic_negatives.py. Of shuffled pieces, collages, distorted and mixed images none changed what is refused.
"""

import numpy as np

from cxr_core.data.augment import affine, to_pixels
from cxr_core.inference.input_check.synthetic_negatives import Pixels, Random


def crops(greys: Pixels, rng: Random) -> Pixels:
    """A fifth to almost half of each image's side, enlarged and turned by any angle: uint8 (n, S, S) in and out."""
    views = []
    for grey in greys:
        angle, zoom = rng.uniform(-np.pi, np.pi), -rng.uniform(0.55, 0.8)
        right, down = rng.uniform(-0.35, 0.35, 2)
        views.append(to_pixels(affine(grey, angle=angle, right=right, down=down, zoom=zoom, border="nearest")))
    return np.stack(views)
