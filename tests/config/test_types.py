"""The types read what was written, take what is typed already, and write it as it is read."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from sockd.base.errors import Place
from sockd.base.units import Rate as RateValue
from sockd.config.types import (
    Account,
    Boolean,
    Duration,
    Integer,
    LogPath,
    Mode,
    Networks,
    OptionalDuration,
    OptionalRate,
    OptionalSize,
    Rate,
    Size,
    Text,
    duration,
    size,
)
from sockd.config.values import Items, Mapping, Scalar, read_as, shown
from sockd.process.directories import Directories
from sockd.protocols.contract import Options

HERE = Place("f")


def read(kind: Any, text: str, *, plain: bool = True) -> Any:
    return TypeAdapter(kind).validate_python(Scalar(text, HERE, plain=plain))


def problem(kind: Any, value: Any) -> str:
    if isinstance(value, str):
        value = Scalar(value, HERE)
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    return str(caught.value.errors()[0]["msg"])


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Integer, "5", 5),
        (Integer, "-5", -5),
        (Integer, "+5", 5),
        (Integer, "5.0", 5),
        (Boolean, "true", True),
        (Boolean, "false", False),
        (Text, "off", "off"),
        (Text, "22:22", "22:22"),
        (Duration, "1500ms", 1.5),
        (OptionalDuration, "off", None),
        (Size, "2KiB", 2048),
        (OptionalSize, "off", None),
        (Rate, "20/s", RateValue(20, 1.0)),
        (OptionalRate, "off", None),
        (Mode, "0660", 0o660),
        (Mode, "660", 0o660),
        (Mode, "7", 7),
        (Account, "adm", "adm"),
        (Account, "33", 33),
        (Account, "off", None),
        (LogPath, "a/b.log", Path("a/b.log")),
        (Networks, "10.0.0.0/8", (ip_network("10.0.0.0/8"),)),
        (Networks, "::1", (ip_network("::1/128"),)),
    ],
)
def test_reads_text(kind: Any, text: str, value: Any) -> None:
    """Unquoted text gives the value; the value is taken as it is, and written so that it reads the same."""
    assert read(kind, text) == value
    adapter = TypeAdapter(kind)
    assert adapter.validate_python(value) == value
    written = adapter.dump_python(value, mode="json")
    items = written if isinstance(written, list) else [written]
    texts = [Scalar(str(item).lower() if isinstance(item, bool) else str(item), HERE) for item in items]
    assert adapter.validate_python(texts if isinstance(written, list) else texts[0]) == value


@pytest.mark.parametrize("form", [duration(2, 5), duration(0.002, 0.05), size(100, 200), size(3000, 2**15)])
def test_a_protocols_own_bounds_have_an_example_within_them(form: Any) -> None:
    (example,) = form.schema["examples"]
    assert TypeAdapter(Annotated[float, form]).validate_python(Scalar(example, HERE))


def test_quotes_make_text() -> None:
    """A number in quotes is text, and a name of digits a name."""
    assert read(Text, "42", plain=False) == "42"
    assert read(Account, "42", plain=False) == "42"
    assert read(Duration, "30s", plain=False) == 30.0
    assert type(read(Text, "word")) is str
    with pytest.raises(ValidationError, match="'5' is in quotes: write 5"):
        read(Integer, "5", plain=False)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (Integer, "five", "'five' is not a whole number"),
        (Integer, "5.5", "'5.5' is not a whole number"),
        (Integer, "1" * 19, "'1111111111111111111' is not a whole number"),
        (Integer, "", "there is no value here: write a whole number, or leave the key out"),
        (Integer, Items(HERE), "a whole number is expected here, not a list"),
        (Integer, "5\n5", "'5\\n5' is not a whole number"),
        (Boolean, "no", "'no' is not a boolean: write false"),
        (Boolean, Mapping(HERE), "true or false is expected here, not a mapping"),
        (Text, "true", 'true without quotes is a boolean in YAML: write "true"'),
        (Text, "~", "there is no value here: write text, or leave the key out"),
        (Duration, "1.5s", "'1.5s' is not a duration: write a whole number and ms, s, m, h or d, like 30s"),
        (Duration, "1w", "'1w' is not a duration: write 7d"),
        (Duration, "5 min", "'5 min' is not a duration: write 5m"),
        (Duration, "2w", "'2w' is not a duration: write a whole number and ms, s, m, h or d, like 30s"),
        (
            Duration,
            "9 days",
            "'9 days' is not a duration: write a whole number and ms, s, m, h or d, like 30s",
        ),
        (Duration, "604800", "604800 has no unit: write 604800s"),
        (Duration, "604801", "604801 has no unit: write ms, s, m, h or d after it"),
        (Duration, "none", "'none' is not a duration: write a whole number and ms, s, m, h or d, like 30s"),
        (
            OptionalDuration,
            "none",
            "'none' is not a duration: write a whole number and ms, s, m, h or d, like 30s, or off",
        ),
        (
            OptionalDuration,
            "0",
            "'0' is not a duration: write a whole number and ms, s, m, h or d, like 30s, or off",
        ),
        (OptionalDuration, "0s", "0s is out of range (1ms to 7d), or off"),
        (OptionalDuration, "8d", "8d is out of range (1ms to 7d)"),
        (OptionalDuration, "null", "there is no value here: write off, or leave the key out"),
        (OptionalDuration, Items(HERE), "a duration like 30s is expected here, not a list"),
        (OptionalRate, "0/s", "'0/s' lets nothing through: write 1/h or more, or off"),
        (Duration, "8d", "8d is out of range (1ms to 7d)"),
        (Duration, 0.0, "0ms is out of range (1ms to 7d)"),
        (Size, "0B", "0B is out of range (1B to 1024GiB)"),
        (Size, 0, "0B is out of range (1B to 1024GiB)"),
        (
            Size,
            "many",
            "'many' is not a size: write a whole number and B, KiB, MiB, GiB, kB, MB or GB, like 64KiB",
        ),
        (Rate, "20/d", "'20/d' is not a rate: write a whole number and /s, /m or /h, like 20/s"),
        (Mode, "999", "'999' is not a file mode: write octal digits, at most 0777, like 0660"),
        (Mode, "1777", "'1777' is not a file mode: write octal digits, at most 0777, like 0660"),
        (Mode, "0o660", "'0o660' is not a file mode: write octal digits, at most 0777, like 0660"),
        (Account, "4294967295", "'4294967295' is neither a name nor a number from 0 to 4294967294"),
        (Account, "-1", "'-1' is neither a name nor a number from 0 to 4294967294"),
        (LogPath, "x" * 1025, "the path has 1025 characters: at most 1024 are possible"),
        (LogPath, "a\0b", "'a\\x00b' is not a path"),
        (Networks, "10.0.0.1/8", "'10.0.0.1/8' has bits set after its prefix: write 10.0.0.0/8"),
        (Networks, "example", "'example' is not a network: write one like 192.0.2.0/24 or 2001:db8::/32"),
        (Networks, "", "there is no value here: write a network like 192.0.2.0/24, or leave the key out"),
    ],
)
def test_problems(kind: Any, value: Any, text: str) -> None:
    """What is wrong is told with the form that is expected."""
    assert problem(kind, value) == text


def test_values_of_other_types_are_left_to_pydantic() -> None:
    """What Python code passes wrongly is still an error."""
    assert problem(Integer, 5.5)
    assert problem(Boolean, 5.5)


class Sample(Options):
    count: Integer = Field(5, ge=1, le=9)
    path: LogPath = Path("a.log")
    mode: Mode = 0o600


def test_options_may_be_written_in_python() -> None:
    """Defaults and tests use values that are typed already."""
    assert Sample(count=3).count == 3
    assert Sample(mode=0o640).model_dump(mode="json") == {"count": 5, "path": "a.log", "mode": "0640"}
    assert Sample().claims() == ()


def test_relative_logs_lie_in_the_logs_directory() -> None:
    """The directories come with the question."""
    context = {"directories": Directories(Path("/run"), Path("/var/log/sockd"))}
    read_in = TypeAdapter(LogPath).validate_python
    assert read_in(Scalar("app.log", HERE), context=context) == Path("/var/log/sockd/app.log")
    assert read_in(Scalar("/srv/app.log", HERE), context=context) == Path("/srv/app.log")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (Scalar("", HERE), "null"),
        (Scalar("null", HERE), "null"),
        (Scalar("null", HERE, plain=False), "string"),
        (Scalar("1e3", HERE), "number"),
        (Scalar(".inf", HERE), "number"),
        (Scalar("0x1f", HERE), "number"),
        (Scalar("1_000", HERE), "string"),
        (Scalar("yes", HERE), "string"),
        ("5", "string"),
        (None, "null"),
        (True, "boolean"),
        (5, "number"),
        ({}, "mapping"),
        ((), "list"),
        (object(), "value"),
    ],
)
def test_what_an_editor_takes_a_value_for(value: Any, kind: str) -> None:
    """YAML 1.2's core schema decides what needs quotes."""
    assert read_as(value) == kind


def test_values_are_shown_on_one_line() -> None:
    """Nothing in a message drives a terminal, and nothing long fills it."""
    assert shown("a\x1b\u202e") == "'a\\x1b\\u202e'"
    assert len(shown("x" * 1000)) == 62
