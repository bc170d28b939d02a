"""The keys of the main file; a file that it includes has only `endpoints`."""

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema

from sockd.base import addresses
from sockd.base.addresses import Address, Kind
from sockd.config.form import MEANT_AS_OFF, Form, Section, wrong
from sockd.config.guards import Access, Tls
from sockd.config.model import NAME, Endpoint, EndpointLog, Limits, Restart, Socket
from sockd.config.types import Account, duration, read_text
from sockd.config.values import shown

# A path: without control characters, and without a leading '~', which nothing expands.
_PATH = r"[^~\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*"

_TARGETS = ("auto", "stdout", "stderr")


def _read_target(value: object, _info: ValidationInfo) -> str:
    text = read_text(value)
    # A word alone was hardly meant as a file's name: `journal`, `syslog`, `none`.
    if text not in _TARGETS and not (re.fullmatch(_PATH, text) and ("/" in text or "." in text)):
        raise wrong(f"{shown(text)} is no place for a log: write auto, stdout, stderr, or a path like x.log")
    return text


LogTarget = Annotated[
    str,
    Form(
        _read_target,
        str,
        {
            "title": "auto, stdout, stderr, or a path",
            "type": "string",
            "pattern": f"^(?:{'|'.join(_TARGETS)}|(?=.*[./]){_PATH})$",
        },
    ),
]


class Log(Section):
    """What the daemon logs."""

    level: Literal["debug", "info", "warn", "error", "critical"] = Field(
        "info", description="The least grave level that is logged."
    )
    format: Literal["auto", "text", "json", "journal"] = Field(
        "auto",
        description="`journal` marks each line with its level for systemd; `auto` is `journal` under systemd,"
        " `text` on a terminal, `json` elsewhere.",
    )
    to: LogTarget = Field(
        "auto",
        description="Where it goes: `stdout`, `stderr`, or a file, whose path may be relative to the"
        " directory of logs; `auto` is standard output in the foreground. What `--logfile` says counts more.",
    )


def _read_control(value: object, _info: ValidationInfo) -> Address:
    if isinstance(value, Address):
        return value
    text = read_text(value)
    if re.fullmatch(MEANT_AS_OFF, text, re.IGNORECASE):  # a socket of such a name was hardly meant
        raise wrong(f"{shown(text)} is not a path: write one like control.sock")
    try:
        return addresses.parse_path(text)
    except addresses.AddressError as error:
        raise wrong(str(error)) from None


ControlAddress = Annotated[
    Address | None,
    Form(
        _read_control,
        lambda address: address.path,
        {"title": "path", "type": "string", "pattern": f"^{_PATH}$"},
        off=True,
    ),
]


class Daemon(Section):
    """What concerns the daemon and not a single endpoint."""

    control: ControlAddress = Field(
        Address(Kind.UNIX, path="control.sock"),
        description="The Unix socket by which the `sockd` command speaks to the daemon: a path, as in the"
        " address of a Unix socket, or `off` for none.",
    )
    control_group: Account = Field(
        None,
        description="A group whose members may use the control socket, besides root and sockd's own user.",
    )
    drain: Annotated[float, duration(most=86400)] = Field(
        10.0,
        description="How long connections may take to finish when the daemon stops, before it closes them.",
    )
    log: Log = Field(Log(), description="What is logged, and in which form.")


class Defaults(Section):
    """The values of keys that an endpoint doesn't set itself, each looked up by itself."""

    socket: Socket = Field(Socket(), description="Defaults of the endpoints' `socket`.")
    tls: Tls = Field(Tls(), description="Defaults of the endpoints' `tls`.")
    access: Access = Field(Access(), description="Defaults of the endpoints' `access`.")
    limits: Limits = Field(Limits(), description="Defaults of the endpoints' `limits`.")
    restart: Restart = Field(Restart(), description="Defaults of the endpoints' `restart`.")
    log: EndpointLog = Field(EndpointLog(), description="Defaults of the endpoints' `log`.")


def _read_include(value: object) -> object:
    patterns = value if isinstance(value, list | tuple) else [value]
    return tuple(_read_pattern(pattern) for pattern in patterns)


def _read_pattern(value: object) -> str:
    try:
        text = read_text(value)
    except ValueError as error:
        raise wrong(str(error)) from None
    if not re.fullmatch(_PATH, text):
        raise wrong(f"{shown(text)} is not a path, nor a pattern of paths like conf.d/*.yaml")
    return text


_INCLUDE = {"type": "string", "pattern": f"^{_PATH}$"}


class Main(Section):
    """What the main file may hold."""

    daemon: Daemon = Field(
        Daemon(), description="How the daemon is controlled, how it stops, and what it logs."
    )
    include: Annotated[
        tuple[str, ...],
        BeforeValidator(_read_include),
        WithJsonSchema(
            {"title": "path or pattern, or a list", "anyOf": [_INCLUDE, {"type": "array", "items": _INCLUDE}]}
        ),
    ] = Field(
        (),
        description="More files with endpoints: paths or patterns, relative to this file's directory.",
    )
    defaults: Defaults = Field(
        Defaults(), description="The values of keys that an endpoint doesn't set itself."
    )
    endpoints: dict[Annotated[str, Field(pattern=NAME)], Endpoint] = Field(
        description="The endpoints by name: a lower-case letter, then at most 62 of `a-z0-9._-`."
    )
