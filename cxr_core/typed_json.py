"""Read dataclasses from JSON files: types are checked, keys of a later version are passed over, and its files are called so.

A document may say in which `format` it is written; without the key it is 1.
"""

import types
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

from cxr_core import workspace
from cxr_core.errors import DamagedFile, WorkFailed

FORMAT = "format"
T = TypeVar("T")


def read(path: Path, kind: type[T], *, known_format: int = 1, **given: Any) -> T:
    """Read a file that holds the fields of a dataclass.

    Args:
        path: of the file.
        kind: the dataclass.
        known_format: the latest format that is understood.
        given: values that count instead of those of the file.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFile: it holds something else.
        WorkFailed: it cannot be read, or a later version of this software has written it.
    """
    document = workspace.read_json(path)
    try:
        if not isinstance(document, dict):
            raise ValueError("it holds no object")
        written = document.get(FORMAT, 1)
        if isinstance(written, int) and written > known_format:
            raise WorkFailed(
                f"{path} was written by a later version of this software (format {written}; {known_format} is the latest known "
                "here). Nothing is wrong with it: update the software."
            )
        return from_document(kind, {**document, **given})
    except ValueError as error:
        raise DamagedFile(f"{path} is damaged: {error}. Restore it from a backup.") from error


def from_document(kind: type[T], document: dict[str, Any]) -> T:
    """A dataclass from the JSON object of its fields; unknown keys are passed over, absent ones take their defaults.

    Raises:
        ValueError: a field is missing or of another type; names the field and quotes no value.
    """
    values = {}
    hints = _hints(cast(Any, kind))
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name in document:
            try:
                values[field.name] = _value(document[field.name], hints[field.name])
            except TypeError:
                raise ValueError(f"'{field.name}' is of another type than it is written in") from None
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"'{field.name}' is missing")
    return kind(**values)


@lru_cache(maxsize=64)
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _value(value: Any, hint: Any) -> Any:  # noqa: PLR0911 - one a kind of type
    """The value as the field holds it; raises TypeError if it is of another type, ValueError if a part of it is."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _first_that_fits(value, arguments)
    if origin is Literal:
        return _checked(value, isinstance(value, str) and value in arguments)
    if origin in (tuple, list):
        return origin(_parts(_checked(value, isinstance(value, list | tuple)), arguments))
    if origin is dict:
        return {key: _value(part, arguments[1]) for key, part in _object(value).items()}
    if is_typeddict(hint):
        parts = get_type_hints(hint)
        _checked(value, hint.__required_keys__ <= set(_object(value)))
        return {key: _value(part, parts[key]) for key, part in value.items() if key in parts}
    if is_dataclass(hint):
        return from_document(cast(type[Any], hint), _object(value))
    return _plain(value, hint)


def _checked(value: Any, fits: bool) -> Any:
    if not fits:
        raise TypeError
    return value


def _object(value: Any) -> dict[str, Any]:
    checked: dict[str, Any] = _checked(value, isinstance(value, dict))
    return checked


def _first_that_fits(value: Any, choices: tuple[Any, ...]) -> Any:
    for choice in choices:
        try:
            return _value(value, choice)
        except TypeError:
            continue
    raise TypeError


def _parts(value: Sequence[Any], of: tuple[Any, ...]) -> Iterator[Any]:
    """The members of a list[X], tuple[X, ...] or tuple[X, Y]."""
    kinds = [of[0]] * len(value) if len(of) == 1 or of[-1] is Ellipsis else list(of)
    _checked(value, len(kinds) == len(value))
    return (_value(part, kind) for part, kind in zip(value, kinds, strict=True))


def _plain(value: Any, hint: Any) -> Any:
    if hint is float:
        return _checked(value, isinstance(value, int | float) and not isinstance(value, bool))
    return _checked(value, isinstance(value, hint) and (hint is bool or not isinstance(value, bool)))
