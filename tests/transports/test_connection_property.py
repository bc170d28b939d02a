"""Whatever the sizes, buffers, pauses and order: each peer gets what was written to it, in order, once."""

import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sockd.base.metrics import End
from sockd.transports.fields import HIGH_WATER
from tests.transports.loop import Exchange, Probe

PEERS = 3
SIZES = st.one_of(st.integers(0, 200), st.sampled_from([HIGH_WATER - 1, HIGH_WATER + 1, 3 * HIGH_WATER]))
BUFFERS = st.sampled_from([1, 10_000, 200_000])  # the kernel's least, some, its default
STEPS = st.lists(
    st.one_of(
        # what one event writes: to whom, how much
        st.lists(st.tuples(st.integers(0, PEERS - 1), SIZES), max_size=6).map(lambda w: ("event", w)),
        st.tuples(st.just("write"), st.tuples(st.integers(0, PEERS - 1), SIZES)),
        st.tuples(st.just("read"), st.tuples(st.integers(0, PEERS - 1), st.integers(1, 300_000))),
        st.tuples(st.sampled_from(["pauseProducing", "resumeProducing"]), st.integers(0, PEERS - 1)),
        st.tuples(st.just("turn"), st.none()),
    ),
    max_size=40,
)


@dataclass
class Member:
    """A connection, what was written to it and what came."""

    exchange: Exchange
    written: bytearray = field(default_factory=bytearray)
    got: bytearray = field(default_factory=bytearray)

    def write(self, size: int) -> None:
        start = len(self.written)
        data = b"".join(n.to_bytes(4, "big") for n in range(start, start + size // 4 + 1))[:size]
        self.exchange.connection.write(data)
        self.written += data

    def read(self, most: int) -> None:
        with suppress(BlockingIOError):
            self.got += self.exchange.client.recv(most)


def pair(buffer: int) -> tuple[socket.socket, socket.socket]:
    ours, client = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    return ours, client


@given(buffers=st.tuples(*[BUFFERS] * PEERS), steps=STEPS)
def test_what_arrives_is_what_was_written(buffers: tuple[int, ...], steps: list[tuple[str, Any]]) -> None:
    """The reference is a plain list of bytes for each peer."""
    event: list[tuple[int, int]] = []

    def work(protocol: Probe, data: bytes) -> None:
        for peer, size in event:
            members[peer].write(size)

    source = Exchange(Probe(work))
    members = [Member(Exchange(Probe(), pair(buffer), source)) for buffer in buffers]
    for step, what in steps:
        match step:
            case "event":
                event = what
                source.client.send(b"!")
                source.connection.doRead()
            case "write":
                members[what[0]].write(what[1])
            case "read":
                members[what[0]].read(what[1])
            case "turn":
                source.loop.turn()
            case method:
                getattr(members[what].exchange.connection, method)()
    for member in members:
        member.exchange.connection.loseConnection()
        member.got += member.exchange.received()
        assert member.got == member.written
        assert member.exchange.connection.sent == member.exchange.counters.bytes_out == len(member.written)
        member.exchange.client.close()
    source.loop.settle()
    assert [member.exchange.owner.ends for member in members] == [[End.DONE]] * PEERS
    source.close()
