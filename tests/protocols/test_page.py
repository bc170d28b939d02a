"""docs/writing-a-protocol.md: it uses sockd.api alone, says what all of it is for, and is typed."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest_twisted
from twisted.internet import reactor
from twisted.logger import Logger

from sockd import api

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "writing-a-protocol.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
GROUP = "sockd.protocols"  # of entry points; a module of the same name is sockd's own


def imported(module: str) -> dict[str, list[str]]:
    """The modules that a text of Python imports, and the names that it takes from each."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(ast.parse(module)):
        if isinstance(node, ast.Import):
            found.update({each.name: [] for each in node.names})
        elif isinstance(node, ast.ImportFrom):
            found.setdefault(str(node.module), []).extend(each.name for each in node.names)
    return found


def test_examples_import_the_api_alone() -> None:
    """No example takes anything of sockd from another module, nor a name that isn't promised."""
    assert len(EXAMPLES) == 3
    for example in EXAMPLES:
        modules = imported(example)
        assert [name for name in modules if name.partition(".")[0] == "sockd"] == ["sockd.api"]
        assert set(modules["sockd.api"]) <= set(api.__all__)


def test_the_text_names_the_api_alone() -> None:
    """No other module of sockd is mentioned."""
    named = set(re.findall(r"\bsockd(?:\.[a-z_]\w*)+", PAGE)) - {GROUP, "sockd.yaml"}
    assert named == {"sockd.api"}


def test_every_promise_is_on_the_page() -> None:
    """Each name of `sockd.api` is in the table of the last section."""
    table = PAGE.partition("## What sockd.api promises")[2]
    assert set(re.findall(r"`(\w+)`", table)) >= set(api.__all__)


def test_the_examples_are_typed(tmp_path: Path) -> None:
    """Each whole module passes `mypy --strict` as it stands, with neither our configuration nor plugins."""
    files = [tmp_path / f"example{number}.py" for number, _ in enumerate(EXAMPLES)]
    for file, example in zip(files, EXAMPLES, strict=True):
        file.write_text(example)
    # The second run takes a second: what Twisted and pydantic are is in the cache.
    cache = ROOT / ".mypy_cache" / "examples"
    # sockd's own modules are looked at for their types alone, as those of an installed package are.
    options = ["--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={cache}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *map(str, files)],
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Socket:
    """A datagram socket that only counts."""

    def __init__(self) -> None:
        self.counters = api.Counters()

    def refuse(self, reason: str, peers: Sequence[api.Peer], why: str = "") -> None:
        self.counters.refused[reason] += len(peers)


@pytest_twisted.ensureDeferred
async def test_the_journal(tmp_path: Path) -> None:
    """The example of a service writes what it notes, and drops and counts while it can't."""
    names: dict[str, Any] = {}
    (text,) = [example for example in EXAMPLES if "Journal" in example]
    exec(compile(text, "journal.py", "exec"), names)
    specification: api.Specification = names["specification"]
    options = specification.options(path=tmp_path / "journal")  # type: ignore[call-arg]
    assert options.claims() == (f"the file {tmp_path / 'journal'}",)
    failed: list[Exception] = []
    host = api.Host("journal", options, cast("api.Reactor", reactor), Logger(), failed.append)
    assert specification.service
    assert specification.datagram
    journal = host.service = specification.service(host)
    await cast("Any", journal.startService())
    protocol, transport = specification.datagram(host), cast("Any", Socket())
    protocol.start(transport)
    protocol.datagrams([(b"hello", api.Peer.inet(("192.0.2.1", 4000)))])
    cast("Any", journal).full = True
    protocol.datagrams([(b"more", api.Peer.inet(("192.0.2.1", 4000)))])
    await cast("Any", journal.stopService())
    assert (tmp_path / "journal").read_text() == "5 bytes from 192.0.2.1:4000\n"
    assert transport.counters.refused == {"journal full": 1}
    assert not failed
