"""The gate lets X-rays like those of the training through, refuses what is none, and says why."""

import io
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.data import get_testdata_file
from sklearn.datasets import load_sample_images
from sklearn.linear_model import Ridge

from cxr_core import images
from cxr_core.data.phantoms import CLASSES, phantom
from cxr_core.errors import CxrError, WorkFailed
from cxr_core.inference.input_check import ood
from cxr_core.inference.input_check.checks import (
    CheckInput,
    Finding,
    InputCheck,
    basic_findings,
    combine,
    header_findings,
)

Pixels = NDArray[np.uint8]
SIDE = 96


def films(count: int, seed: int) -> Pixels:
    return np.stack([phantom(CLASSES[n % 3], np.random.default_rng((seed, n)), size=SIDE) for n in range(count)])


def fitted(train: Pixels, val: Pixels, *, share: float) -> InputCheck:
    """With a `share` of the usual examples, since they and not the images take the time."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_POSITIVES", "_EACH_TURN", "_CROPS", "_EACH_SYNTHETIC"):
            patch.setattr(ood, name, int(share * getattr(ood, name)))
        return InputCheck.fit(train, val)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> InputCheck:
    """Fitted on 300 phantoms that lie on disk."""
    path = tmp_path_factory.mktemp("gate") / "train.npy"
    np.save(path, films(300, 1))
    return fitted(np.load(path, mmap_mode="r"), films(80, 2), share=0.5)


@pytest.fixture(scope="module")
def unseen() -> Pixels:
    return films(120, 3)


@pytest.fixture(scope="module")
def photographs() -> list[Pixels]:
    """The two of scikit-learn in grey, whole and in parts, on their side and as negatives."""
    whole = [np.asarray(Image.fromarray(one).convert("L")) for one in load_sample_images().images]
    parts = [one[top : top + 210, left : left + 210] for one in whole for top in (0, 210) for left in (0, 210, 420)]
    return [*whole, *parts, *(np.rot90(one) for one in whole), *(255 - one for one in whole)]


def drawn(kind: str) -> Pixels:
    rng = np.random.default_rng(5)
    if kind == "noise":
        return rng.integers(0, 256, (300, 300), dtype=np.uint8)
    if kind == "gradient":
        return np.broadcast_to(np.linspace(0, 255, 300).astype(np.uint8), (300, 300)).copy()
    if kind == "checks":
        return np.kron(np.indices((10, 10)).sum(axis=0) % 2, np.full((30, 30), 255)).astype(np.uint8)
    page = Image.new("L", (300, 300), 250)
    pen = ImageDraw.Draw(page)
    if kind == "text":
        for row in range(8, 290, 14):
            pen.text((10, row), "The lungs are clear. No effusion, no pneumothorax.", fill=20)
    if kind == "chart":
        pen.line((20, 10, 20, 280, 290, 280), fill=0, width=2)
        for place, height in enumerate((60, 120, 90, 200, 150, 30)):
            pen.rectangle((35 + 42 * place, 280 - height, 65 + 42 * place, 280), fill=110)
    if kind == "face":
        pen.ellipse((70, 40, 230, 260), fill=180, outline=30)
        for box in ((110, 110, 135, 125), (165, 110, 190, 125), (125, 200, 175, 215)):
            pen.ellipse(box, fill=40)
    return np.asarray(page)


def refused(gate: InputCheck, pictures: Iterable[Pixels], size: int = SIDE) -> list[bool]:
    return [any(remark.refuses for remark in gate.check(one, size=size)) for one in pictures]


def kinds(remarks: Iterable[Finding]) -> list[str]:
    return [remark.kind for remark in remarks]


def encoded(picture: Image.Image, format: str = "PNG") -> bytes:
    out = io.BytesIO()
    picture.save(out, format=format)
    return out.getvalue()


@pytest.mark.slow
def test_unseen_phantoms_pass(gate: InputCheck, unseen: Pixels) -> None:
    remarks = [gate.check(one, size=SIDE) for one in unseen]
    assert sum(any(remark.refuses for remark in one) for one in remarks) <= 2
    assert sum(bool(one) for one in remarks) <= 8


@pytest.mark.parametrize("exposure", [0.7, 1.3])
def test_another_exposure_is_not_refused(gate: InputCheck, unseen: Pixels, exposure: float) -> None:
    assert sum(refused(gate, np.clip(unseen * exposure, 0, 255).astype(np.uint8))) <= 2


@pytest.mark.parametrize("degrees", [-3, 3])
def test_a_little_turn_is_not_refused(gate: InputCheck, unseen: Pixels, degrees: float) -> None:
    turned = [np.asarray(Image.fromarray(one).rotate(degrees, Image.Resampling.BILINEAR)) for one in unseen[:60]]
    assert sum(refused(gate, turned)) <= 1


def test_another_size_is_not_refused(gate: InputCheck, unseen: Pixels) -> None:
    assert sum(refused(gate, [images.prepare(one, 1024) for one in unseen[:40]])) <= 1


def test_photographs_are_refused(gate: InputCheck, photographs: list[Pixels]) -> None:
    assert all(refused(gate, photographs))


@pytest.mark.parametrize("kind", ["noise", "gradient", "checks", "text", "chart", "face", "empty page"])
def test_drawings_are_refused(gate: InputCheck, kind: str) -> None:
    assert refused(gate, [drawn(kind), 255 - drawn(kind)]) == [True, True]


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_slices_are_refused(gate: InputCheck, name: str) -> None:
    stored = images.read(Path(str(get_testdata_file(name)))).astype(float)
    shown = (255 * (stored - stored.min()) / np.ptp(stored)).astype(np.uint8)
    assert refused(gate, [shown, np.rot90(shown), 255 - shown]) == [True] * 3


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turned_ones_are_told_to_be_turned(gate: InputCheck, unseen: Pixels, quarters: int) -> None:
    found = [kinds(gate.check(np.rot90(one, quarters), size=SIDE)) for one in unseen[:60]]
    assert sum("turned" in one for one in found) >= 57


def test_negatives_are_told_to_be_inverted(gate: InputCheck, unseen: Pixels) -> None:
    found = [gate.check(255 - one, size=SIDE) for one in unseen[:60]]
    assert sum("negative" in kinds(one) and one[0].refuses for one in found) >= 57


@pytest.mark.parametrize(
    "kind, changed",
    [
        ("dark", lambda grey: (grey * 0.2).astype(np.uint8)),
        ("bright", lambda grey: (255 - (255 - grey) * 0.2).astype(np.uint8)),
        ("flat", lambda grey: (110 + grey * 0.15).astype(np.uint8)),
    ],
)
def test_exposures_far_off_are_warned_of(gate: InputCheck, unseen: Pixels, kind: str, changed) -> None:
    found = [gate.check(changed(one), size=SIDE) for one in unseen[:20]]
    assert sum(kind in kinds(one) for one in found) >= 18
    assert not any(remark.refuses for one in found for remark in one if remark.kind == kind)


@pytest.mark.parametrize(
    "shape, kind",
    [((1, 1), "small"), ((20, 3000), "small"), ((3000, 20), "small"), ((100, 900), "shape"), ((200, 200), "flat")],
)
@pytest.mark.parametrize("value", [0, 90, 255])
def test_odd_images_are_refused_without_a_crash(
    gate: InputCheck, shape: tuple[int, int], kind: str, value: int
) -> None:
    found = gate.check(np.full(shape, value, np.uint8), size=SIDE)
    assert found[0].kind == kind and found[0].refuses


def test_a_strip_is_warned_of(gate: InputCheck, unseen: Pixels) -> None:
    found = gate.check(np.asarray(Image.fromarray(unseen[0]).resize((600, 200))), size=SIDE)
    assert [(one.kind, one.refuses) for one in found] == [("shape", False)]


def test_fewer_pixels_than_the_network_sees_are_warned_of(gate: InputCheck, unseen: Pixels) -> None:
    assert [(one.kind, one.refuses) for one in gate.check(unseen[0], size=SIDE + 1)] == [("small", False)]
    assert gate.check(unseen[0], size=SIDE) == ()


def test_colour_is_remarked_on(gate: InputCheck, unseen: Pixels) -> None:
    assert gate.check(unseen[0], colour=0.0, size=SIDE) == ()
    tinted, colourful = (gate.check(unseen[0], colour=value, size=SIDE) for value in (0.03, 0.3))
    assert [(one.kind, one.refuses) for one in tinted] == [("colour", False)]
    assert [(one.kind, one.refuses) for one in colourful] == [("colour", True)]


def test_what_refuses_comes_first_in_whole_sentences(gate: InputCheck, photographs: list[Pixels]) -> None:
    found = gate.check(photographs[0], colour=0.03, size=2000)
    assert [one.refuses for one in found] == sorted((one.refuses for one in found), reverse=True)
    assert {"small", "colour"} < set(kinds(found))
    assert all(one.text[0].isupper() and one.text.endswith(".") for one in found)


def test_it_is_kept_and_read_again(gate: InputCheck, unseen: Pixels, photographs: list[Pixels], tmp_path: Path) -> None:
    path = tmp_path / "run" / "input_check.npz"
    gate.save(path)
    assert path.stat().st_size < 400_000
    again = InputCheck.load(path)
    assert (again.side, again.limits) == (gate.side, gate.limits)
    for one in [*unseen[:10], *photographs[:5]]:
        assert kinds(again.check(one, size=SIDE)) == kinds(gate.check(one, size=SIDE))


@pytest.mark.parametrize(
    "damage", ["missing", "empty", "cut", "spoilt", "another", "pickled", "not a number", "wrong shape"]
)
def test_a_damaged_file_is_told(gate: InputCheck, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "input_check.npz"
    gate.save(path)
    content = path.read_bytes()
    with np.load(path) as stored:
        arrays = dict(stored)
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "spoilt":
        path.write_bytes(content[:2000] + bytes(3000) + content[5000:])
    elif damage == "another":
        np.savez(path, side=np.array(3))
    elif damage == "pickled":
        np.savez(path, **{**arrays, "axes": np.array([{"a": 1}], dtype=object)})
    elif damage == "not a number":
        np.savez(path, **{**arrays, "rest": np.array(np.nan)})
    else:
        np.savez(path, **{**arrays, "weights": arrays["weights"][:, :5]})
    with pytest.raises(WorkFailed, match=r"The input check of run .* is missing or damaged"):
        InputCheck.load(path)


def test_a_few_images_without_validation_are_enough_and_give_the_same_gate(
    unseen: Pixels, photographs: list[Pixels]
) -> None:
    train, nothing = films(100, 4), np.empty((0, SIDE, SIDE), np.uint8)
    first, second = (fitted(train, nothing, share=0.2) for _ in range(2))
    assert first.limits == second.limits
    assert sum(refused(first, unseen)) <= 6
    assert sum(refused(first, photographs)) >= 0.9 * len(photographs)


def colourfulness(source: bytes | Path) -> float:
    return images.decode(source).colourfulness


def test_colour_of_files(tmp_path: Path) -> None:
    photograph = Image.fromarray(load_sample_images().images[1])
    grey = photograph.convert("L")
    film = Image.fromarray((np.asarray(grey)[..., None] * np.array([0.8, 0.9, 1.0])).astype(np.uint8))
    assert colourfulness(encoded(photograph, "JPEG")) > 0.06
    assert colourfulness(encoded(photograph.convert("P"))) > 0.06
    assert colourfulness(encoded(photograph.convert("CMYK"), "JPEG")) > 0.06
    for plain in (grey, grey.convert("RGB"), grey.convert("RGBA"), grey.convert("1"), grey.convert("I;16")):
        assert colourfulness(encoded(plain)) < 0.005
    assert 0.005 < colourfulness(encoded(film)) < 0.06  # tinted all over, and still an X-ray
    path = tmp_path / "one.jpeg"
    path.write_bytes(encoded(photograph, "JPEG"))
    assert colourfulness(path) == colourfulness(path.read_bytes())


def test_what_shows_no_colour_has_none(tmp_path: Path) -> None:
    nothing = encoded(Image.new("RGBA", (40, 40), (255, 0, 0, 0)))
    dicom = Path(str(get_testdata_file("examples_rgb_color.dcm")))
    assert [colourfulness(source) for source in (nothing, dicom)] == [0.0, 0.0]
    photograph = encoded(Image.fromarray(load_sample_images().images[1]), "JPEG")
    for source in (b"", b"text", photograph[:500], tmp_path, tmp_path / "none"):
        with pytest.raises(CxrError):
            colourfulness(source)


@pytest.mark.slow
def test_real_xrays(kermany_zip: Path, nih_zip: Path, photographs: list[Pixels]) -> None:
    with zipfile.ZipFile(kermany_zip) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpeg"))
        train, test = ([images.read(archive.read(name)) for name in names if f"/{split}/" in name][:: step]
                       for split, step in (("train", 12), ("test", 6)))  # fmt: skip
    with zipfile.ZipFile(nih_zip) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        adults = [images.read(archive.read(name)) for name in names[::20]]
    prepared = np.stack([images.prepare(one, 180) for one in train])
    real = fitted(prepared[np.arange(len(prepared)) % 7 > 0], prepared[::7], share=0.5)
    assert sum(refused(real, test, 180)) <= 0.02 * len(test)
    assert sum(bool(real.check(one, size=180)) for one in test) <= 0.06 * len(test)
    assert all("small" in kinds(real.check(one, size=180)) for one in adults)
    assert sum(refused(real, adults, 180)) <= 0.25 * len(adults)
    assert all(refused(real, photographs, 180))
    assert sum("turned" in kinds(real.check(np.rot90(one), size=180)) for one in test[:50]) >= 47


def test_it_needs_no_keras() -> None:
    asked = "import sys, cxr_core.inference.input_check.checks; print({'keras', 'tensorflow', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def remark(kind: str, refuses: bool) -> Finding:
    return Finding(kind, refuses, f"{kind}.")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([[]], []),
        ([[("no_xray", True)]], [("no_xray", True)]),
        ([[("strange", False)], [("no_xray", True)]], [("no_xray", True), ("strange", False)]),
        ([[("no_xray", False)], [("no_xray", True)]], [("no_xray", True)]),
        ([[("no_xray", True)], [], []], [("no_xray", False)]),
        ([[("strange", False)], [], []], []),
        ([[("strange", False)], [("small", False)], []], [("strange", False), ("small", False)]),
    ],
)
def test_gates_of_an_ensemble_speak_with_one_voice(
    said: list[list[tuple[str, bool]]], expected: list[tuple[str, bool]]
) -> None:
    found = combine([[remark(*one) for one in each] for each in said])
    assert [(one.kind, one.refuses) for one in found] == expected


def test_without_a_gate_the_plain_things_are_seen() -> None:
    film = films(1, 9)[0]
    even = np.full((90, 90), 90, np.uint8)
    shown = [
        CheckInput(film, 0.0, SIDE),
        CheckInput(even, 0.0, SIDE),
        CheckInput(film, 0.2, SIDE),
        CheckInput(film[:20, :20], 0.0, SIDE),
    ]
    plain, flat, tinted, small = basic_findings(shown)
    assert plain == ()
    assert flat[0].kind == "flat" and flat[0].refuses
    assert tinted[0].refuses and small[0].kind == "small"


@pytest.mark.parametrize(
    ("facts", "kinds_"),
    [
        ({"Modality": "DX", "Body part": "CHEST", "View": "PA"}, []),
        ({"Modality": "CT"}, [("modality", True)]),
        ({"Modality": "CR", "Body part": "HAND"}, [("part", False)]),
        ({"Modality": "DX", "View": "LL"}, [("view", False)]),
        ({}, []),
    ],
)
def test_a_header_that_speaks_against_the_file_is_heard(facts: dict[str, str], kinds_: list[tuple[str, bool]]) -> None:
    assert [(one.kind, one.refuses) for one in header_findings(facts)] == kinds_
    assert [one.kind for one in header_findings(facts, 3)][-1] == "frames"


def test_many_at_once_are_told_the_same_as_one_by_one(
    gate: InputCheck, unseen: Pixels, photographs: list[Pixels]
) -> None:
    every = [*unseen[:12], *photographs[:6], np.rot90(unseen[0]), unseen[1][:20, :20]]
    together_ = gate.findings([CheckInput(one, 0.0, SIDE) for one in every])
    assert together_ == [gate.check(one, size=SIDE) for one in every]


def test_a_file_of_an_earlier_version_says_how_to_make_it_again(tmp_path: Path) -> None:
    """Of 0.2: two small networks on principal components, with seven limits."""
    arrays = {
        "side": np.array(SIDE), "limits": np.ones(7), "middle": np.ones(648), "axes": np.ones((648, 64), np.float16),
        "spread": np.ones(64), "grain_middle": np.ones(14), "grain_spread": np.ones(14), "rest": np.ones(2),
        "first": np.ones((2, 79, 64)), "first_bias": np.ones((2, 1, 64)),
        "second": np.ones((2, 64, 3)), "second_bias": np.ones((2, 1, 3)),
    }  # fmt: skip
    path = tmp_path / "input_check.npz"
    np.savez_compressed(path, allow_pickle=False, **arrays)
    with pytest.raises(
        WorkFailed, match=r"of an earlier version\. To make it again from its dataset: python -m cxr_core export"
    ):
        InputCheck.load(path)


def test_an_image_that_is_prepared_already_gives_the_same_findings(gate: InputCheck, photographs: list[Pixels]) -> None:
    every = [images.prepare(films(1, 9)[0], 150), *photographs[:4]]
    prepared = [CheckInput(grey, 0.0, SIDE, {SIDE: images.prepare(grey, SIDE), 30: grey[:30, :30]}) for grey in every]
    assert gate.findings(prepared) == [gate.check(grey, size=SIDE) for grey in every]
    blank = np.full((SIDE, SIDE), 7, np.uint8)
    assert kinds(gate.findings([CheckInput(every[0], 0.0, SIDE, {SIDE: blank})])[0]) == ["flat"]  # it is looked at


@pytest.mark.parametrize("part", ["a quarter", "one lung", "two on a sheet", "askew"])
def test_what_shows_no_whole_upright_chest_is_refused(gate: InputCheck, unseen: Pixels, part: str) -> None:
    half = SIDE // 2
    changed = {
        "a quarter": lambda grey: grey[:half, :half],
        "one lung": lambda grey: grey[:, :half],
        "two on a sheet": lambda grey: np.hstack([grey, grey]),
        "askew": lambda grey: np.asarray(Image.fromarray(grey).rotate(50, Image.Resampling.BILINEAR)),
    }[part]
    assert sum(refused(gate, [changed(grey) for grey in unseen[:40]], 32)) >= 39


def thumbnails(greys: Pixels) -> Pixels:
    return np.stack([images.prepare(grey, 64) for grey in greys])


def test_the_exposure_hardly_changes_the_features(unseen: Pixels) -> None:
    greys = thumbnails(unseen[:20])
    darker = (255 * (greys / 255.0) ** 1.3).astype(np.uint8)
    plain, changed = ood.features(greys), ood.features(darker)
    assert plain.shape == (20, 576) and plain.dtype == np.float32
    between = np.abs(plain[1:] - plain[:-1]).mean()
    assert np.abs(plain - changed).mean() < 0.1 * between


def test_the_classifier_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 400)
    inputs = (rng.standard_normal((400, 7)) + np.eye(3, 7)[classes]).astype(np.float32)
    reference = Ridge(alpha=0.5 * len(inputs)).fit(inputs, np.eye(3)[classes])
    weights, bias = ood.ridge_classifier(inputs, classes, 0.5)
    np.testing.assert_allclose(weights, reference.coef_.T, atol=1e-5)
    np.testing.assert_allclose(bias, reference.intercept_, atol=1e-5)


def test_the_distance_is_that_of_probabilistic_principal_components(gate: InputCheck, unseen: Pixels) -> None:
    detector, greys = gate.detector, thumbnails(unseen[:10])
    axes, size = detector.axes.astype(float), len(detector.mean)
    rest = np.eye(size) - axes @ axes.T
    precision = axes @ np.diag(detector.deviations.astype(float) ** -2) @ axes.T + rest / detector.rest
    offsets = (ood.features(greys) - detector.mean).astype(float)
    expected = np.sqrt(np.einsum("nf,fg,ng->n", offsets, precision, offsets) / size)
    np.testing.assert_allclose(detector.predict(greys).distance, expected, rtol=1e-3)
    assert 0.5 < np.median(detector.predict(thumbnails(unseen)).distance) < 2
