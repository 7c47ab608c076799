"""OpenAPI 3.1 of an HTTP interface, generated from its table of operations and the types of its documents."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints, is_typeddict

from starlette.requests import Request
from starlette.responses import Response

from cxr_core import __version__
from cxr_core.formatting import DISCLAIMER
from cxr_core.server.documents import Problem

_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number"}


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    Attributes:
        returns: type of the JSON document that it answers with.
        refusals: what each status code other than 200 means.
        request: `parameters` and `requestBody`, as OpenAPI writes them.
    """

    method: str
    path: str
    handler: Callable[[Request], Awaitable[Response]]
    returns: Any
    summary: str
    description: str = "Done."
    refusals: Mapping[int, str] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)


def describe(operations: Sequence[Operation], *, token: bool) -> dict[str, Any]:
    """The OpenAPI document; with `token`, operations that can refuse with 401 ask for one."""
    paths: dict[str, dict[str, Any]] = {}
    schemas = {"Problem": schema(Problem)}
    for operation in operations:
        returned = schema(operation.returns)
        if is_typeddict(operation.returns):
            name = operation.returns.__name__
            schemas[name], returned = returned, {"$ref": f"#/components/schemas/{name}"}
        problem = {"$ref": "#/components/schemas/Problem"}
        paths.setdefault(operation.path, {})[operation.method.lower()] = {
            "summary": operation.summary,
            **operation.request,
            "responses": {
                "200": _response(operation.description, returned),
                **{str(code): _response(words, problem) for code, words in operation.refusals.items()},
            },
            **({"security": [{"token": []}]} if token and 401 in operation.refusals else {}),
        }
    security = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}} if token else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Chest X-ray workbench", "version": __version__, "description": DISCLAIMER},
        "paths": paths,
        "components": {"schemas": schemas, **security},
    }


def _response(description: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": content}}}


def schema(hint: Any) -> dict[str, Any]:
    """JSON schema of a TypedDict, a list, a dict, `X | None` or a plain type, each perhaps `Annotated` with words or keywords."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        described = schema(arguments[0])
        for note in arguments[1:]:
            described |= {"description": note} if isinstance(note, str) else note
        return described
    if origin is UnionType:
        inner = schema(arguments[0])
        return inner | {"type": [inner["type"], "null"]}
    if origin is list:
        return {"type": "array", "items": schema(arguments[0])}
    if origin is dict:
        return {"type": "object"} | ({} if arguments[1] is Any else {"additionalProperties": schema(arguments[1])})
    if is_typeddict(hint):
        fields = get_type_hints(hint, include_extras=True)
        return {
            "type": "object",
            **({"description": " ".join(hint.__doc__.split())} if hint.__doc__ else {}),
            "required": [name for name in fields if name in hint.__required_keys__],
            "properties": {name: schema(type_) for name, type_ in fields.items()},
        }
    return {"type": _TYPES[hint]}
