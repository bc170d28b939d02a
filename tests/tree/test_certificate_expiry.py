"""What a running daemon says of its certificates' ends: in time, once a day, and when they have come."""

from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogLevel

from sockd.plan.plan import EndpointPlan, LogPlan, Plan
from sockd.tree.certificate_expiry import LOOK_INTERVAL, REPEAT_INTERVAL, Expiry
from tests.certificates import made, tls_plan
from tests.daemons import Daemons
from tests.tree.house import Events, House, Probes

HOUR, DAY = 3600.0, 86_400.0
assert LOOK_INTERVAL == HOUR
assert REPEAT_INTERVAL == DAY


class Watch:
    """Looks after certificates by two clocks that go together; the wall's may also be set."""

    def __init__(self, now: float) -> None:
        self.clock = Clock()
        self.log = Events()
        self.ahead = now
        self.expiry = Expiry(self.clock, self.log.log, lambda: self.clock.seconds() + self.ahead)

    def follow(self, *endpoints: EndpointPlan) -> None:
        self.expiry.follow(Plan(Path("sockd.yaml"), 1.0, LogPlan("info", "auto"), endpoints))

    def wait(self, seconds: float) -> list[tuple[str, str]]:
        """What is said in the meantime: level and words."""
        self.clock.pump([HOUR / 2] * round(seconds / HOUR * 2))
        told = [(event["log_level"].name, event["finding"]) for event in self.log.named("certificate")]
        self.log.events.clear()
        return told


def test_from_the_fortnight_to_the_end(house: House) -> None:
    """A line for each day that is left, however many endpoints show it; then an error a day."""
    own = made("localhost", days=15.5)
    day = own.plan().not_after
    watch = Watch(day - 15.5 * DAY)
    one, other = (house.plan("tls://127.0.0.1:0", tls=tls_plan(own.plan(name))) for name in ("a", "b"))
    watch.follow(one, other)
    assert watch.wait(DAY) == []
    told = watch.wait(15 * DAY)
    left = [f"in {n} days" for n in range(13, 1, -1)] + ["in 1 day", "in less than a day"]
    assert [(level, text.rpartition(", ")[2]) for level, text in told[:-1]] == [
        ("warn", each) for each in left
    ]
    level, text = told[-1]
    assert level == "error"
    assert text.startswith("test.pem: it expired on ")
    assert watch.wait(3 * DAY) == [(level, text)] * 3
    watch.expiry.stop()
    assert not watch.clock.getDelayedCalls()


def test_what_was_said_just_now(house: House) -> None:
    """The plan has the same among its warnings, which the log has at a start and at a reload."""
    own = made("localhost", days=5.5)
    watch = Watch(own.plan().not_after - 5.4 * DAY)
    plan = house.plan("tls://127.0.0.1:0", tls=tls_plan(own.plan()))
    watch.follow(plan)
    assert watch.wait(9 * HOUR) == []
    ((_, text),) = watch.wait(HOUR)
    assert text.endswith(", in 4 days")
    watch.follow(plan)
    assert watch.wait(23 * HOUR) == []
    assert len(watch.wait(2 * HOUR)) == 1
    watch.expiry.stop()


def test_renewed(house: House) -> None:
    """Nothing more is said once there is another one; without TLS nothing is looked at."""
    old, new = made("localhost", days=5), made("localhost", days=90)
    watch = Watch(old.plan().not_after - 5 * DAY)
    watch.follow(house.plan("tcp://127.0.0.1:0"))
    assert not watch.clock.getDelayedCalls()
    plan = house.plan("tls://127.0.0.1:0", tls=tls_plan(old.plan()))
    watch.follow(plan)
    assert watch.wait(DAY)
    watch.follow(replace(plan, tls=tls_plan(new.plan())))
    assert len(watch.clock.getDelayedCalls()) == 1
    assert watch.wait(3 * DAY) == []
    watch.follow(house.plan("tcp://127.0.0.1:0"))
    assert watch.wait(3 * DAY) == []
    assert not watch.clock.getDelayedCalls()
    watch.expiry.stop()


def test_in_a_daemon(run: Daemons) -> None:
    """From its start on, and after a reload; its stop ends it."""
    house = run.house
    tls = tls_plan(made("localhost", days=-0.5).plan())
    running = run(house.plan("tcp://127.0.0.1:0", stream=Probes())).start()
    running.now(house.plan("tls://127.0.0.1:0", stream=Probes(), tls=tls, idle=None))
    running.told("reload")
    house.loop.pump([LOOK_INTERVAL] * 23)
    assert not running.log.messages(LogLevel.warn)
    house.loop.pump([LOOK_INTERVAL])
    (message,) = running.log.messages(LogLevel.error)
    assert message.startswith("certificate: test.pem: it expired on ")
    running.stop()
    assert not house.loop.getDelayedCalls()
    again = run(house.plan("tls://127.0.0.1:0", stream=Probes(), tls=tls)).start()
    house.loop.pump([LOOK_INTERVAL] * 24)
    assert message in again.log.messages(LogLevel.error)


@pytest.mark.parametrize("days", [-3, 0, 3])
def test_wall_clock_that_is_set(house: House, days: float) -> None:
    """Certificates go by the wall clock as it is; the looks do not."""
    own = made("localhost", days=10)
    watch = Watch(own.plan().not_after - 30 * DAY)
    watch.follow(house.plan("tls://127.0.0.1:0", tls=tls_plan(own.plan())))
    watch.ahead += (30 - 10.5 + days) * DAY
    ((_, text),) = watch.wait(HOUR)
    assert text.endswith(f"in {10 - days} days")
    watch.expiry.stop()
