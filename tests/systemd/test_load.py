"""Clients that come as fast as they can while the service is reloaded, restarted and upgraded."""

from collections.abc import Sequence

import pytest

from tests.end_to_end import load
from tests.end_to_end.programs import Process
from tests.end_to_end.traffic import CLIENT_LIFETIME, Visitors
from tests.systemd.harness import Machine
from tests.systemd.service import Service

FILE = """
daemon: {log: {level: warn}}
endpoints:
  echo: {listen: ['tcp://127.0.0.1:7007', 'unix://echo.sock'], protocol: echo, limits: {connections: %d}}
  other: {listen: ['tcp://127.0.0.1:%d'], protocol: echo}
"""
URLS = ("tcp://127.0.0.1:7007", "unix:///run/sockd/echo.sock")
RELOADS = 20
RESTARTS, UPGRADES = (1, 8, 15), (4, 11, 18)  # after these reloads

pytestmark = pytest.mark.slow


class VisitorsInside(Visitors):
    """They run in the machine."""

    def __init__(self, machine: Machine, urls: Sequence[str]) -> None:
        command = (
            "/opt/sockd/bin/python",
            "-m",
            load.__name__,
            "--watch-input",
            "--seconds",
            str(CLIENT_LIFETIME),
        )
        Process.__init__(self, machine.command(*command, *urls))


def test_nobody_is_turned_away(service: Service) -> None:
    """No visitor is refused, reset, cut short or given other bytes."""
    service.start(FILE % (1000, 7008))
    visitors = VisitorsInside(service.machine, URLS)
    try:
        for number in range(RELOADS):
            visitors.under_way()
            service.write(FILE % (1000 - number, 7008 + number % 2))
            service.machine.systemctl("reload", "sockd")
            if number in RESTARTS:
                visitors.under_way()
                service.machine.systemctl("restart", "sockd")
            if number in UPGRADES:
                visitors.under_way()
                service.sockd("upgrade")
        visitors.under_way()
        visits = visitors.finish()
    finally:
        visitors.end()
    print(visits.summary())  # noqa: T201
    assert visits.missed == {}, visits
    assert visits.ok > 0
    assert service.logged(4) == []
