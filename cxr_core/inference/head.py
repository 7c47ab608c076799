"""The end of a network in plain arrays: what comes after its last features, and the attribution map of a class.

    features (h, w, c) ── flattened or averaged ──► dense (ReLU) … ──► dense ──► softmax

A score before the softmax is a sum over places plus what the biases give, as long as every ReLU stays on its side. So the map
of `attribution` is no estimate: it is that sum, place by place (HiResCAM: features times the score's gradient, Draelos and
Carin, "Use HiResCAM instead of Grad-CAM", 2020, arXiv 2011.08891).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr_core import checksums, workspace
from cxr_core.arrays import softmax
from cxr_core.errors import DamagedFile

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Head:
    """Dense layers over the features of a network.

    Attributes:
        averaged: whether features are averaged over places first; else they are flattened.
        weights: one float32 (inputs, outputs) per layer; all but the last are followed by ReLU, the last by softmax.
        biases: one float32 (outputs,) per layer.
    """

    averaged: bool
    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]

    def scores(self, features: Floats) -> npt.NDArray[np.float64]:
        """Scores before the softmax, float64 (n, classes), of features float32 (n, h, w, c)."""
        return self._layers(features)[-1]

    def probabilities(self, features: Floats) -> npt.NDArray[np.float64]:
        """float64 (n, classes), rows summing to 1, of features float32 (n, h, w, c)."""
        return softmax(self.scores(features))

    def attribution(self, features: Floats, label: int) -> npt.NDArray[np.float64]:
        """HiResCAM attribution map: what each place adds to the score of one class, before the softmax.

        Args:
            features: float32 (h, w, c), of one image.
            label: number of the class.

        Returns:
            float64 (h, w), of either sign. Its sum and `constant` are the score.
        """
        gradient, _ = self._gradient(features, label)
        places = features.shape[0] * features.shape[1]
        gradient = gradient / places if self.averaged else gradient.reshape(features.shape)
        attribution: npt.NDArray[np.float64] = (features.astype(np.float64) * gradient).sum(axis=-1)
        return attribution

    def constant(self, features: Floats, label: int) -> float:
        """The part of one class's score that comes from the biases, from no place."""
        return self._gradient(features, label)[1]

    def _gradient(self, features: Floats, label: int) -> tuple[npt.NDArray[np.float64], float]:
        """The gradient of a class's score with respect to the first layer's input, and the part of it that biases make."""
        *hidden, _ = self._layers(features[None])
        gradient = self.weights[-1][:, label].astype(np.float64)
        constant = float(self.biases[-1][label])
        for weights, bias, before in zip(self.weights[-2::-1], self.biases[-2::-1], hidden[::-1], strict=True):
            gradient = np.where(before[0] > 0, gradient, 0.0)
            constant += float(gradient @ bias)
            gradient = (weights @ gradient.astype(np.float32)).astype(np.float64)
        return gradient, constant

    def _layers(self, features: Floats) -> list[npt.NDArray[np.float64]]:
        """Outputs of each layer before its ReLU or softmax, float64 (n, outputs)."""
        x = features.mean(axis=(1, 2)) if self.averaged else features.reshape(len(features), -1)
        outputs: list[npt.NDArray[np.float64]] = []
        for weights, bias in zip(self.weights, self.biases, strict=True):
            inputs = np.maximum(outputs[-1], 0).astype(np.float32) if outputs else x
            outputs.append((inputs @ weights + bias).astype(np.float64))
        return outputs

    def save(self, path: Path) -> None:
        """Write it whole to a .npz file.

        Raises:
            WorkFailed: the disk is full or cannot be written.
        """
        arrays: dict[str, npt.NDArray[Any]] = {"averaged": np.array(self.averaged)}
        arrays |= {f"weights{index}": weights for index, weights in enumerate(self.weights)}
        arrays |= {f"bias{index}": bias for index, bias in enumerate(self.biases)}
        workspace.write_bytes(path, checksums.write_archive(arrays))

    @classmethod
    def load(cls, path: Path) -> "Head":
        """Read what `save` wrote.

        Raises:
            DamagedFile: its content is not what `save` wrote.
            WorkFailed: the file is missing or cannot be read.
        """
        content = workspace.read_bytes(path)
        try:
            arrays = checksums.read_archive(content)
            count = sum(name.startswith("bias") for name in arrays)
            weights = tuple(arrays[f"weights{number}"] for number in range(count))
            biases = tuple(arrays[f"bias{number}"] for number in range(count))
            return cls(bool(arrays["averaged"]), weights, biases)
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedFile(f"{path} is damaged.") from error
