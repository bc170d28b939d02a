"""A soak from start to end: clients come, deeds are done, clients leave, and everything is counted."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.end_to_end.traffic import Residents, Visitors
from tests.soak.books import Account, Book, Ledger
from tests.soak.crowds import SoakResidents, SoakVisitors, so_far
from tests.soak.deck import Deed, deal
from tests.soak.deeds import Deeds
from tests.soak.display import Progress
from tests.soak.levels import compare, leaks
from tests.soak.loggers import Logger, read
from tests.soak.pingers import Pinger
from tests.soak.secure import SecureVisitor
from tests.soak.talkers import Talkers
from tests.soak.victims import WITH_TLS
from tests.soak.world import World

SETTLED = 20.0  # seconds in which all that clients leave behind must be gone


class Soak:
    """`run` gives the account."""

    def __init__(self, world: World, seed: int, seconds: float) -> None:
        self.world, self.seed, self.seconds = world, seed, seconds
        self.account = Account()
        self.ledger = Ledger()
        self.pings, self.talk, self.logs = Book("pings"), Book("chat by datagrams"), Book("senders")
        self.visits = Book("visits by TLS")
        self.deeds = Deeds(world, self.ledger)
        self.resident: list[float] = []
        self._done = 0

    def run(self) -> Account:
        try:
            with self._clients():
                before = self._at_rest()
                self._start()
                self._act()
                self._finish()
            after = self._settled(before)
            self._stop()
            self._count_lines()
            compare(self.account, before, after, self.resident, self.seconds)
        except Exception as error:  # noqa: BLE001 - the daemon is gone, or as good as that
            said = self.world.daemon.text.splitlines()[-20:]
            self.account.check(False, f"the account can't be finished: {error!r}", *said)
        return self.account

    # -- clients

    @contextmanager
    def _clients(self) -> Iterator[None]:
        world = self.world
        self.visitors: Visitors | None = None
        self.guests: Residents | None = None
        self.loggers = [
            Logger(url, self.ledger, self.logs, self.seed) for url in world.addresses("log", WITH_TLS)
        ]
        self.pingers = [
            Pinger(url, world.runtime, self.pings, self.seed)
            for url in world.addresses("echo", ["udp", "unixgram"])
        ]
        self.secure = SecureVisitor(world.addresses("echo", ["tls"])[0], self.visits, self.seed)
        self.talkers: Talkers | None = None
        try:
            yield
        finally:
            for client in (self.visitors, self.guests):
                if client is not None:
                    client.end()

    def _start(self) -> None:
        world, streams = self.world, ("tcp", "unix")
        self.talkers = Talkers(world.addresses("lobby"), world.runtime, self.talk)
        self.talkers.start()
        self.talkers.there.wait()
        self.guests = SoakResidents(
            world.addresses("echo", streams), world.addresses("lobby", streams), self.seconds
        )
        self.visitors = SoakVisitors(
            [*world.addresses("echo", streams), *world.addresses("other", streams)], self.seconds
        )
        for each in (*self.loggers, *self.pingers, self.secure):
            each.start()

    def _finish(self) -> None:
        """All clients end what they began, and their own counts are checked."""
        assert self.visitors is not None
        assert self.guests is not None
        assert self.talkers is not None
        visits, stays = self.visitors.finish(), self.guests.finish()
        threads: list[Logger | Pinger | SecureVisitor | Talkers]
        threads = [*self.loggers, *self.pingers, self.secure, self.talkers]
        for thread in threads:
            thread.over.set()
        for thread in threads:
            thread.join()
        check = self.account.check
        check(not visits.missed and visits.ok > 0, f"visitors of echo: {visits.summary()}", *visits.examples)
        check(
            not stays.missed and stays.heard > 0,
            f"residents of echo and chat: {stays.summary()}",
            *stays.examples,
        )
        self._check_secure()
        self._check_pings()
        self._check_talk()
        self._check_senders()

    def _check_secure(self) -> None:
        counts = self.visits.counts
        faults = {what: counts[what] for what in ("wrong", "client failed") if counts[what]}
        self.account.check(
            not faults and counts["cut"] <= self.deeds.upgrades and counts["ok"] > 0,
            f"visitors of echo by TLS: {counts['ok']} visits, {counts['cut']} cut short in "
            f"{self.deeds.upgrades} upgrades{_listed(faults)}",
            *self.visits.examples,
        )

    def _check_pings(self) -> None:
        counts, told = self.pings.counts, self._told("echo")
        unanswered = counts["sent"] - counts["answered"] - counts["late"]
        faults = {what: counts[what] for what in ("wrong", "client failed") if counts[what]}
        self.account.check(
            not faults and unanswered <= told and counts["answered"] > 0,
            f"echo by datagrams: {counts['answered']} of {counts['sent']} answered, {unanswered} never, "
            f"{told} told as refused{_listed(faults)}",
            *self.pings.examples,
        )

    def _check_talk(self) -> None:
        assert self.talkers is not None
        counts, told = self.talk.counts, self._told("lobby")
        lost = self.talkers.lost()
        by_streams = [one for one in lost if re.fullmatch(r"(nobody|tcp0|unix0) .* of (tcp0|unix0)", one)]
        faults = {
            what: counts[what]
            for what in ("wrong", "duplicated", "disordered", "notices", "client failed")
            if counts[what]
        }
        self.account.check(
            not faults and not by_streams and len(lost) <= told and counts["heard"] > 0,
            f"chat by datagrams: {counts['said']} lines said, {counts['heard']} heard, {len(lost)} "
            f"lost, {told} told as refused{_listed(faults)}",
            *by_streams,
            *lost,
            *self.talk.examples,
        )

    def _check_senders(self) -> None:
        self.log_told = self._told("applog")
        failed = self.logs.counts["client failed"] + self.logs.counts["connections cut"]
        self.account.check(
            not failed,
            f"senders of lines: {self.ledger.sent} lines sent, {self.logs.counts['let finish']} connections "
            f"by TLS let finish in {self.deeds.upgrades} upgrades",
            *self.logs.examples,
        )

    def _told(self, name: str) -> int:
        return sum(self.world.refused(name).values())

    # -- deeds

    def _act(self) -> None:
        began = time.monotonic()
        progress = Progress(self.seconds, self._numbers)
        progress.start()
        try:
            for deed in deal(list(self.deeds.all), self.seed, self.seconds):
                progress.doing = ""
                time.sleep(max(0.0, began + deed.at - time.monotonic()))
                if time.monotonic() - began > self.seconds:
                    break
                progress.doing = deed.name
                self._do(deed)
                if self.world.daemon.process.poll() is not None:
                    return
            progress.doing = ""
            time.sleep(max(0.0, began + self.seconds - time.monotonic()))
        finally:
            progress.end()
            self.account.tell(f"{self._done} deeds done in {time.monotonic() - began:.0f} s")

    def _do(self, deed: Deed) -> None:
        try:
            self.deeds.do(deed.name, deed.salt)
        except Exception as error:  # noqa: BLE001 - the others are done all the same
            self.account.check(False, f"{deed.name}, deed {self._done}: {error!r}")
        self._done += 1

    def _numbers(self) -> str:
        try:
            self.resident.append(self.world.resident)
            fds = self.world.descriptors
        except (OSError, AssertionError):
            return "the daemon is gone"
        return (
            f"{so_far(self.visitors, 'visits'):6} visits {so_far(self.guests, 'heard'):6} heard "
            f"{self.ledger.sent:7} logged {self.pings.counts['answered']:5} pings "
            f"{self.resident[-1]:4.0f} MiB {fds:4} fds"
        )

    # -- the account

    def _at_rest(self) -> dict[str, float]:
        return {**self.world.probe(), "resident": self.world.resident}

    def _settled(self, before: dict[str, float]) -> dict[str, float]:
        """What there is when everybody has left; some of it may take a while to go."""
        end = time.monotonic() + SETTLED
        while True:
            after = self._at_rest()
            if not leaks(before, after) or time.monotonic() > end:
                return after
            time.sleep(1.0)

    def _stop(self) -> None:
        status = self.world.daemon.stop()
        said = self.world.daemon.text
        wrong = [line for line in said.splitlines() if "Traceback" in line or "Unhandled" in line]
        self.account.check(status == 0, f"the daemon ended with status {status}", said[-2000:])
        self.account.check(not wrong, f"{len(wrong)} exceptions in its log", *(line[:3000] for line in wrong))

    def _count_lines(self) -> None:
        for file in sorted(self.world.logs.glob("app*.log*")):
            read(file, self.ledger)
        ledger = self.ledger
        lost, beyond = ledger.lost(), ledger.beyond()
        wrong = [*beyond, *ledger.faults]
        self.account.check(
            not lost and not wrong and ledger.records > 0,
            f"line-log: {ledger.records} records of {ledger.sent} lines, {len(lost)} connections that were "
            f"closed cleanly with lines missing, {len(wrong)} records too many or wrong",
            *lost,
            *wrong,
        )
        missing = ledger.missing({"udp", "unixgram"})
        self.account.check(
            missing <= self.log_told * 3,  # a datagram has up to three lines
            f"line-log by datagrams: {missing} lines missing, {self.log_told} datagrams told as refused",
        )


def _listed(faults: dict[str, int]) -> str:
    return "".join(f", {count} {what}" for what, count in faults.items())
