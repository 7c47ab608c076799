"""What models there are, as plain data: read by pages and the command line without Keras.

A model is one builder file beside this one and one entry here; `registry.py` finds the builder by the model's name.
"""

from dataclasses import dataclass

from cxr_core.errors import UnknownName


@dataclass(frozen=True)
class Model:
    """One architecture.

    Attributes:
        title: as the literature writes it.
        summary: one sentence for a newcomer.
        parameters: trainable ones, at 180 × 180 pixels and three classes.
        gflops: multiply-adds of one forward pass of one image, × 2, in 10⁹, at 180 × 180 pixels.
        recipes: names of the recipes that fit, the usual one first.
        layers: (kind, what it does) from input to output, for a table.
    """

    name: str
    title: str
    summary: str
    parameters: int
    gflops: float
    recipes: tuple[str, ...]
    layers: tuple[tuple[str, str], ...]


MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model(
            name="custom_cnn",
            title="Custom CNN",
            summary="The paper's own small network, trained from nothing: convolution, pooling and batch normalisation, "
            "then two dense layers.",
            parameters=655_875,
            gflops=0.285,
            recipes=("paper",),
            layers=(
                ("Rescaling", "0-255 to 0-1"),
                ("5 × Conv2D, MaxPooling2D, BatchNormalization", "3 × 3 filters, ReLU; 16, 32, 64, 128, 128 channels"),
                ("Flatten", "5 × 5 × 128 to 3,200 numbers"),
                ("Dense 128, Dropout", "ReLU"),
                ("Dense", "softmax over the classes"),
            ),
        ),
    )
}


def get(name: str) -> Model:
    """One model of the catalogue.

    Raises:
        UnknownName: lists the known ones.
    """
    if name not in MODELS:
        raise UnknownName("model", name, MODELS)
    return MODELS[name]
