"""Makes the JSON Schema of the configuration file, with the options of every installed protocol."""

import json
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from sockd.config.file import Main
from sockd.config.form import JsonSchema
from sockd.config.types import MODE_SCHEMA
from sockd.protocols.registry import Registry

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
MODE = "FileMode"  # the name of the definition of file modes


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, but defaults are as the file has them, and no titles are made up."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        default = schema.get("default")
        write: Any = schema["schema"].get("serialization", {})  # a dict of one of many forms
        if "function" in write:
            default = write["function"](default)
        if isinstance(default, BaseModel | dict):
            return inner  # the keys in it have defaults of their own
        return {**inner, "default": list(default) if isinstance(default, tuple) else default}

    def field_title_should_be_set(self, _schema: object) -> bool:
        return False


def schema(registry: Registry) -> JsonSchema:
    """The schema of the main file, which an included file fits too."""
    tree = Main.model_json_schema(schema_generator=_Generator)
    definitions = tree.pop("$defs")
    definitions[MODE] = MODE_SCHEMA
    endpoint = definitions["Endpoint"]
    choices = []
    names = []
    for installed in registry.all():
        if installed.specification is not None:
            names.append(installed.name)
            choices.append(_options(installed.name, installed.specification.options, definitions))
    endpoint["properties"]["protocol"]["enum"] = names
    endpoint["allOf"] = choices
    tree["properties"]["endpoints"]["additionalProperties"] = False
    tree = {
        "$schema": _DIALECT,
        **tree,
        "title": "sockd's file",
        "description": "One daemon, one file, any number of endpoints.",
        "anyOf": [{"required": ["endpoints"]}, {"required": ["include"]}],
        "$defs": dict(sorted(definitions.items())),
    }
    del tree["required"]  # the endpoints may come from an include
    return {key: _shared(value) if key != "$defs" else _shared_in(value) for key, value in tree.items()}


def schema_text(registry: Registry) -> str:
    """The schema as `sockd schema` prints it."""
    return json.dumps(schema(registry), indent=2, ensure_ascii=False) + "\n"


def _options(name: str, model: type[BaseModel], definitions: JsonSchema) -> JsonSchema:
    """The condition that the options of an endpoint of this protocol fit its model."""
    # Models of two protocols may have the same name: each is named after its protocol as well.
    options = model.model_json_schema(schema_generator=_Generator, ref_template=f"#/$defs/{name}.{{model}}")
    for inner, definition in options.pop("$defs", {}).items():
        definitions[f"{name}.{inner}"] = definition
    definitions[f"{name}.options"] = options
    then: JsonSchema = {"properties": {"options": {"$ref": f"#/$defs/{name}.options"}}}
    if options.get("required"):
        then["required"] = ["options"]
    return {"if": {"properties": {"protocol": {"const": name}}, "required": ["protocol"]}, "then": then}


def _shared(value: Any) -> Any:  # any value of JSON
    """A part of the schema with a reference wherever the 512 file modes would be listed."""
    if isinstance(value, list):
        return [_shared(item) for item in value]
    if not isinstance(value, dict):
        return value
    if all(value.get(key) == part for key, part in MODE_SCHEMA.items()):
        return {"$ref": f"#/$defs/{MODE}", **{key: value[key] for key in value if key not in MODE_SCHEMA}}
    return {key: _shared(item) for key, item in value.items()}


def _shared_in(definitions: JsonSchema) -> JsonSchema:
    return {name: value if name == MODE else _shared(value) for name, value in definitions.items()}
