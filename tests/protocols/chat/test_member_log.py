"""The log's lines about datagram members."""

from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent

from sockd.base.peers import Peer
from sockd.protocols.chat.service import MemberLog

DAVE = Peer.inet(("192.0.2.4", 4004))


def test_a_bounded_number_of_lines() -> None:
    """Twenty a second, then a summary of those that were suppressed."""
    lines: list[str] = []
    clock = Clock()
    member_log = MemberLog("lobby", Logger(observer=lambda event: lines.append(formatEvent(event))), clock)  # type: ignore[arg-type]
    for number in range(25):
        member_log.joined(DAVE, f"guest{number}")
    assert len(lines) == 20
    assert lines[0] == "lobby: 192.0.2.4:4004 joined as guest0"
    member_log.left(DAVE, "guest0", "quit")
    clock.advance(1)
    member_log.left(DAVE, "guest1", "quit")
    member_log.left(DAVE, "guest2", "silent")
    assert lines[20:] == [
        "lobby: within a second also: 5 x joined, 1 x left",
        "lobby: 192.0.2.4:4004, guest1, left: quit",
        "lobby: 192.0.2.4:4004, guest2, left: silent",
    ]
