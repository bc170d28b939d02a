"""What an administrator does, and what goes wrong around the daemon; each raises if it ends badly."""

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tests.end_to_end.traffic import until
from tests.soak.attacks import ATTACKS
from tests.soak.books import Ledger
from tests.soak.loggers import read
from tests.soak.secure import certify, secured
from tests.soak.world import RefusedError, World

HELD = 0.5  # seconds that something stays as it was made


class Deeds:
    """By their names; `salt` decides what is random in one."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self.world = world
        self._ledger = ledger
        self._rotated: list[Path] = []
        self._rotations = self._certificates = self.upgrades = 0
        self.all: dict[str, Callable[[random.Random], None]] = {
            "reload: limits and options": self.tune,
            "reload: another name": self.rename,
            "reload: more addresses": self.grow,
            "reload: another log": self.relog,
            "reload: another certificate": self.certify,
            "reload by SIGHUP": self.hang_up,
            "upgrade": self.upgrade,
            "upgrade by SIGUSR2": self.upgrade_by_signal,
            "suspend and resume": self.suspend,
            "restart": self.restart,
            "drain and resume": self.drain,
            "rotate": self.rotate,
            "fault: file broken": self.break_file,
            "fault: port stolen": self.steal_port,
            "fault: stopped for a while": self.stop_and_go,
            **({"fault: disk full": self.fill_disk} if world.disk else {}),
            **{name: self._attack(attack) for name, attack in ATTACKS.items()},
        }

    def do(self, name: str, salt: int) -> None:
        self.all[name](random.Random(salt))

    def _attack(self, attack: Callable[[World, random.Random], None]) -> Callable[[random.Random], None]:
        return lambda generator: attack(self.world, generator)

    # -- reloads

    def _reload(self, text: str) -> None:
        self.world.write(text)
        self.world.ask("reload")

    def tune(self, generator: random.Random) -> None:
        self._reload(self.world.text(most=generator.randrange(500, 900), history=generator.randrange(30)))
        self._reload(self.world.text())

    def rename(self, _generator: random.Random) -> None:
        """The sockets of an endpoint go to one of another name, and back."""
        self._reload(self.world.text(other="another"))
        self._reload(self.world.text())

    def grow(self, generator: random.Random) -> None:
        more = ["unix://more.sock", "tcp://127.0.0.1:0", "udp://127.0.0.1:0", "unix://@sockd-soak-more"]
        self._reload(self.world.text(more=generator.sample(more[:3], 2)))
        self._reload(self.world.text())

    def relog(self, generator: random.Random) -> None:
        """Another file, perhaps of the other format, and back."""
        self._reload(self.world.text(path="app2.log", form=generator.choice(["text", "json"])))
        time.sleep(HELD)
        self._reload(self.world.text())

    def certify(self, _generator: random.Random) -> None:
        """Who comes after the reload is shown it."""
        self._certificates += 1
        new = certify(self.world.directory, self._certificates)
        self.world.ask("reload")
        with secured(self.world.addresses("echo", ["tls"])[0]) as one:
            assert one.getpeercert(binary_form=True) == new, "the old certificate was shown"

    def hang_up(self, generator: random.Random) -> None:
        before = self.world.ask("status")["reload"]
        self.world.write(self.world.text(history=generator.randrange(1, 19)))
        self.world.daemon.signal(signal.SIGHUP)
        until(lambda: self.world.ask("status")["reload"] != before)
        self._reload(self.world.text())

    # -- programs

    def upgrade(self, _generator: random.Random) -> None:
        self.upgrades += 1
        self.world.ask("upgrade")

    def upgrade_by_signal(self, _generator: random.Random) -> None:
        self.upgrades += 1
        before = self.world.ask("status")["upgrade"]
        self.world.daemon.signal(signal.SIGUSR2)
        until(lambda: self.world.ask("status")["upgrade"] != before)
        assert self.world.ask("status")["upgrade"]["ok"], self.world.ask("status")["upgrade"]

    # -- endpoints

    def suspend(self, generator: random.Random) -> None:
        name = generator.choice(["echo", "other", "lobby", "applog"])
        self.world.ask("suspend", endpoint=name)
        time.sleep(HELD)
        self.world.ask("resume", endpoint=name)

    def restart(self, _generator: random.Random) -> None:
        self.world.ask("restart", endpoint="other")
        self.world.until("other", "running")

    def drain(self, _generator: random.Random) -> None:
        self.world.ask("drain", endpoint="other")
        self.world.ask("resume", endpoint="other")

    def rotate(self, _generator: random.Random) -> None:
        """A file that was moved away is read when the next one was: all that belongs there is written."""
        file = self.world.logs / "app.log"
        self._rotations += 1
        moved = file.with_name(f"app.log.{self._rotations}")
        file.rename(moved)
        self.world.daemon.signal(signal.SIGUSR1)
        until(file.exists)
        for old in self._rotated:
            read(old, self._ledger)
            old.unlink()
        self._rotated = [moved]

    # -- faults

    def break_file(self, generator: random.Random) -> None:
        text = self.world.text()
        at = generator.randrange(len(text) // 4, len(text) - 1)
        self.world.write(generator.choice([text[:at], text.replace('"echo"', '"ehco"', 2), ""]))
        try:
            self.world.ask("reload")
        except RefusedError as error:
            if error.status != os.EX_CONFIG:
                raise
        else:
            raise AssertionError("a broken file was taken")
        self._reload(self.world.text())

    def steal_port(self, _generator: random.Random) -> None:
        """Somebody else has the port that a reload wants; when it is free again, the reload gets it."""
        text = self.world.text(more=[f"tcp://127.0.0.1:{self.world.ports['spare']}"])
        with socket.socket() as thief:
            thief.bind(("127.0.0.1", self.world.ports["spare"]))
            thief.listen()
            self.world.write(text)
            try:
                self.world.ask("reload")
            except RefusedError as error:
                if error.status != os.EX_TEMPFAIL:
                    raise
            else:
                raise AssertionError("a port that somebody has was taken")
        self._reload(text)
        with socket.create_connection(("127.0.0.1", self.world.ports["spare"])) as one:
            one.sendall(b"x")
            assert one.recv(1) == b"x"
        self._reload(self.world.text())

    def stop_and_go(self, _generator: random.Random) -> None:
        self.world.daemon.signal(signal.SIGSTOP)
        time.sleep(HELD)
        self.world.daemon.signal(signal.SIGCONT)

    def fill_disk(self, _generator: random.Random) -> None:
        """Until line-log is held; then there is room again."""
        ballast = self.world.logs / "ballast"
        try:
            self._fill(ballast)
            self.world.until("applog", "backing off")
            time.sleep(HELD)
        finally:
            ballast.unlink()
        self.world.until("applog", "running")

    def _fill(self, ballast: Path) -> None:
        with ballast.open("wb", buffering=0) as file:
            for piece in (2**16, 2**9):
                with contextlib.suppress(OSError):  # no space left
                    while True:
                        file.write(bytes(piece))
