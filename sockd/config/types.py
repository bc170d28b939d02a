"""The types of the file's values: each reads the text that was written, and says in the schema what it takes.

For models, the protocols' options too: `history: Integer = Field(20, ge=0, le=1000, description="...")`.
They take values that are typed already as well, so that Python code can write `ChatOptions(history=5)`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from sockd.base import units
from sockd.config.values import read_as, shown


def pattern_up_to(low: int, high: int) -> str:
    """A pattern of the numbers from `low` to `high` in decimal, without leading zeros."""
    choices = []
    if low == 0:
        choices.append("0")
        low = 1
    if low == 1 and high >= 10:
        full = len(str(high + 1)) - 1  # numbers of so many digits are all in the range
        choices.append("[1-9]" if full == 1 else f"[1-9][0-9]{{0,{full - 1}}}")
        low = 10**full
    while low <= high:
        # The widest block of numbers that is a fixed head followed by free digits,
        free = 0
        while low % 10 ** (free + 1) == 0 and low + 10 ** (free + 1) - 1 <= high:
            free += 1
        block = 10**free
        # repeated for as many values of the head's last digit as the range has.
        head, first = divmod(low // block, 10)
        last = first
        while last < 9 and low + (last - first + 2) * block - 1 <= high:
            last += 1
        digits = str(first) if first == last else f"[{first}-{last}]"
        choices.append(f"{head or ''}{digits}{_free_digits(free)}")
        low += (last - first + 1) * block
    return choices[0] if len(choices) == 1 else f"(?:{'|'.join(choices)})"


def _free_digits(count: int) -> str:
    return "" if not count else "[0-9]" if count == 1 else f"[0-9]{{{count}}}"


OFF = "off"
NOTHING = (
    "none|never|no|null|nil|false|disabled?|unlimited|infinit[ey]|forever|-|0.{0,3}"  # is not taken for off
)
LONGEST_PATH = 1024
VERSIONS = ("1.2", "1.3")  # of TLS
SHORTEST_DURATION = 0.001
LONGEST_DURATION = 7 * 86400.0  # a week; far below what epoll can wait
LARGEST_SIZE = 2**40

JsonSchema = dict[str, Any]


def wrong(text: str) -> PydanticCustomError:
    """An error whose message is exactly this text."""
    return PydanticCustomError("sockd", "{text}", {"text": text})


@dataclass(frozen=True, eq=False)
class Form:
    """How one type is read from text, written as text, and described to editors."""

    read: Callable[[Any, ValidationInfo], Any]
    write: Callable[[Any], Any]
    schema: JsonSchema
    off: bool = False

    def _read(self, value: Any, info: ValidationInfo) -> Any:
        if self.off and (value is None or value == OFF):
            return None
        if self.off and read_as(value) == "null":
            raise wrong("there is no value here: write off, or leave the key out")
        try:
            return self.read(value, info)
        except ValueError as problem:
            raise wrong(f"{problem}{self._or_off(value)}") from None

    def _or_off(self, value: Any) -> str:
        """What to add to a problem where `off` may have been meant."""
        meant = self.off and isinstance(value, str) and re.fullmatch(NOTHING, value, re.IGNORECASE)
        return ", or off" if meant else ""

    def _write(self, value: Any) -> Any:
        return OFF if value is None else self.write(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            self._read, serialization=core_schema.plain_serializer_function_ser_schema(self._write)
        )

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        if not self.off:
            return dict(self.schema)
        title = f"{self.schema['title']}, or off"
        return {"title": title, "anyOf": [{"const": OFF}, self.schema]}


# -- plain values ------------------------------------------------------------------------------------------


def _scalar(value: Any, form: str) -> str:
    """The text of a scalar; ValueError for a list, a mapping or nothing at all."""
    kind = read_as(value)
    if kind in ("list", "mapping"):
        raise ValueError(f"{form} is expected here, not a {kind}")
    if kind == "null":
        raise ValueError(f"there is no value here: write {form}, or leave the key out")
    return str(value)


def _read_integer(value: Any) -> Any:
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


def _read_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    text = _scalar(value, "true or false")
    if text in ("true", "false"):
        if read_as(value) == "boolean":
            return text == "true"
        raise wrong(f"{shown(text)} is in quotes: write {text}")
    raise wrong(f"{shown(text)} is neither true nor false")


def read_text(value: Any) -> str:
    """A string; ValueError where YAML reads the unquoted text as something else."""
    text = _scalar(value, "text")
    kind = read_as(value)
    if kind != "string":
        raise wrong(f'{text} without quotes is a {kind} in YAML: write "{text}"')
    return text


def _named(value: Any) -> Any:
    try:
        return read_text(value)
    except ValueError as problem:
        raise wrong(str(problem)) from None


def _caught(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def reading(value: Any) -> Any:
        try:
            return read(value)
        except ValueError as problem:
            raise wrong(str(problem)) from None

    return reading


Integer = Annotated[int, BeforeValidator(_caught(_read_integer))]
Boolean = Annotated[bool, BeforeValidator(_caught(_read_boolean))]
Text = Annotated[str, BeforeValidator(_named)]

# -- values with units -------------------------------------------------------------------------------------


def _durations(least: float, most: float, *, whole: bool) -> str:
    """The pattern of every duration from `least` to `most` seconds."""
    choices = []
    for unit, milliseconds in units.MILLISECONDS.items():
        if whole and unit == "ms":
            continue
        low = -(-round(least * 1000) // milliseconds)
        high = round(most * 1000) // milliseconds
        if high >= max(low, 1):
            choices.append(pattern_up_to(max(low, 1), high) + unit)
    return f"^(?:{'|'.join(choices)})$"


def duration(
    least: float = SHORTEST_DURATION,
    most: float = LONGEST_DURATION,
    *,
    whole: bool = False,
    off: bool = False,
) -> Form:
    """Seconds, from `least` to `most`; `whole` for those that the kernel counts in seconds."""

    def read(value: Any, _info: ValidationInfo) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = float(value)
            text = units.format_duration(seconds)
        else:
            text = _scalar(value, "a duration like 30s")
            if re.fullmatch("[0-9]{1,9}", text) and int(text):
                raise ValueError(f"{text} has no unit: write {text}s")
            seconds = units.duration(text)
            if whole and text.endswith("ms"):
                raise ValueError(f"{shown(text)} is not in whole seconds: write s, m or h")
        if not least <= seconds <= most:
            span = f"{units.format_duration(least)} to {units.format_duration(most)}"
            raise ValueError(f"{text} is out of range ({span})")
        return seconds

    title = "duration"
    if (least, most) != (SHORTEST_DURATION, LONGEST_DURATION):
        title += f", {units.format_duration(least)} to {units.format_duration(most)}"
    schema = {"title": title, "type": "string", "pattern": _durations(least, most, whole=whole)}
    return Form(read, units.format_duration, schema, off)


def size(least: int = 1, most: int = LARGEST_SIZE, *, off: bool = False) -> Form:
    """Bytes, from `least` to `most`."""

    def read(value: Any, _info: ValidationInfo) -> int:
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
    if (least, most) != (1, LARGEST_SIZE):
        title += f", {units.format_size(least)} to {units.format_size(most)}"
    schema = {"title": title, "type": "string", "pattern": f"^(?:{'|'.join(choices)})$"}
    return Form(read, units.format_size, schema, off)


def rate(*, off: bool = False) -> Form:
    """So many per second, minute or hour; at least 1."""

    def read(value: Any, _info: ValidationInfo) -> units.Rate:
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
    return Form(read, str, {"title": "rate", "type": "string", "pattern": pattern}, off)


def number(least: int, most: int, *, off: bool = False) -> Form:
    """A whole number from `least` to `most`, for a value that may be `off`."""

    def read(value: Any, _info: ValidationInfo) -> int:
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


Duration = Annotated[float, duration()]
OptionalDuration = Annotated[float | None, duration(off=True)]
Size = Annotated[int, size()]
OptionalSize = Annotated[int | None, size(off=True)]
Rate = Annotated[units.Rate, rate()]
OptionalRate = Annotated[units.Rate | None, rate(off=True)]

# -- files and users ---------------------------------------------------------------------------------------


def _read_mode(value: Any, _info: ValidationInfo) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = _scalar(value, "a file mode like 0660")
    if not re.fullmatch("0?[0-7]{1,3}", text):
        raise ValueError(f"{shown(text)} is not a file mode: write octal digits, at most 0777, like 0660")
    return int(text, 8)


def _read_path(value: Any, _info: ValidationInfo) -> Path:
    if isinstance(value, Path):
        return value
    text = read_text(value)
    if not text or "\0" in text:
        raise ValueError(f"{shown(text)} is not a path")
    if text.startswith("~"):
        raise ValueError(f"{shown(text)}: '~' has no meaning here, write the whole path")
    if len(text) > LONGEST_PATH:
        raise ValueError(f"the path has {len(text)} characters: at most {LONGEST_PATH} are possible")
    return Path(text)


def _read_log_path(value: Any, info: ValidationInfo) -> Path:
    path = _read_path(value, info)
    directories = (info.context or {}).get("directories")
    return path if directories is None else directories.logs / path


def _read_version(value: Any, _info: ValidationInfo) -> str:
    text = _scalar(value, "a version of TLS, 1.2 or 1.3,")
    if text not in VERSIONS:
        raise ValueError(f"{shown(text)} is not a version of TLS that is spoken here: write 1.2 or 1.3")
    return text


def read_account(value: Any, _info: ValidationInfo | None = None) -> str | int:
    """A name or a number; ValueError where it is neither."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = _scalar(value, "a name or a number")
    kind = read_as(value)
    if kind == "number" and re.fullmatch("0|[1-9][0-9]{0,9}", text) and int(text) < 2**32 - 1:
        return int(text)
    if kind != "string" or not re.fullmatch(_ACCOUNT, text):
        raise ValueError(f"{shown(text)} is neither a name nor a number from 0 to {2**32 - 2}")
    return text


_ACCOUNT = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\$?"

# YAML 1.2 reads 0660 as the number 660: these are the numbers that are octal digits.
MODE_SCHEMA: JsonSchema = {
    "title": "file mode",
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
    "maxLength": LONGEST_PATH,
    "pattern": r"^[^~\u0000][^\u0000]*$",
}
_VERSION_SCHEMA: JsonSchema = {"title": "`1.2` or `1.3`", "enum": [*VERSIONS, *map(float, VERSIONS)]}

Mode = Annotated[int, Form(_read_mode, "{:04o}".format, MODE_SCHEMA)]
LogPath = Annotated[Path, Form(_read_log_path, str, _PATH_SCHEMA)]
FilePath = Annotated[Path, Form(_read_path, str, _PATH_SCHEMA)]
FilePathIfAny = Annotated[Path | None, Form(_read_path, str, _PATH_SCHEMA)]  # None can't be written
FilePathOrOff = Annotated[Path | None, Form(_read_path, str, _PATH_SCHEMA, off=True)]
Version = Annotated[str, Form(_read_version, str, _VERSION_SCHEMA)]
Account = Annotated[
    str | int | None,
    Form(
        read_account,
        lambda account: account,
        ACCOUNT_SCHEMA,
        off=True,
    ),
]

# -- networks ----------------------------------------------------------------------------------------------


def read_networks(value: Any, _info: ValidationInfo) -> tuple[IPv4Network | IPv6Network, ...]:
    """Networks from one or a list; ValueError where one is none."""
    return tuple(_network(item) for item in (value if isinstance(value, list | tuple) else (value,)))


def _network(value: Any) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    text = _scalar(value, "a network like 192.0.2.0/24")
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{shown(text)} is not a network: write one like 192.0.2.0/24 or 2001:db8::/32"
        ) from None
    if "/" in text and str(network.network_address) != str(ip_network(text.split("/")[0]).network_address):
        raise ValueError(f"{shown(text)} has bits set behind its prefix: write {network}")
    return network


NETWORKS_SCHEMA: JsonSchema = {
    "title": "network, or a list of them",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}


def write_networks(networks: tuple[IPv4Network | IPv6Network, ...]) -> list[str]:
    return [str(network) for network in networks]


Networks = Annotated[
    tuple[IPv4Network | IPv6Network, ...], Form(read_networks, write_networks, NETWORKS_SCHEMA)
]
