"""The user's file and what stands in it: text, values, addresses, a whole plan."""

import atexit
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml

from sockd.base import addresses
from sockd.base.addresses import MAX_PATH_BYTES, Address, AddressError
from sockd.base.errors import FileWrongError, Problem
from sockd.config import document, source
from sockd.plan import build, show
from sockd.process.directories import Directories
from sockd.protocols.registry import Registry, of_distribution
from tests.fuzz.parsers.checks import is_message

_BaseLoader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_NAME = "sockd.yaml"
_registry = Registry(of_distribution("sockd"))
_scratch: list[tempfile.TemporaryDirectory[str]] = []


def read_document(data: bytes) -> None:
    """Values or problems; without problems, the values that PyYAML itself makes of the text."""
    try:
        text = source.decode(data, _NAME)
    except source.UnreadableError as error:
        _is_problem(error.problem)
        return
    read = document.parse(text, _NAME)
    for problem in read.problems:
        _is_problem(problem)
        assert problem.place.line <= text.count("\n") + text.count("\r") + 2, (
            problem
        )  # the end is a place too
    if not read.problems:
        with suppress(yaml.composer.ComposerError):  # of an anchor that is there twice, which YAML allows
            assert read.root == yaml.load(text, Loader=_BaseLoader)


def read_plan(data: bytes) -> None:
    """A plan, of which `sockd check --yaml` writes a file that gives the same plan, or problems."""
    file = _directory() / _NAME
    file.write_bytes(data)
    directories = Directories(Path("/run/sockd"), Path("/var/log/sockd"))
    try:
        read = build.read(file, directories, _registry)
    except FileWrongError as error:
        _are_problems(error.problems)
        return
    _are_problems(read.warnings)
    for line in show.table(read, 0.0).splitlines():
        assert line.isprintable(), line
    file.write_text(show.render(read))
    assert build.read(file, directories, _registry) == read


def read_address(data: bytes) -> None:
    """An address that is written as it is read, or one line that says what is wrong."""
    text = data.decode(errors="replace")
    for parse in (addresses.parse, addresses.parse_path):
        try:
            address = parse(text)
        except AddressError as error:
            is_message(str(error))
            continue
        _is_address(address)


def _is_address(address: Address) -> None:
    assert addresses.parse(str(address)) == address
    assert str(address).isprintable()
    assert addresses.overlap(address, address) or not (address.port or address.path)
    if address.kind.inet:
        assert 0 <= address.port <= 65535
        if address.host != "*":
            assert str(ip_address(address.host)) == address.host
    with suppress(AddressError):
        resolved = addresses.resolve(address, Path("/run/sockd"))
        if resolved.kind.local:
            assert len(resolved.path.encode()) <= MAX_PATH_BYTES
            assert resolved.path.startswith(("/", "@"))


def _are_problems(problems: Iterable[Problem]) -> None:
    for problem in problems:
        _is_problem(problem)


def _is_problem(problem: Problem) -> None:
    is_message(problem.text)
    assert problem.path.isprintable(), problem
    assert problem.place.line >= 0, problem
    assert problem.place.column >= 1, problem


def _directory() -> Path:
    """An own one; include: '*' finds nothing else there."""
    if not _scratch:
        _scratch.append(tempfile.TemporaryDirectory(prefix="sockd-fuzz-"))
        atexit.register(_scratch[0].cleanup)
    return Path(_scratch[0].name)
