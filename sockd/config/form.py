"""What every mapping of the file is: frozen, strict about its keys, and laid over others key by key."""

from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A mapping of the file: frozen; unknown keys are refused; it remembers which keys were written."""

    # Most sections are read within another one alone, which has all that is needed for them built into it.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


SectionT = TypeVar("SectionT", bound=Section)


def merge(*layers: SectionT) -> SectionT:
    """The layers on top of each other, key by key, the last one uppermost."""
    written = [layer for layer in layers if layer.model_fields_set] or [layers[0]]
    if not written[1:]:
        return written[0]  # as nearly always, and a merge takes its time
    values: dict[str, Any] = {}
    for layer in written:
        for name in layer.model_fields_set:
            value, below = getattr(layer, name), values.get(name)
            nested = isinstance(value, Section) and isinstance(below, Section)
            values[name] = merge(below, value) if nested else value
    return cast("SectionT", layers[0].model_construct(**values))


def no_default(schema: dict[str, Any]) -> None:
    """For the schema: what holds where nothing is written is not a value of the file."""
    del schema["default"]
