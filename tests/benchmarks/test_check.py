"""The counts see one more system call, and more work in Python; what can't be counted is said."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.check import bounds
from benchmarks.check.__main__ import Check, main
from benchmarks.check.bounds import Bound, Bounds, Count
from benchmarks.check.counting import Meter, own_cost, per_unit
from benchmarks.check.errors import NotCountableError
from benchmarks.check.instructions import Instructions, build
from benchmarks.check.scenarios import SCENARIOS
from benchmarks.check.subject import Subject
from benchmarks.check.system_calls import SystemCalls, table
from tests.end_to_end.harness import distribution

# An echo that is as ours on Unix sockets, and wastes time on TCP.
WASTEFUL = """
import os
from dataclasses import replace

from twisted.internet.address import UNIXAddress

from sockd.protocols.echo.specification import specification as echo


def stream(host):
    factory = echo.stream(host)
    build = factory.buildProtocol

    def waste(address):
        protocol = build(address)
        if not isinstance(address, UNIXAddress):
            received = protocol.dataReceived

            def slowly(data):
                os.getppid()
                sum(number * number for number in range(40))
                received(data)

            protocol.dataReceived = slowly
        return protocol

    factory.buildProtocol = waste
    return factory


specification = replace(echo, stream=stream)
"""


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def wasteful(directory: Path) -> Mapping[str, str]:
    return distribution(directory, "wasteful", "wasteful:specification", WASTEFUL)


def echoes(meter: Meter, subject: Subject) -> tuple[dict[str, float], dict[str, float]]:
    """What one costs on a Unix socket, and on TCP."""
    own = own_cost(meter, subject)
    tcp, unix = (one for one in SCENARIOS if one.name in ("TCP echo of 100 B", "Unix echo of 100 B"))
    return per_unit(meter, subject, unix, own), per_unit(meter, subject, tcp, own)


def test_one_more_system_call_is_too_much(tmp_path: Path) -> None:
    """It is named, among those of the watch over hosted protocols (`process.watch`) if that looked."""
    need("strace")
    with Subject(tmp_path, (), "wasteful", wasteful(tmp_path)) as subject:
        plain, more = echoes(SystemCalls(subject.pid, tmp_path), subject)
    bound = Bound(*bounds.system_calls(plain, 0.1))
    count, _ = bounds.system_calls(more, 0.1)
    assert bounds.too_much(count, bound), (plain, more)
    assert "getppid" in set(count.kinds) - set(bound.recorded.kinds)


@pytest.mark.slow
def test_more_work_in_python_is_too_much(tmp_path: Path) -> None:
    """A loop of forty."""
    need("valgrind", "vgdb")
    meter = Instructions(tmp_path)
    with Subject(tmp_path, meter.prefix, "wasteful", wasteful(tmp_path)) as subject:
        meter.attach(subject.pid)
        plain, more = echoes(meter, subject)
    bound = Bound(*bounds.instructions(plain))
    assert bounds.too_much(bounds.instructions(more)[0], bound), (plain, more)


def test_the_program_fails_where_there_is_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against what it records it passes, against a lower bound it fails; an unknown Python is said."""
    need("strace")
    file = tmp_path / "bounds.json"
    monkeypatch.setattr("sys.argv", ["check", "--file", str(file), "--only", "Unix echo"])
    (unit,) = (one.name for one in SCENARIOS if one.name.startswith("Unix echo"))
    for most, status in ((4.0, 0), (2.0, 1)):
        file.write_text(bounds.written(Bounds({unit: Bound(Count(2.0), most)})))
        assert main() == status
        said = capsys.readouterr().out
        assert f"Instructions are not checked: no bounds are recorded for {build()}" in said
        assert (f"FAILED: system calls: {unit}\n" in said) == bool(status)
        assert ("; TOO MUCH: the bound is 2; when it was recorded: 2\n" in said) == bool(status)


def test_no_unit_of_that_name_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is counted then."""
    monkeypatch.setattr("sys.argv", ["check", "--only", "telex"])
    with pytest.raises(SystemExit):
        main()
    assert "no unit has 'telex' in its name" in capsys.readouterr().err


@pytest.mark.parametrize(("ci", "user", "fails"), [("true", 0, True), ("true", 1000, False), ("", 0, False)])
def test_what_cannot_be_counted_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ci: str, user: int, fails: bool
) -> None:
    """In CI, where root could install and trace all, it is a failure."""

    def count() -> None:
        raise NotCountableError("strace is not installed")

    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr("os.geteuid", lambda: user)
    check = Check(Bounds(), (), record=False)
    check.run(count)
    assert capsys.readouterr().out == "NOT COUNTED: strace is not installed\n"
    assert bool(check.failed) == fails


def test_without_its_programs_nothing_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is named."""
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(NotCountableError, match="strace is not installed"):
        SystemCalls(1, tmp_path).measure(lambda: None)
    with pytest.raises(NotCountableError, match="valgrind is not installed"):
        Instructions(tmp_path)


def test_a_process_that_cannot_be_traced_is_said(tmp_path: Path) -> None:
    """strace's own words."""
    need("strace")
    with pytest.raises(NotCountableError, match=r"strace can't attach: .*PTRACE"):
        SystemCalls(2**22 + 1, tmp_path).measure(lambda: None)


def test_the_table_of_strace_is_read() -> None:
    """Without its head and its sum, and without waits that the measuring itself has interrupted."""
    text = (
        "    calls syscall\n--------- -------\n     300 sendto\n       2 brk\n       1 restart_syscall\n"
        "--------- -----\n   303 total\n"
    )
    assert table(text) == {"sendto": 300, "brk": 2}
