"""The packages of a wheel: those of `cxr_core`, and the runs that ship, which lie in `artifacts/pretrained/` of the clone."""

from setuptools import find_packages, setup

PRETRAINED = "cxr_core.pretrained"

setup(
    packages=[*find_packages(include=["cxr_core", "cxr_core.*"]), PRETRAINED],
    package_dir={PRETRAINED: "artifacts/pretrained"},
    package_data={"": ["templates/*.j2"], PRETRAINED: ["**/*"]},
)
