"""Decorator that creates Pydantic models, for the OpenAPI document, from dataclasses in `wire`."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, Field, create_model

from stillroom.wire.shown import LOCAL, Shown

Model = TypeVar("Model", bound=BaseModel)


def view_of(
    kind: type, names: Sequence[str] = (), *, optional: Sequence[str] = (), **types: object
) -> Callable[[type[Model]], type[Model]]:
    """Return a decorator that adds fields of the dataclass `kind` to a Pydantic model.

    If `names` is not empty, only these fields are added. Fields in `optional` may be missing in a
    response. `types` maps field names to types that replace those of the dataclass.
    """

    def decorate(model: type[Model]) -> type[Model]:
        hints, annotated = get_type_hints(kind), get_type_hints(kind, include_extras=True)
        model_fields: dict[str, Any] = {}
        for name in names or [item.name for item in fields(kind) if item.metadata != LOCAL]:
            (note,) = getattr(annotated[name], "__metadata__", (Shown(),))
            field = Field(
                None if name in optional else ...,
                description=note.description,
                examples=list(note.examples) or None,
            )
            model_fields[name] = (types.get(name, hints[name]), field)
        return create_model(
            model.__name__,
            __base__=model,
            __doc__=model.__doc__,
            __module__=model.__module__,
            **model_fields,
        )

    return decorate
