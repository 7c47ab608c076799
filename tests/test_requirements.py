"""Every import of the package is declared, and every declared requirement is imported."""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.conftest import PROJECT

OWN = {"cxr_core", "pages"}
OPTIONAL = {"jax", "torch", "mlflow", "ray"}  # each for one feature, which says so where it is missing
IMPORTED_BY_OTHERS = {"python-multipart"}  # Starlette reads uploads with it
DISTRIBUTIONS = packages_distributions()


def canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def requirements(file: str) -> set[str]:
    """Names of the distributions that a requirements file lists, itself or in a file that it includes."""
    lines = (PROJECT / file).read_text().splitlines()
    names = (re.match(r"[A-Za-z0-9._-]+", line) for line in lines if not line.startswith(("#", "-")))
    included = (requirements(line.removeprefix("-r ")) for line in lines if line.startswith("-r "))
    return {canonical(name[0]) for name in names if name}.union(*included)


def imported_modules(nodes: Iterable[ast.AST]) -> set[str]:
    """Top-level names of the modules that nodes of a syntax tree import."""
    modules: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
    return {module.partition(".")[0] for module in modules}


def sources() -> list[Path]:
    return [
        PROJECT / "streamlit_app.py",
        *(path for package in OWN for path in (PROJECT / package).rglob("*.py")),
    ]


def third_party() -> set[str]:
    modules = {module for path in sources() for module in imported_modules(ast.walk(ast.parse(path.read_text())))}
    return modules - OWN - set(sys.stdlib_module_names)


def test_every_import_is_declared() -> None:
    declared = requirements("requirements.txt")
    missing = {
        module
        for module in third_party() - OPTIONAL
        if declared.isdisjoint(map(canonical, DISTRIBUTIONS.get(module, [])))
    }
    assert not missing, f"imported, but not in requirements.txt: {sorted(missing)}"


def test_every_requirement_is_imported() -> None:
    used = {canonical(name) for module in third_party() for name in DISTRIBUTIONS.get(module, [])}
    unused = requirements("requirements.txt") - used - IMPORTED_BY_OTHERS
    assert not unused, f"in requirements.txt, but imported nowhere: {sorted(unused)}"


def outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a syntax tree that run when the module is imported."""
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from outside_functions(child)


@pytest.mark.parametrize("module", sorted(OPTIONAL))
def test_an_optional_module_is_imported_in_the_function_that_uses_it(module: str) -> None:
    trees = {path: ast.parse(path.read_text()) for path in sources()}
    importers = {path: tree for path, tree in trees.items() if module in imported_modules(ast.walk(tree))}
    assert importers
    for path, tree in importers.items():
        assert module not in imported_modules(outside_functions(tree)), path
