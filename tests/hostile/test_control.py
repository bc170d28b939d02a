"""The control socket, whose callers ask for long answers, all at once, and don't read them."""

import json
import socket
import threading
import time

import pytest

from tests.hostile.ordeal import attacked
from tests.hostile.scene import FULL, Attackers, Scene

pytestmark = pytest.mark.slow

CALLERS = 30  # of the 32 that there may be; the scene asks as well
CONNECTIONS = 9000 if FULL else 2000


def test_long_answers(scene: Scene) -> None:
    """30 callers ask again and again for all connections, of which there are 9,000."""

    def connect(attackers: Attackers) -> None:
        for _ in range(CONNECTIONS):
            attackers.connect("target")

    def ask(attackers: Attackers, end: float) -> int:
        request = {"version": 1, "command": "connections", "most": 10_000}
        line = json.dumps(request).encode() + b"\n"
        where = str(scene.daemon.runtime / "control.sock")
        counts = []

        def one() -> None:
            caller = attackers.own(socket.socket(socket.AF_UNIX))
            caller.settimeout(100)
            caller.connect(where)
            with caller.makefile("rb") as answers:
                while time.monotonic() < end:
                    caller.sendall(line)
                    answers.readline()
                    counts.append(1)

        threads = [threading.Thread(target=one) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(counts)

    attacked(scene, "long answers", "answers", ask, prepare=connect, memory=256)


def test_answers_that_nobody_reads(scene: Scene) -> None:
    """30 callers ask for all connections, read nothing, and ask again as long as they may."""

    def connect(attackers: Attackers) -> None:
        for _ in range(CONNECTIONS):
            attackers.connect("target")

    def ask(attackers: Attackers, end: float) -> int:
        line = b'{"version": 1, "command": "connections", "most": 10000}\n'
        where = str(scene.daemon.runtime / "control.sock")
        for _ in range(CALLERS):
            caller = attackers.own(socket.socket(socket.AF_UNIX))
            caller.connect(where)
            caller.sendall(line * 100)
        time.sleep(max(0.0, end - time.monotonic()))
        return CALLERS

    attacked(scene, "answers nobody reads", "callers", ask, prepare=connect, memory=256)


def test_thousands_are_drained(scene: Scene) -> None:
    """9,000 connections are asked to finish, and those that don't are closed, all in the same moment."""

    def connect(attackers: Attackers) -> None:
        for _ in range(CONNECTIONS):
            attackers.connect("target")

    def drain(attackers: Attackers, end: float) -> int:
        assert len(scene.ask("drain", endpoint="target")) == 3
        scene.ask("resume", endpoint="target")
        time.sleep(max(0.0, end - time.monotonic()))
        return CONNECTIONS

    attacked(scene, "all drained", "connections", drain, prepare=connect, memory=64)
