"""The types of the file's values, for its own model and for the options of protocols.

A type reads the text that was written, refuses it with a message that says what to write, and describes in
the JSON Schema what it takes: `history: Integer = Field(20, ge=0, le=1000, description="...")`. A value that
has the type already is taken as it is, so that Python code can write `ChatOptions(history=5)`. With the
argument `off`, or with `Optional` in its name, a type also takes the word `off`, which is None.
"""

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, ValidationInfo

from sockd.base import units
from sockd.config.form import Form, JsonSchema, wrong
from sockd.config.patterns import pattern_up_to
from sockd.config.values import read_as, shown

# What YAML 1.1 and people write for `true` and `false`.
_MEANT_AS_TRUE = ("true", "yes", "on", "y", "enable", "enabled", "1")
_MEANT_AS_FALSE = ("false", "no", "off", "n", "disable", "disabled", "0")
_MAX_PATH_LENGTH = 1024  # characters
_TLS_VERSIONS = ("1.2", "1.3")
_MIN_DURATION = 0.001  # seconds
_MAX_DURATION = 7 * 86400.0  # seconds: a week, which is far below what epoll_wait(2) can wait
_MAX_SIZE = 2**40  # bytes

# -- plain values ------------------------------------------------------------------------------------------


def _scalar(value: object, expected: str) -> str:
    """The text of a scalar; ValueError, which names what is `expected`, for a list, a mapping or no value."""
    kind = read_as(value)
    if kind in ("list", "mapping"):
        raise ValueError(f"{expected} is expected here, not a {kind}")
    if kind == "null":
        raise ValueError(f"there is no value here: write {expected}, or leave the key out")
    return str(value)


def _read_integer(value: object) -> int:
    text = _scalar(value, "a whole number")
    if read_as(value) == "string":
        if re.fullmatch("[-+]?[0-9]+", text):
            raise wrong(f"{shown(text)} is in quotes: write {text}")
        raise wrong(f"{shown(text)} is not a whole number")
    if re.fullmatch("[-+]?0[0-9]+", text):
        raise wrong(f"{shown(text)} begins with a zero, which some read as octal: write {int(text)}")
    if not re.fullmatch(r"[-+]?[0-9]{1,18}(\.0+)?", text):
        raise wrong(f"{shown(text)} is not a whole number")
    return int(text.split(".")[0])


def _read_boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = _scalar(value, "true or false")
    if text in ("true", "false"):
        if read_as(value) == "boolean":
            return text == "true"
        raise wrong(f"{shown(text)} is in quotes: write {text}")
    word = text.lower()
    meant = "true" if word in _MEANT_AS_TRUE else "false" if word in _MEANT_AS_FALSE else "true or false"
    raise wrong(f"{shown(text)} is not a boolean: write {meant}")


def read_text(value: object) -> str:
    """The text of a string; ValueError where YAML reads the unquoted text as something else."""
    text = _scalar(value, "text")
    kind = read_as(value)
    if kind != "string":
        raise wrong(f'{text} without quotes is a {kind} in YAML: write "{text}"')
    return text


def _checked(read: Callable[[object], object]) -> BeforeValidator:
    """A validator that reads so; the message of a ValueError becomes the problem, word by word."""

    def reading(value: object) -> object:
        try:
            return read(value)
        except ValueError as problem:
            raise wrong(str(problem)) from None

    return BeforeValidator(reading)


# A whole number without quotes, of at most 18 digits; pydantic's `ge` and `le` bound it.
Integer = Annotated[int, _checked(_read_integer)]
# `true` or `false`, without quotes.
Boolean = Annotated[bool, _checked(_read_boolean)]
# A string. One that YAML reads as a number, a boolean or null has to be quoted.
Text = Annotated[str, _checked(read_text)]

# -- values with units -------------------------------------------------------------------------------------


def _durations(least: float, most: float, *, whole: bool) -> str:
    """A pattern that matches the durations from `least` to `most` seconds, in every unit."""
    choices = []
    for unit, milliseconds in units.MILLISECONDS.items():
        if whole and unit == "ms":
            continue
        low = -(-round(least * 1000) // milliseconds)
        high = round(most * 1000) // milliseconds
        if high >= max(low, 1):
            choices.append(pattern_up_to(max(low, 1), high) + unit)
    return f"^(?:{'|'.join(choices)})$"


# Examples of durations, of which a type with bounds takes the first that fits.
_DURATIONS = ("30s", "1m", "10s", "1s", "100ms", "1ms", "1h", "1d")


def duration(
    least: float = _MIN_DURATION,
    most: float = _MAX_DURATION,
    *,
    whole: bool = False,
    off: bool = False,
) -> Form:
    """A duration in seconds, a float, from `least` to `most`; written like `500ms`, `30s` or `2h`.

    `whole`: whole seconds only, for what the kernel counts in seconds. `off`: the value may be `off`, which
    is None. Use it as `Annotated[float, duration(1, 3600)]`, or with `float | None` where it may be `off`.
    """

    def read(value: object, _info: ValidationInfo) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = float(value)
            text = units.format_duration(seconds)
        else:
            text = _scalar(value, "a duration like 30s")
            if re.fullmatch("[0-9]{1,9}", text) and int(text):
                example = f"{text}s" if least <= int(text) <= most else "ms, s, m, h or d after it"
                raise ValueError(f"{text} has no unit: write {example}")
            seconds = units.duration(text, least, most)
            if whole and text.endswith("ms"):
                raise ValueError(f"{shown(text)} is not in whole seconds: write s, m or h")
        if not least <= seconds <= most:
            span = f"{units.format_duration(least)} to {units.format_duration(most)}"
            raise ValueError(f"{text} is out of range ({span})")
        return seconds

    title = "duration"
    if (least, most) != (_MIN_DURATION, _MAX_DURATION):
        title += f", {units.format_duration(least)} to {units.format_duration(most)}"
    schema: JsonSchema = {"title": title, "type": "string", "pattern": _durations(least, most, whole=whole)}
    fits = (text for text in _DURATIONS if least <= units.duration(text) <= most)
    schema["examples"] = [next(fits, units.format_duration(least))]
    return Form(read, units.format_duration, schema, off)


_SIZES = ("64KiB", "1MiB", "1KiB", "1GiB", "1B")  # as _DURATIONS


def size(least: int = 1, most: int = _MAX_SIZE, *, off: bool = False) -> Form:
    """A size in bytes, an int, from `least` to `most`; written like `64KiB` or `10MB`.

    `off`: the value may be `off`, which is None. Use it as `Annotated[int, size(1024, 2**30)]`.
    """

    def read(value: object, _info: ValidationInfo) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            count = value
            text = units.format_size(count)
        else:
            text = _scalar(value, "a size like 64KiB")
            if re.fullmatch("[0-9]{1,18}", text) and int(text):
                raise ValueError(f"{text} has no unit: write {units.format_size(int(text))}")
            count = units.size(text)
        if not least <= count <= most:
            span = f"{units.format_size(least)} to {units.format_size(most)}"
            raise ValueError(f"{text} is out of range ({span})")
        return count

    choices = []
    for unit, factor in units.BYTES.items():
        low, high = -(-least // factor), min(most // factor, 999_999_999)
        if high >= low:
            choices.append(pattern_up_to(low, high) + unit)
    title = "size"
    if (least, most) != (1, _MAX_SIZE):
        title += f", {units.format_size(least)} to {units.format_size(most)}"
    schema: JsonSchema = {"title": title, "type": "string", "pattern": f"^(?:{'|'.join(choices)})$"}
    fits = (text for text in _SIZES if least <= units.size(text) <= most)
    schema["examples"] = [next(fits, units.format_size(least))]
    return Form(read, units.format_size, schema, off)


def rate(*, off: bool = False) -> Form:
    """A rate, a `sockd.base.units.Rate`: a count of at least 1 per second, minute or hour, like `20/s`."""

    def read(value: object, _info: ValidationInfo) -> units.Rate:
        if isinstance(value, units.Rate):
            return value
        text = _scalar(value, "a rate like 20/s")
        if re.fullmatch("[0-9]{1,9}", text) and int(text):
            raise ValueError(f"{text} has no unit of time: write {text}/s")
        written = units.rate(text)
        if not written.count:
            raise ValueError(f"{shown(text)} lets nothing through: write 1/h or more")
        return written

    pattern = f"^{pattern_up_to(1, 999_999_999)}/[smh]$"
    return Form(read, str, {"title": "rate", "type": "string", "pattern": pattern, "examples": ["20/s"]}, off)


def number(least: int, most: int, *, off: bool = False) -> Form:
    """A whole number from `least` to `most`, where the value may be `off`; `Integer` is for any other."""

    def read(value: object, _info: ValidationInfo) -> int:
        count = value if isinstance(value, int) and not isinstance(value, bool) else _read_integer(value)
        if count < least:
            raise ValueError(f"{count} is too small: at least {least}")
        if count > most:
            raise ValueError(f"{count} is too large: at most {most}")
        return count

    schema = {
        "title": f"whole number, {least} to {most}",
        "type": "integer",
        "minimum": least,
        "maximum": most,
    }
    return Form(read, int, schema, off)


# Seconds: from 1 ms to a week.
Duration = Annotated[float, duration()]
OptionalDuration = Annotated[float | None, duration(off=True)]
# Bytes: from 1 to 1 TiB.
Size = Annotated[int, size()]
OptionalSize = Annotated[int | None, size(off=True)]
# How often something may happen, as a `sockd.base.units.Rate`: the count is also the size of a burst.
Rate = Annotated[units.Rate, rate()]
OptionalRate = Annotated[units.Rate | None, rate(off=True)]

# -- files and users ---------------------------------------------------------------------------------------

_ACCOUNT = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\$?"


def _read_mode(value: object, _info: ValidationInfo) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = _scalar(value, "a file mode like 0660")
    if not re.fullmatch("0?[0-7]{1,3}", text):
        raise ValueError(f"{shown(text)} is not a file mode: write octal digits, at most 0777, like 0660")
    return int(text, 8)


def _read_path(value: object, _info: ValidationInfo) -> Path:
    if isinstance(value, Path):
        return value
    text = read_text(value)
    if not text or "\0" in text:
        raise ValueError(f"{shown(text)} is not a path")
    if text.startswith("~"):
        raise ValueError(f"{shown(text)}: '~' has no meaning here, write the whole path")
    if len(text) > _MAX_PATH_LENGTH:
        raise ValueError(f"the path has {len(text)} characters: at most {_MAX_PATH_LENGTH} are possible")
    return Path(text)


def read_file_path(value: object, info: ValidationInfo) -> Path:
    """The path of a file that is read: see FilePath."""
    path = _read_path(value, info)
    beside = (info.context or {}).get("beside")
    return path if beside is None else beside / path


def _read_log_path(value: object, info: ValidationInfo) -> Path:
    path = _read_path(value, info)
    directories = (info.context or {}).get("directories")
    if directories is None:
        return path
    whole: Path = directories.logs / path
    try:
        if whole.is_dir():
            raise ValueError(f"{shown(str(whole))} is a directory: write the path of a file in it")
    except OSError:
        pass  # what is there can't be known here
    return whole


def _read_version(value: object, _info: ValidationInfo) -> str:
    text = _scalar(value, "a version of TLS, 1.2 or 1.3,")
    if text not in _TLS_VERSIONS:
        raise ValueError(f"{shown(text)} is not a version of TLS that sockd speaks: write 1.2 or 1.3")
    return text


def read_account(value: object, _info: ValidationInfo | None = None) -> str | int:
    """A user's or a group's name or number; ValueError where it is neither."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = _scalar(value, "a name or a number")
    kind = read_as(value)
    if kind == "number" and re.fullmatch("0|[1-9][0-9]{0,9}", text) and int(text) < 2**32 - 1:
        return int(text)
    if kind != "string" or not re.fullmatch(_ACCOUNT, text):
        raise ValueError(f"{shown(text)} is neither a name nor a number from 0 to {2**32 - 2}")
    return text


# YAML 1.2 reads 0660 as the number 660, so the schema lists every number whose digits are an octal mode.
MODE_SCHEMA: JsonSchema = {
    "title": "file mode",
    "examples": ["0660"],
    "anyOf": [
        {"enum": [int(f"{mode:o}") for mode in range(0o1000)]},
        {"type": "string", "pattern": "^0?[0-7]{1,3}$"},
    ],
}

ACCOUNT_SCHEMA: JsonSchema = {
    "title": "name or number",
    "anyOf": [
        {"type": "string", "pattern": f"^{_ACCOUNT}$"},
        {"type": "integer", "minimum": 0, "maximum": 2**32 - 2},
    ],
}
_PATH_SCHEMA: JsonSchema = {
    "title": "path",
    "type": "string",
    "maxLength": _MAX_PATH_LENGTH,
    "pattern": r"^[^~\u0000][^\u0000]*$",
}
_VERSION_SCHEMA: JsonSchema = {
    "title": "`1.2` or `1.3`",
    "enum": [*_TLS_VERSIONS, *map(float, _TLS_VERSIONS)],
}

# The permission bits of a file, an int, written in octal like 0660.
Mode = Annotated[int, Form(_read_mode, "{:04o}".format, MODE_SCHEMA)]
# The path of a file that is written, such as a log: relative ones are below the directory for logs.
LogPath = Annotated[Path, Form(_read_log_path, str, _PATH_SCHEMA)]
# The path of a file that is read: in a protocol's options a relative one is below the directory of the file
# that has it, and elsewhere what uses it makes it absolute.
FilePath = Annotated[Path, Form(read_file_path, str, _PATH_SCHEMA)]
FilePathIfAny = Annotated[Path | None, Form(read_file_path, str, _PATH_SCHEMA)]  # None can't be written
FilePathOrOff = Annotated[Path | None, Form(read_file_path, str, _PATH_SCHEMA, off=True)]
# A version of TLS.
Version = Annotated[str, Form(_read_version, str, _VERSION_SCHEMA)]
# A user or a group of the system, by name or number; None is `off`. Names are not looked up here.
Account = Annotated[str | int | None, Form(read_account, lambda account: account, ACCOUNT_SCHEMA, off=True)]

# -- networks ----------------------------------------------------------------------------------------------


# What people write where they mean every address.
_MEANT_AS_ALL = ("*", "all", "any", "anyone", "everyone", "world")


def read_networks(value: object, _info: ValidationInfo) -> tuple[IPv4Network | IPv6Network, ...]:
    """The networks that one text or a list of them is; ValueError where one isn't a network."""
    return tuple(_network(item) for item in (value if isinstance(value, list | tuple) else (value,)))


def _network(value: object) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    text = _scalar(value, "a network like 192.0.2.0/24")
    if text.lower() in _MEANT_AS_ALL:
        raise ValueError(f"{shown(text)} is not a network: leave the key out, or write 0.0.0.0/0 and ::/0")
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{shown(text)} is not a network: write one like 192.0.2.0/24 or 2001:db8::/32"
        ) from None
    if "/" in text and str(network.network_address) != str(ip_network(text.split("/")[0]).network_address):
        raise ValueError(f"{shown(text)} has bits set after its prefix: write {network}")
    return network


NETWORKS_SCHEMA: JsonSchema = {
    "title": "network, or a list of them",
    "examples": ["192.0.2.0/24"],
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}


def write_networks(networks: tuple[IPv4Network | IPv6Network, ...]) -> list[str]:
    """The networks as a file has them."""
    return [str(network) for network in networks]


# IP networks, from one or from a list; an address alone is the network of just this address.
Networks = Annotated[
    tuple[IPv4Network | IPv6Network, ...], Form(read_networks, write_networks, NETWORKS_SCHEMA)
]
