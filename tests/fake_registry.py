"""Protocols for tests of the file: none of them runs, some of them are broken."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, Field, field_validator

from sockd.base.units import Rate
from sockd.config.types import Boolean, Duration, Integer, LogPath, Mode, Networks, OptionalRate, Size, Text
from sockd.protocols.contract import Options, Specification
from sockd.protocols.registry import Registry


class Nested(BaseModel):
    """Options may hold mappings of their own, and plain pydantic types."""

    level: int = 1


class SampleOptions(Options):
    """One option of each type."""

    word: Text = Field("word", max_length=8, description="A word.")
    count: Integer = Field(3, ge=0, le=10, description="A number.")
    flag: Boolean = Field(False, description="Whether.")
    wait: Duration = Field(1.0, description="A time.")
    room: Size = Field(1024, description="A size.")
    rate: OptionalRate = Field(None, description="A rate.")
    mode: Mode = Field(0o600, description="A mode.")
    networks: Networks = Field((), description="Networks.")
    nested: Nested = Field(Nested(), description="More.")


class FileOptions(Options):
    """A file that only one endpoint may write."""

    path: LogPath = Field(description="A file.")

    def claims(self) -> tuple[str, ...]:
        return (str(self.path),)


class FaultyOptions(Options):
    """A third party's validator with a bug."""

    value: Any = None

    @field_validator("value")
    @classmethod
    def check(cls, value: object) -> object:
        raise RuntimeError(f"what is {value}?")


def _never(_host: object) -> Any:
    raise AssertionError("nothing runs here")


SAMPLE = Specification("a sample", SampleOptions, stream=_never, datagram=_never, idle=30.0)
PROTOCOLS: dict[str, Any] = {
    "sample": SAMPLE,
    "streams": Specification("streams only", Options, stream=_never, idle=60.0),
    "datagrams": Specification("datagrams only", Options, datagram=_never, datagrams=Rate(100, 1.0)),
    "file": Specification("a file", FileOptions, stream=_never, datagram=_never),
    "faulty": Specification("its options raise", FaultyOptions, stream=_never),
}


@dataclass
class Distribution:
    name: str = "sockd-samples"
    version: str = "1.2"


@dataclass
class Point:
    """An entry point, as far as the registry looks at it."""

    name: str
    load: Callable[[], Any]
    value: str = "samples:specification"
    dist: Distribution | None = None


def _raise(error: BaseException) -> Callable[[], Any]:
    def load() -> Any:
        raise error

    return load


def _give(value: Any) -> Callable[[], Any]:
    return lambda: value


def points() -> list[Point]:
    found = [Point(name, _give(value), dist=Distribution()) for name, value in PROTOCOLS.items()]
    return [
        *found,
        Point(
            "broken",
            _raise(ImportError("No module named 'nowhere'\n(really)")),
            dist=Distribution("sockd-broken"),
        ),
        Point("leaving", _raise(SystemExit(3)), dist=Distribution("sockd-leaving")),
        Point("text", _give("no specification")),
        Point("double", _give(SAMPLE), dist=Distribution("sockd-one")),
        Point("double", _give(SAMPLE), dist=Distribution("sockd-two")),
    ]


def registry() -> Registry:
    return Registry(cast("Any", points))
