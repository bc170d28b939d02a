"""How many descriptors a plan may need, and the warning where the process may not have as many."""

from pathlib import Path

import pytest

from sockd.base import descriptors
from sockd.plan import budget
from sockd.plan.build import read
from sockd.plan.plan import Plan
from sockd.process.directories import Directories

OTHERS = budget.PROCESS_DESCRIPTORS + descriptors.MAX_RESERVED + 1  # and the control socket


def planned(directory: Path, text: str) -> Plan:
    file = directory / "sockd.yaml"
    file.write_text(text)
    return read(file, Directories(directory, directory))


@pytest.mark.parametrize(
    ("endpoint", "needed"),
    [
        ("{listen: tcp://*:7, protocol: echo, limits: {connections: 50}}", 50 + 2),
        ("{listen: [tcp://*:7, unix://a.sock], protocol: echo, limits: {connections: 50}}", 50 + 3),
        ("{listen: [udp://*:7, unixgram://a.sock], protocol: echo}", 2),
        ("{listen: systemd://web, protocol: echo, limits: {connections: 50}}", 50 + 3),
        ("{listen: udp://*:7, protocol: line-log, options: {path: a.log}}", 1 + budget.FILE_DESCRIPTORS),
        ("{listen: udp://*:7, protocol: line-log, options: {path: /dev/null}}", 1),
        ("{listen: tcp://*:7, protocol: echo, enabled: false}", 0),
    ],
)
def test_an_endpoint(endpoint: str, needed: int, tmp_path: Path) -> None:
    """Its connections, if it can have any, their lane, its addresses and files; nothing if it doesn't run."""
    plan = planned(tmp_path, f"endpoints: {{echo: {endpoint}}}\n")
    assert budget.budget(plan).all == needed + OTHERS


def test_without_a_control_socket(tmp_path: Path) -> None:
    """There is one address fewer."""
    text = "daemon: {control: off}\nendpoints: {echo: {listen: udp://*:7, protocol: echo}}\n"
    assert budget.budget(planned(tmp_path, text)).all == OTHERS


def test_enough(tmp_path: Path) -> None:
    """A limit that is just reached needs no warning."""
    plan = planned(tmp_path, "endpoints: {echo: {listen: tcp://*:7, protocol: echo}}\n")
    assert budget.compared(plan, budget.budget(plan).all) is plan


def test_not_enough(tmp_path: Path) -> None:
    """The warning says how many, what for, which endpoints want the most, and what happens; others stay."""
    plan = planned(
        tmp_path,
        "daemon: {control: off}\n"
        "endpoints:\n"
        "  a: {listen: tcp://*:1, protocol: echo, limits: {connections: 10}}\n"
        "  b: {listen: tcp://*:2, protocol: echo, limits: {connections: 400}}\n",
    )
    needed = budget.budget(plan).all
    (warning,) = budget.compared(plan, needed - 1).warnings
    assert str(warning) == (
        f"{plan.file}: warning: up to {needed} descriptors may be needed, 410 of them for connections"
        f" (limits.connections: b 400, a 10), and the process may have {needed - 1}"
        " (ulimit -Hn, LimitNOFILE=): when they run out, new connections wait in the kernel's backlog"
    )
    empty = planned(tmp_path, "daemon: {control: off}\nendpoints: {}\n")
    assert len(budget.compared(empty, 1).warnings) == len(empty.warnings) + 1 == 2


def test_many_endpoints(tmp_path: Path) -> None:
    """The warning names three endpoints."""
    listed = "".join(
        f"  e{port}: {{listen: tcp://*:{port}, protocol: echo, limits: {{connections: {port}00}}}}\n"
        for port in range(1, 6)
    )
    (warning,) = budget.compared(planned(tmp_path, f"endpoints:\n{listed}"), 100).warnings
    assert "(limits.connections: e5 500, e4 400, e3 300, …)" in warning.text
