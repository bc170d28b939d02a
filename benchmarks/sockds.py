"""sockd as it is measured: usual door, usual configuration, higher bounds where they would cut the load."""

import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.programs import Server

BIN = Path(sys.executable).parent
DOOR = (str(BIN / "sockd"), "run", "-c", "sockd.yaml")
TWISTD = (str(BIN / "twistd"), "-n", "--pidfile=")  # where it is to have options of twistd's

# More connections than the usual thousand; more datagrams from one source than the usual 5,000 a second.
RAISED = "connections: 20000"
RAISED_DATAGRAMS = "datagrams: 10000000/s, datagrams_per_source: 10000000/s"


@dataclass(frozen=True)
class Variant:
    """One way of running sockd: twistd's options, and the checkout that it is from if not this one."""

    name: str = "sockd"
    options: tuple[str, ...] = ()
    checkout: str = ""

    def start(self, directory: Path, file: str, changes: Mapping[str, str] | None = None) -> Server:
        """It runs on this file, with its sockets and logs in the directory; wait for it as for any server."""
        (directory / "sockd.yaml").write_text(file)
        command = [*TWISTD, *self.options, "sockd", "-c", "sockd.yaml"] if self.options else DOOR
        return Server(self.name, command, directory, {**self.environment(directory), **(changes or {})})

    def environment(self, directory: Path) -> dict[str, str]:
        """What it needs of it: where its sockets and logs are, and its modules."""
        changes = {"RUNTIME_DIRECTORY": str(directory), "LOGS_DIRECTORY": str(directory)}
        if self.checkout:
            before = os.environ.get("PYTHONPATH")
            changes["PYTHONPATH"] = self.checkout + (f":{before}" if before else "")
        return changes


def endpoint(protocol: str, listen: str, options: str = "", limits: str = "", more: str = "") -> str:
    """A file with one endpoint; `limits` are those that are raised for the load, and only those."""
    lines = [f"listen: {listen}", f"protocol: {protocol}"]
    lines += [f"options: {{{options}}}"] if options else []
    lines += [f"limits: {{{limits}}}"] if limits else []
    lines += [more] if more else []
    return "endpoints:\n  bench:\n" + "".join(f"    {line}\n" for line in lines)


def listen(address: str) -> str:
    """sockd's form of `tcp:PORT`, `unix:PATH` and the others."""
    kind, _, where = address.partition(":")
    return f"unix{kind[4:]}://{where}" if kind.startswith("unix") else f"{kind}://127.0.0.1:{where}"


def variants(options: Iterable[str], checkouts: Iterable[str]) -> list[Variant]:
    """sockd as it is, and the others that are to be compared to it in the same run."""
    others = [Variant(f"sockd {one}", tuple(one.split())) for one in options]
    befores = [Variant(f"sockd of {Path(one).name}", (), str(Path(one).resolve())) for one in checkouts]
    return [Variant(), *others, *befores]
