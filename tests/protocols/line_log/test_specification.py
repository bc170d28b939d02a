"""line-log's options, and that its parts fit together."""

import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_twisted
from pydantic import ValidationError
from twisted.internet import reactor as installed
from twisted.logger import Logger

from sockd.base.peers import Peer
from sockd.base.reactor import Reactor
from sockd.protocols.contract import Host
from sockd.protocols.line_log.options import LineLogOptions
from sockd.protocols.line_log.service import LineLogService
from sockd.protocols.line_log.specification import specification
from sockd.sinks.opening import SinkError
from tests.protocols.line_log.connected import Transport

PEER = Peer.unix(0, 7)


def host(path: Path, **options: Any) -> Host[LineLogOptions]:
    failed: list[Exception] = []
    return Host(
        "applog", LineLogOptions(path=path, **options), cast("Reactor", installed), Logger(), failed.append
    )


@pytest.mark.parametrize(
    "options", [{}, {"format": "xml"}, {"max_line": 63}, {"max_line": 2**25}, {"size": 1}]
)
def test_wrong_options(options: dict[str, Any]) -> None:
    """No path, no such format, a bound that is too narrow or too wide, an unknown key."""
    with pytest.raises(ValidationError):
        LineLogOptions(**({"path": Path("app.log")} if options else {}), **options)


def test_defaults() -> None:
    """The options of a file that names the path alone."""
    options = LineLogOptions(path=Path("app.log"))
    assert (options.format, options.max_line, options.mode) == ("text", 64 * 1024, 0o640)


@pytest.mark.parametrize(
    ("form", "last"), [("text", b" hello\n"), ("json", b'"hello"}\n'), ("raw", b"hello\n")]
)
@pytest_twisted.ensureDeferred
async def test_the_parts_fit_together(tmp_path: Path, form: str, last: bytes) -> None:
    """Stream and datagram share the service's file, which a crash had left torn."""
    path = tmp_path / "app.log"
    path.write_bytes(b"torn")
    one = host(path, format=form, mode=0o600)
    assert specification.service
    assert specification.stream
    assert specification.datagram
    one.service = specification.service(one)
    await one.service.startService()
    protocol = specification.stream(one).buildProtocol(None)
    transport = Transport()
    transport.peer = PEER
    protocol.makeConnection(transport)
    protocol.dataReceived(b"from a stream\n")
    specification.datagram(one).datagrams([(b"hello", PEER)])
    await one.service.stopService()
    lines = path.read_bytes().splitlines(keepends=True)
    assert lines[0].startswith(b"torn")
    assert lines[0].endswith(b"\n")
    assert b"from a stream" in lines[-2]
    assert lines[-1].endswith(last)
    assert stat.S_IMODE(path.stat().st_mode) != 0o600  # it was there before


@pytest_twisted.ensureDeferred
async def test_reload(tmp_path: Path) -> None:
    """A new path holds immediately, for open connections too; a new format holds for later ones."""
    one = host(tmp_path / "old.log", format="raw")
    assert specification.service
    assert specification.stream
    service = one.service = specification.service(one)
    assert isinstance(service, LineLogService)
    await service.startService()
    early = specification.stream(one).buildProtocol(None)
    with pytest.raises(SinkError, match="does not exist"):
        await service.reload(LineLogOptions(path=tmp_path / "none" / "new.log"))
    one.options = LineLogOptions(path=tmp_path / "new.log", format="json")
    await service.reload(one.options)
    late = specification.stream(one).buildProtocol(None)
    for protocol, data in ((early, b"early\n"), (late, b"late\n")):
        transport = Transport()
        transport.peer = PEER
        protocol.makeConnection(transport)
        protocol.dataReceived(data)
    await service.stopService()
    assert (tmp_path / "old.log").read_bytes() == b""
    early_line, late_line = (tmp_path / "new.log").read_bytes().splitlines()
    assert early_line == b"early"
    assert late_line.endswith(b'"text":"late"}')


def test_checking_imports_no_shell() -> None:
    """`sockd check` reads the options without the parts that need Twisted's network."""
    load = "import sys, sockd.protocols.line_log.specification; "
    program = load + "print('twisted.internet.protocol' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_two_endpoints_may_not_write_one_file(tmp_path: Path) -> None:
    """Whatever the file is called, through links too; a device may be shared."""
    (tmp_path / "link.log").symlink_to(tmp_path / "app.log")
    one = LineLogOptions(path=tmp_path / "app.log")
    other = LineLogOptions(path=tmp_path / "link.log")
    assert one.claims() == other.claims() != ()
    assert LineLogOptions(path=Path("/dev/null")).claims() == ()
    assert LineLogOptions(path=Path("/dev/stdout")).claims() == ()  # though it may lead to a file
