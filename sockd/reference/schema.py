"""Makes the JSON Schema of the configuration file, with the options of every installed protocol."""

import json
from collections.abc import Set as AbstractSet
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema, to_jsonable_python

from sockd.config.file import Main
from sockd.config.form import JsonSchema
from sockd.config.types import MODE_SCHEMA
from sockd.protocols.registry import Installed, Registry

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
MODE = "FileMode"  # the name of the definition of file modes


class _Generator(GenerateJsonSchema):
    """Pydantic's generator, but defaults are as the file has them, and no titles are made up."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        if "default" not in schema:
            return inner  # it is made anew each time
        default: object = schema["default"]
        write: Any = schema["schema"].get("serialization", {})  # Any: one of many forms
        if "function" in write and not write.get("info_arg"):
            default = write["function"](default)
        if isinstance(default, BaseModel | dict | SecretStr | SecretBytes):
            return inner  # the keys in it have defaults of their own; a secret is not shown
        try:
            return {**inner, "default": _as_json(default)}
        except ValueError:
            return inner  # it has no form in JSON: bytes that are no text, a third party's type

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        # Editors complete a key whose value has one of several forms only where that is `anyOf`.
        found = super().tagged_union_schema(schema)
        return {"anyOf" if key == "oneOf" else key: value for key, value in found.items()}

    def field_title_should_be_set(self, _schema: object) -> bool:
        return False


def _as_json(value: object) -> object:
    """A default in the types of JSON; ValueError where it has no such form."""
    if isinstance(value, AbstractSet):
        return sorted((_as_json(item) for item in value), key=repr)  # in the same order each time
    written: object = to_jsonable_python(value)
    json.dumps(written, allow_nan=False)
    return written


def schema(registry: Registry) -> JsonSchema:
    """The schema of the main file, which an included file fits too."""
    tree = Main.model_json_schema(schema_generator=_Generator)
    definitions = tree.pop("$defs")
    for section in definitions.values():
        section["title"] = "keys"  # what an editor says is expected where it stands
    definitions[MODE] = MODE_SCHEMA
    endpoint = definitions["Endpoint"]
    choices = []
    names, qualified = [], []
    for installed in registry.all():
        if installed.specification is not None:
            names.append(installed.name)
            qualified.append(installed.qualified)
            choices.append(_options(installed, installed.specification.options, definitions))
    protocol = endpoint["properties"]["protocol"]
    del protocol["type"]
    protocol["anyOf"] = [{"enum": names}, {"title": "distribution:name", "enum": qualified}]
    # Before the protocol is written, the options of each may be completed.
    any_options = {"anyOf": [{"$ref": f"#/$defs/{name}.options"} for name in names]}
    endpoint["allOf"] = [
        *choices,
        {"if": {"required": ["protocol"]}, "else": {"properties": {"options": any_options}}},
    ]
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
    tree = {key: _shared(value) if key != "$defs" else _shared_in(value) for key, value in tree.items()}
    explained: JsonSchema = _explained(tree)
    return explained


def schema_text(registry: Registry) -> str:
    """The schema as `sockd schema` prints it."""
    return json.dumps(schema(registry), indent=2, ensure_ascii=False) + "\n"


def _options(installed: Installed, model: type[BaseModel], definitions: JsonSchema) -> JsonSchema:
    """The condition that the options of an endpoint of this protocol fit its model."""
    name, qualified = installed.name, installed.qualified
    # Models of two protocols may have the same name: each is named after its protocol as well.
    try:
        options = model.model_json_schema(
            schema_generator=_Generator, ref_template=f"#/$defs/{name}.{{model}}"
        )
    except Exception as error:  # noqa: BLE001 - whatever a third party's types do, the others have a schema
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        options = {"type": "object", "description": f"These options can't be described: {reason[:200]}"}
    for inner, definition in options.pop("$defs", {}).items():
        definitions[f"{name}.{inner}"] = definition
    definitions[f"{name}.options"] = options
    then: JsonSchema = {"properties": {"options": {"$ref": f"#/$defs/{name}.options"}}}
    if options.get("required"):
        then["required"] = ["options"]
    names = sorted({name, qualified})
    return {"if": {"properties": {"protocol": {"enum": names}}, "required": ["protocol"]}, "then": then}


def _explained(value: Any, expected: str = "") -> Any:  # Any: a value of JSON
    """A part of the schema with what is expected in place of an editor's message about each form of a value.

    `errorMessage` is no keyword of JSON Schema, but of the editors that use the YAML language server.
    """
    if isinstance(value, list):
        return [_explained(item, expected) for item in value]
    if not isinstance(value, dict):
        return value
    if "properties" in value or "$defs" in value:
        expected = ""
    elif "title" in value and not expected:
        examples = f", like {value['examples'][0]}" if "examples" in value else ""
        expected = f"Expected here: {value['title']}{examples}."
    found = {
        key: {name: _explained(one) for name, one in item.items()}
        if key in ("properties", "$defs")
        else item
        if key in ("default", "examples", "enum")
        else _explained(item, expected)
        for key, item in value.items()
    }
    is_form = not found.keys().isdisjoint(("type", "const", "enum", "pattern"))
    return {**found, "errorMessage": expected} if expected and is_form else found


def _shared(value: Any) -> Any:  # Any: a value of JSON
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
