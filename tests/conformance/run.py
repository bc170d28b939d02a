"""`python -m tests.conformance.run SUITES REACTOR RESULT`: a part of Twisted's own tests, of a reactor.

RESULT becomes a JSON file: how many tests were run, which were skipped and why, and which failed. A process
of its own, as these tests replace the global reactor and want trial around them. Those of TLS need pyOpenSSL,
which Twisted's other end is made of, in PYTHONPATH: the Makefile puts it into .venv/conformance.
"""

import functools
import importlib
import importlib.util
import json
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import TestSuite

from twisted.internet import selectreactor
from twisted.python.reflect import namedAny
from twisted.trial.reporter import VerboseTextReporter
from twisted.trial.runner import TestLoader, TrialRunner

from tests.conformance.inapplicable import INAPPLICABLE

# Nothing here needs so long (seconds) if it works; Twisted's own limit is two minutes.
LIMIT = 5

# Tests of what the installed reactor does; some look at its connections.
INSTALLED = {
    "installed": (
        "internet",
        "policies",
        "process",
        "stdio",
        "tcp",
        "tcp_internals",
        "threads",
        "udp",
        "unix",
    ),
    "installed-transports": ("policies", "tcp", "unix"),
}

# Suites whose connections can be sockd's transports, by what they are asked for.
TRANSPORTS = {
    "transports": (
        "AbortConnectionTests",
        "TCP4ClientTestsBuilder",
        "TCP6ClientTestsBuilder",
        "TCPConnectionTestsBuilder",
        "TCPPortTestsBuilder",
        "TCPTransportTestsBuilder",
        "UNIXTestsBuilder",
        "UnixClientTestsBuilder",
    ),
    # Of TLS.
    "tls-servers": (
        "AbortSSLConnectionTests",
        "SSLClientTestsMixin",
        "StartTLSClientTestsMixin",  # it is Twisted's client that starts it
        "TLSPortTestsBuilder",
    ),
    "tls-clients": ("AbortSSLConnectionTests", "SSLClientTestsMixin"),
    # Of TCP, with TLS instead: those that look at sockd's end, and aren't for TLS too.
    "servers-over-tls": ("TCPConnectionTestsBuilder",),
    "clients-over-tls": ("TCP4ClientTestsBuilder",),
}


def built(reactor: str, only: tuple[str, ...] | None = None) -> Iterator[type]:
    """Of the suites for any reactor (ReactorBuilder) those for this one; they are imported here first."""
    package = importlib.import_module("twisted.internet.test")
    mixins = importlib.import_module("twisted.internet.test.reactormixins")
    mixins.ReactorBuilder._reactors = [reactor]  # noqa: SLF001 - the one place where it names reactors
    ending = f"_{reactor.rpartition('.')[2]}Tests"
    for found in pkgutil.iter_modules(package.__path__):
        if not found.name.startswith("test_") or found.name == "test_reactormixins":  # the mixins' own tests
            continue
        for name, one in vars(imported(f"twisted.internet.test.{found.name}")).items():
            wanted = only is None or name.removesuffix(ending) in only
            if wanted and name.endswith(ending) and isinstance(one, type):
                yield one


def imported(name: str) -> ModuleType:
    """A module of tests; one for another platform says so by an exception, and has none for us."""
    try:
        return importlib.import_module(name)
    except Exception as error:
        if type(error).__name__ != "SkipTest":
            raise
        return ModuleType(name)


def skipping(method: Callable[..., object], why: str) -> Callable[..., object]:
    """The same test, which trial skips."""

    @functools.wraps(method)
    def skipped(*_: object) -> None: ...

    skipped.skip = why  # type: ignore[attr-defined]
    return skipped


def suites(which: str, reactor: str) -> TestSuite:
    loader = TestLoader()
    if modules := INSTALLED.get(which):
        namedAny(f"{reactor}.install")()
        found = [importlib.import_module(f"twisted.test.test_{module}") for module in modules]
        leave_out(reactor, (one for module in found for one in loader.findTestClasses(module)))
        return TestSuite(map(loader.loadModule, found))
    selectreactor.install()  # as in trial; the tests make their own
    classes = list(built(reactor, TRANSPORTS.get(which)))
    for one in classes:
        one.timeout = LIMIT  # type: ignore[attr-defined]
    leave_out(reactor, classes)
    return TestSuite(map(loader.loadClass, classes))


def leave_out(reactor: str, classes: Iterable[type]) -> None:
    """What doesn't apply is not run."""
    for one in classes:
        for name, why in INAPPLICABLE.get(reactor.rpartition(".")[2], {}).items():
            if method := getattr(one, name, None):
                setattr(one, name, skipping(method, why))


def main(which: str, reactor: str, result: Path) -> None:
    if importlib.util.find_spec("hamcrest") is None:
        sys.path.append(str(Path(__file__).parent / "stand_in"))
    runner = TrialRunner(VerboseTextReporter, workingDirectory=str(result.parent / "trial"))
    done: Any = runner.run(suites(which, reactor))
    report = {
        "run": done.testsRun,
        "skipped": {test.id(): str(why) for test, why in done.skips},
        "failed": sorted({test.id() for test, _ in (*done.failures, *done.errors)}),
    }
    result.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
