"""Published networks without their own classifier, from `keras.applications`, each with the input it was made for.

input   float32 (N, S, S, 3) in 0..255, three equal channels
output  features, float32 (N, h, w, c)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from cxr_core.models import layers


@dataclass(frozen=True)
class Published:
    """A constructor of `keras.applications` and x ↦ (x - mean) / deviation per channel, its input of pixels in 0..255.

    `mean` is None where the network itself scales its input.
    """

    constructor: str
    mean: tuple[float, float, float] | None = None
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)


# `keras.applications.imagenet_utils`: "caffe" takes blue, green, red less ImageNet's means (with three equal channels only
# the order of the means matters), "tf" -1 to 1, "torch" 0 to 1 by ImageNet's means and deviations.
_CAFFE: dict[str, Any] = {"mean": (103.939, 116.779, 123.68)}
_TF: dict[str, Any] = {"mean": (127.5,) * 3, "deviation": (127.5,) * 3}
_TORCH: dict[str, Any] = {"mean": (123.675, 116.28, 103.53), "deviation": (58.395, 57.12, 57.375)}

PUBLISHED: dict[str, Published] = {
    "vgg16": Published("VGG16", **_CAFFE),
    "vgg19": Published("VGG19", **_CAFFE),
    "resnet50": Published("ResNet50", **_CAFFE),
    "resnet152": Published("ResNet152", **_CAFFE),
    "resnet152v2": Published("ResNet152V2", **_TF),
    "densenet121": Published("DenseNet121", **_TORCH),
    "inceptionv3": Published("InceptionV3", **_TF),
    "efficientnetv2b0": Published("EfficientNetV2B0"),
    "convnext_tiny": Published("ConvNeXtTiny"),
}


def backbone(name: str, size: int | None, scaling: str, *, weights: str | None = None) -> keras.Model:
    """The network `name`, flat.

    Args:
        name: of PUBLISHED.
        size: side of the input in pixels; None takes any.
        scaling: of `catalogue.SCALINGS`; STANDARD gives each image the mean and spread that ImageNet's photographs have.
        weights: "imagenet" lets Keras fetch them; None is random.
    """
    published = PUBLISHED[name]
    inputs, x = layers.pretrained_input(size, scaling, mean=published.mean, deviation=published.deviation)
    build: Callable[..., keras.Model] = getattr(keras.applications, published.constructor)
    return _flat(build(include_top=False, weights=weights, input_tensor=x), inputs, name)


def _flat(model: keras.Model, inputs: Any, name: str) -> keras.Model:
    """The same network with the layers of any model inside it (ConvNeXt has some) in one graph, and the same weights."""
    if not any(isinstance(layer, keras.Model) for layer in model.layers):
        return keras.Model(inputs, model.output, name=name)

    def fresh(layer: Any) -> Any:
        if isinstance(layer, keras.Model):
            return layer
        settings = layer.get_config()
        if settings["name"].startswith("layer_normalization"):  # named by how many there were before it
            settings["name"] = "last_norm"
        return type(layer).from_config(settings)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(layer, keras.Model):
            return layer(*args, **kwargs)
        x = args[0]
        for inner in layer.layers:
            if not isinstance(inner, keras.layers.InputLayer):
                x = fresh(inner)(x)
        return x

    flat = keras.models.clone_model(model, clone_function=fresh, call_function=call)
    flat.set_weights(model.get_weights())
    return keras.Model(flat.inputs[0], flat.outputs[0], name=name)
