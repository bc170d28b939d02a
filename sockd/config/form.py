"""What the model of the file is made of: a Form for each value, a Section for each mapping."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from sockd.config.values import read_as

OFF = "off"
# What people write where they mean `off`. It isn't taken for it, but `off` is suggested.
MEANT_AS_OFF = "none|never|no|null|nil|false|disabled?|unlimited|infinit[ey]|forever|-|0.{0,3}"

# A JSON Schema, or a part of one. Any: as pydantic has it.
JsonSchema = dict[str, Any]


def wrong(text: str) -> PydanticCustomError:
    """An error whose message is exactly this text."""
    return PydanticCustomError("sockd", "{text}", {"text": text})


def wrong_key(text: str) -> PydanticCustomError:
    """An error about the key of a value that a model of the file doesn't know, in exactly this text."""
    return PydanticCustomError("sockd_key", "{text}", {"text": text})


@dataclass(frozen=True, eq=False)
class Form:
    """How a type is read from the file, written to one, and described to editors.

    `read` gets what the file has, or a value from Python code that has the type already, and raises
    ValueError with the reason, or an error from `wrong`. `write` returns what a file has. With `off`,
    the value may be `off` too, which is None.
    """

    read: Callable[[object, ValidationInfo], object]
    write: Callable[[Any], object]  # Any: of what `read` returns, whose type the Annotated has
    schema: JsonSchema
    off: bool = False

    def _read(self, value: object, info: ValidationInfo) -> object:
        if self.off and (value is None or value == OFF):
            return None
        if self.off and read_as(value) == "null":
            raise wrong("there is no value here: write off, or leave the key out")
        try:
            return self.read(value, info)
        except ValueError as problem:
            raise wrong(f"{problem}{self._or_off(value)}") from None

    def _or_off(self, value: object) -> str:
        """The end of a problem's message, which suggests `off` where that may have been meant."""
        meant = self.off and isinstance(value, str) and re.fullmatch(MEANT_AS_OFF, value, re.IGNORECASE)
        return ", or off" if meant else ""

    def _write(self, value: object) -> object:
        return OFF if value is None else self.write(value)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            self._read, serialization=core_schema.plain_serializer_function_ser_schema(self._write)
        )

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        if not self.off:
            return dict(self.schema)
        title = f"{self.schema['title']}, or off"
        if "pattern" in self.schema:
            # One schema of a text, as editors report only one of several that don't fit.
            return {**self.schema, "title": title, "pattern": f"^{OFF}$|{self.schema['pattern']}"}
        return {"title": title, "anyOf": [self.schema, {"const": OFF}]}


class Section(BaseModel):
    """A mapping of the file. It is frozen, refuses unknown keys, and remembers which keys were written."""

    # Most sections are only read within another one, whose validator includes theirs.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


SectionT = TypeVar("SectionT", bound=Section)


def merge(*layers: SectionT) -> SectionT:
    """The layers laid over each other, key by key: the last one that has a key decides it."""
    written = [layer for layer in layers if layer.model_fields_set] or [layers[0]]
    if not written[1:]:
        return written[0]  # nearly always, and a merge takes time
    values: dict[str, Any] = {}  # Any: each key has a type of its own
    for layer in written:
        for name in layer.model_fields_set:
            value, below = getattr(layer, name), values.get(name)
            nested = isinstance(value, Section) and isinstance(below, Section)
            values[name] = merge(below, value) if nested else value
    return cast("SectionT", layers[0].model_construct(**values))


def no_default(schema: JsonSchema) -> None:
    """Leave the default out of a key's schema: what counts without the key can't be written."""
    del schema["default"]
