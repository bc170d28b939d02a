"""What members of a chat send, by streams and by datagrams, and what others get to see of it."""

import re

from sockd.base.peers import Peer
from sockd.base.text import UNSAFE
from sockd.protocols.chat.proof import AddressProof
from sockd.protocols.chat.strangers import first_line
from sockd.protocols.chat.telnet import EndlessError
from tests.fuzz.parsers.checks import chunks
from tests.protocols.chat.net import Net
from tests.protocols.chat.session import Session
from tests.protocols.chat.test_lines import new_lines, plain, taken
from tests.protocols.chat.test_telnet import received

_MESSAGE_BYTES = 1400  # bytes of a message: one datagram
_BEGINNINGS = re.compile(
    r"-- |<[A-Za-z0-9_-]{1,24}> |\* [A-Za-z0-9_-]{1,24} |\[(from|to) [A-Za-z0-9_-]{1,24}\] "
)
_TELNET_ANSWER = re.compile(rb"\xff[\xfc\xfe].", re.DOTALL)
_FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e007a]{3,6}\U000e007f")
_PEER = Peer.inet(("192.0.2.4", 4004))


def frame(data: bytes) -> None:
    """However the bytes arrive, the lines are those of the plain rule, and half-way they can be handed on."""
    stream, pieces = chunks(data)
    lines, found = new_lines(), []
    for number, piece in enumerate(pieces):
        if number % 3 == 2:
            state, lines = lines.freeze(), new_lines()
            lines.thaw(state)
        lines.add(piece)
        found += taken(lines)
    assert found == plain(stream)


def understand_telnet(data: bytes) -> None:
    """However the bytes arrive, the lines are the same; nothing of telnet's is left in them, or looped."""
    stream, pieces = chunks(data)
    try:
        whole, answers = received([stream + b"\n\n"])
    except EndlessError:
        return
    assert received([*pieces, b"\n\n"]) == (whole, answers)
    assert not any(b"\xff" in line for line in whole if isinstance(line, bytes))
    assert len(answers) <= len(stream) + 2  # of which the line ends may be a part


def judge(data: bytes) -> None:
    """A verdict on the beginning of the bytes is the verdict on all of them."""
    stream, pieces = chunks(data)
    settled, stranger = first_line(stream)
    came = b""
    for piece in pieces:
        came += piece
        early, other = first_line(came)
        if early:
            assert settled
            assert (other is None) == (stranger is None)


def talk(data: bytes) -> None:
    """Two members' bytes: others get whole lines that begin as the chat has them and are safe to show."""
    session = Session(rate="1000000/s", rooms=3)
    listener, shown = session.connect("ear")
    one, _ = session.connect("one")
    other, answers = session.connect("other")
    _stream, pieces = chunks(data)
    for number, piece in enumerate(pieces):
        member = other if number % 2 else one
        if not member.transport.disconnecting:
            member.dataReceived(piece)
    _are_shown(shown.value())
    _are_shown(_TELNET_ANSWER.sub(b"", answers.value()).replace(b"\r\n", b"\n"))
    for connection in (listener, one, other):
        connection.connectionLost()


def datagrams(data: bytes) -> None:
    """Datagrams of two peers, of whom one has proved nothing: it gets 64 bytes at most, and is not heard."""
    net = Net(rate="1000000/s")
    member, stranger = Peer.unix(1000, 77, "/run/someone.sock"), _PEER
    net.join(member, "ear")
    stream, pieces = chunks(data)
    for number, piece in enumerate(pieces):
        net.listener.datagrams([(piece, member if number % 2 else stranger)])
    for sent, to in net.sent:
        if to == stranger:
            assert len(sent) <= 64, sent
            assert sent.startswith(b"-- "), sent
        else:
            _are_shown(sent)
    net.clock.advance(1)
    assert stream is not None
    assert not any("guest2" in line for line in net.logged), "a stranger became a member"


def prove(data: bytes) -> None:
    """Only a peer that repeats the code without dashes proves its address; what we send never does."""
    proof = AddressProof(b"secret" * 4, 0.0)
    asked = AddressProof(b"secret" * 4, 0.0).challenge(b"x", _PEER, 0.0)
    assert asked is not None
    right = asked.split(b" ")[4].replace(b"-", b"")
    given = proof.accepts(data, _PEER, 1.0)
    assert not given or right in data.lower()
    answer = proof.challenge(data, _PEER, 1.0)
    if answer is not None:
        assert len(answer) <= 64
        for reflected in (answer, data + answer, answer + data, *answer.split(b"\n"), *answer.split(b" ")):
            assert not proof.accepts(reflected, _PEER, 1.0) or right in data.lower()


def _are_shown(sent: bytes) -> None:
    if not sent:
        return
    assert sent.endswith(b"\n")
    for line in sent[:-1].split(b"\n"):
        text = _FLAG.sub("", line.decode())
        assert len(line) < _MESSAGE_BYTES, len(line)
        assert not UNSAFE.search(text), text
        assert _BEGINNINGS.match(text), text
