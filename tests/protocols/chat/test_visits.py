"""What the log says of datagram members."""

from twisted.logger import Logger, formatEvent

from sockd.base.peers import Peer
from sockd.protocols.chat.service import Visits

DAVE = Peer.inet(("192.0.2.4", 4004))


def test_a_bounded_number_of_lines() -> None:
    """So many a second, and how many more there were with the next one."""
    lines: list[str] = []
    visits = Visits("lobby", Logger(observer=lambda event: lines.append(formatEvent(event))), 0.0)  # type: ignore[arg-type]
    for number in range(25):
        visits.began(DAVE, f"guest{number}", 0.0)
    assert len(lines) == 20
    assert lines[0] == "lobby: 192.0.2.4:4004 joined as guest0"
    visits.ended(DAVE, "guest1", "quit", 1.0)
    visits.ended(DAVE, "guest2", "silent", 1.0)
    assert lines[20:] == [
        "lobby: 192.0.2.4:4004, guest1, left: quit (5 more came or left)",
        "lobby: 192.0.2.4:4004, guest2, left: silent",
    ]
