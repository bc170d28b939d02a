r"""States of protocols as bytes that another version can read: JSON, and a form for bytes.

A first line says which form follows and who wrote it. In the second, bytes are `{"$bytes": "base64"}`; a key
that begins with `$` has another one put before it.
"""

import binascii
import json
from typing import Any

from sockd import __version__
from sockd.handover.errors import HandoverError
from sockd.protocols.contract import State

FORMAT = 1
_BYTES = "$bytes"


def encode(value: State) -> bytes:
    """The value as bytes; HandoverError names the place of what can't be written."""
    header = json.dumps({"sockd handover": FORMAT, "version": __version__})
    try:
        body = json.dumps(_written(value, ()), separators=(",", ":"))
    except RecursionError:
        raise HandoverError("a state is nested too deeply to be handed over") from None
    except ValueError as error:  # an int of more digits than Python writes
        raise HandoverError(f"a state can't be handed over: {error}") from None
    return f"{header}\n{body}".encode()


def _written(value: State, place: tuple[str | int, ...]) -> State:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return {_BYTES: binascii.b2a_base64(value, newline=False).decode()}
    if isinstance(value, list):
        return [_written(item, (*place, index)) for index, item in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise HandoverError(f"{_shown(place)}: its key {key!r:.100} is no text")
        return {
            f"${key}" if key.startswith("$") else key: _written(item, (*place, key))
            for key, item in value.items()
        }
    raise HandoverError(f"{_shown(place)}: a value of the type {type(value).__name__} can't be handed over")


def _shown(place: tuple[str | int, ...]) -> str:
    return ".".join(map(str, place)) or "the state"


def decode(data: bytes) -> State:
    """The value again; HandoverError where this program can't read it."""
    first, _, body = data.partition(b"\n")
    try:
        header = json.loads(first)
        form, version = header["sockd handover"], header["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise HandoverError("this is not what a running sockd hands over") from None
    if form != FORMAT:
        raise HandoverError(
            f"sockd {version} hands over in form {form!r:.100}, while {__version__} reads form {FORMAT}"
        )
    try:
        return json.loads(body, object_hook=_read)
    except (ValueError, RecursionError) as error:
        raise HandoverError(f"what sockd {version} hands over can't be read: {error}") from None


def _read(value: dict[str, Any]) -> State:
    if _BYTES in value:
        if len(value) != 1 or not isinstance(value[_BYTES], str):
            raise ValueError(f"wrong use of {_BYTES}")
        return binascii.a2b_base64(value[_BYTES])
    if not any(key.startswith("$") for key in value):
        return value
    if not all(key.startswith("$$") for key in value if key.startswith("$")):
        raise ValueError("an unknown form of a value")
    return {key.removeprefix("$"): item for key, item in value.items()}
