"""Files with factory endpoints, read as `sockd check` reads them, and modules for them to name."""

from pathlib import Path
from typing import Any, cast

from sockd.base.errors import FileWrongError
from sockd.plan.build import read
from sockd.plan.plan import Plan
from sockd.process.directories import Directories
from sockd.protocols.factory.specification import specification
from sockd.protocols.registry import Registry
from tests.fake_registry import Distribution, Point

HEADER = """
from pathlib import Path
from typing import Any, Literal, Optional
from twisted.internet.protocol import Factory, Protocol
from sockd.api import DatagramProtocol, Host
"""


def registry() -> Registry:
    return Registry(
        lambda: cast("Any", [Point("factory", lambda: specification, dist=Distribution("sockd"))])
    )


def module(directory: Path, name: str, text: str) -> Path:
    """Write a module; no two tests may name theirs alike, as they share a process."""
    file = directory / f"{name}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(HEADER + text)
    return file


def plan_of(directory: Path, text: str) -> Plan:
    """The plan of a file in this directory."""
    (directory / "sockd.yaml").write_text(text)
    return read(directory / "sockd.yaml", Directories(Path("/run/sockd"), Path("/var/log/sockd")), registry())


def endpoint(options: str, listen: str = "unix://s") -> str:
    """A file with one endpoint."""
    return f"endpoints:\n  web:\n    listen: [{listen}]\n    protocol: factory\n    options: {options}\n"


def problems(directory: Path, text: str) -> list[str]:
    """What is wrong with a file in this directory, with its place, without the directory's own path."""
    try:
        plan_of(directory, text)
    except FileWrongError as error:
        return [line.replace(f"{directory}/", "") for line in str(error).split("\n")]
    return []


def values(plan: Plan, role: str = "factory") -> dict[str, Any]:
    """What the callable of the first endpoint would be called with."""
    options: Any = plan.endpoints[0].options
    return dict(options.arguments.values[role])
