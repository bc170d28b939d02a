"""The states of a connection until its end, what moves it between them, and what each of them allows.

A stream has two directions, and each ends by itself. The peer's ends with its FIN. Ours ends with our FIN,
once everything unsent has gone; the protocol asks for it with `loseWriteConnection`, if it wants to go on
reading, or with `loseConnection`, if it doesn't. So most states are a pair of "has the peer finished?" and
"what has become of our direction?":

                            the peer may still send       the peer has finished
    we send                 OPEN                          PEER_FINISHED
    our FIN is wanted       HALF_CLOSING                  PEER_FINISHED_HALF_CLOSING
    we close                CLOSING                       PEER_FINISHED_CLOSING
    we send no more         HALF_CLOSED, LINGERING        FINISHED, TAKING_REST

What is left are two ends without ceremony: ABORTED (reset; the protocol hears of it a turn later) and LOST
(the socket is closed, the protocol has been told).

The peer's FIN closes the connection of an ordinary protocol, as in Twisted: what is unsent still goes out. A
protocol that provides IHalfCloseableProtocol is asked instead, and may go on writing.

Why LINGERING: when a TCP socket is closed while bytes of the peer's are unread or on their way, the kernel
answers them with a RST, and that RST makes the peer's kernel throw away what it has received from us and its
program has not read yet. So after our FIN we read on, until the peer's FIN or until the linger time is over
(RFC 9112, 9.6 has the same advice for HTTP). What comes is dropped and counted.

Why TAKING_REST: the kernel acknowledges what comes while we linger, and a sender may forget what was
acknowledged. A protocol that only receives (`only_receives`) is still given all of it. When the linger time
is over the kernel takes nothing more, and what it has by then is read at the protocol's own pace, to its end.

A transition that is not in the table doesn't happen: an event that comes too late changes nothing. No state
is ever entered again, so every connection ends after at most seven moves. This module does no IO; a
Connection does: `fields.ConnectionFields._happens` makes the move, and the methods that call it do what it
asks for.
"""

from dataclasses import dataclass
from enum import StrEnum


class ConnectionState(StrEnum):
    OPEN = "open"
    HALF_CLOSING = "half closing"  # the protocol wants our FIN to follow what is unsent, and reads on
    HALF_CLOSED = "half closed"  # we send no more: our FIN is sent, or the kernel takes nothing from us
    PEER_FINISHED = "peer finished"  # the peer sends no more, a half-closeable protocol still does
    PEER_FINISHED_HALF_CLOSING = "peer finished, half closing"
    CLOSING = "closing"  # the end is wanted: what is unsent goes out, and what comes is dropped
    PEER_FINISHED_CLOSING = "peer finished, closing"
    LINGERING = "lingering"  # our FIN is sent; what comes until the peer's is dropped, or a receiver's
    TAKING_REST = "taking the rest"  # nothing more comes; a protocol that only receives reads what has come
    FINISHED = "finished"  # both directions have ended: lost within the same call
    ABORTED = "aborted"  # everything unsent is dropped; lost in the reactor's next turn
    LOST = "lost"


class ConnectionEvent(StrEnum):
    PEER_FINISHED = "peer finished"  # its FIN; seen by the sweep if nothing is being read
    PEER_HALF_CLOSED = "peer half closed"  # the same, and the protocol is half-closeable
    CLOSE = "close"  # the protocol, or sockd: loseConnection, close
    HALF_CLOSE = "half close"  # the protocol: loseWriteConnection
    ALL_SENT = "all sent"  # the kernel has everything, and no producer has more
    UNSENDABLE = "unsendable"  # the kernel takes nothing any more, though the peer's last bytes are unread
    LINGER_EXPIRED = "linger expired"  # the peer had its time to answer our FIN
    REST_WANTED = "rest wanted"  # the same, and the protocol only receives
    ABORT = "abort"  # the protocol, or sockd: abortConnection, cut; or the socket failed
    GONE = "gone"  # the turn after an abort, the end of FINISHED, or the reactor found the socket dead


_S = ConnectionState
_E = ConnectionEvent

# ABORT and GONE, which every living state has, are added below.
TRANSITIONS: dict[tuple[ConnectionState, ConnectionEvent], ConnectionState] = {
    (_S.OPEN, _E.PEER_FINISHED): _S.PEER_FINISHED_CLOSING,
    (_S.OPEN, _E.PEER_HALF_CLOSED): _S.PEER_FINISHED,
    (_S.OPEN, _E.CLOSE): _S.CLOSING,
    (_S.OPEN, _E.HALF_CLOSE): _S.HALF_CLOSING,
    (_S.OPEN, _E.UNSENDABLE): _S.HALF_CLOSED,
    (_S.HALF_CLOSING, _E.PEER_FINISHED): _S.PEER_FINISHED_CLOSING,
    (_S.HALF_CLOSING, _E.PEER_HALF_CLOSED): _S.PEER_FINISHED_HALF_CLOSING,
    (_S.HALF_CLOSING, _E.CLOSE): _S.CLOSING,
    (_S.HALF_CLOSING, _E.ALL_SENT): _S.HALF_CLOSED,
    (_S.HALF_CLOSING, _E.UNSENDABLE): _S.HALF_CLOSED,
    (_S.HALF_CLOSED, _E.PEER_FINISHED): _S.FINISHED,
    (_S.HALF_CLOSED, _E.PEER_HALF_CLOSED): _S.FINISHED,
    (_S.HALF_CLOSED, _E.CLOSE): _S.LINGERING,
    (_S.PEER_FINISHED, _E.CLOSE): _S.PEER_FINISHED_CLOSING,
    (_S.PEER_FINISHED, _E.HALF_CLOSE): _S.PEER_FINISHED_HALF_CLOSING,
    (_S.PEER_FINISHED_HALF_CLOSING, _E.CLOSE): _S.PEER_FINISHED_CLOSING,
    (_S.PEER_FINISHED_HALF_CLOSING, _E.ALL_SENT): _S.FINISHED,
    (_S.CLOSING, _E.PEER_FINISHED): _S.PEER_FINISHED_CLOSING,
    (_S.CLOSING, _E.PEER_HALF_CLOSED): _S.PEER_FINISHED_CLOSING,
    (_S.CLOSING, _E.ALL_SENT): _S.LINGERING,
    (_S.CLOSING, _E.UNSENDABLE): _S.LINGERING,
    (_S.PEER_FINISHED_CLOSING, _E.ALL_SENT): _S.FINISHED,
    (_S.LINGERING, _E.PEER_FINISHED): _S.FINISHED,
    (_S.LINGERING, _E.PEER_HALF_CLOSED): _S.FINISHED,
    (_S.LINGERING, _E.LINGER_EXPIRED): _S.FINISHED,
    (_S.LINGERING, _E.REST_WANTED): _S.TAKING_REST,
    (_S.TAKING_REST, _E.PEER_FINISHED): _S.FINISHED,
    (_S.TAKING_REST, _E.PEER_HALF_CLOSED): _S.FINISHED,
}
TRANSITIONS |= {(state, _E.ABORT): _S.ABORTED for state in _S if state not in (_S.ABORTED, _S.LOST)}
TRANSITIONS |= {(state, _E.GONE): _S.LOST for state in _S if state is not _S.LOST}


@dataclass(frozen=True, slots=True)
class Facts:
    """What holds in a state."""

    reads: bool = False  # the peer may still send; whether we read now is also a matter of pauses
    sends: bool = False  # what the protocol writes is sent
    disconnecting: bool = False  # nothing is delivered any more, but to a protocol that only receives
    follows: bool = False  # something is to be done once everything is sent
    lingering: bool = False  # only the peer's FIN is waited for, for a bounded time
    alive: bool = True  # the socket is of use: neither aborted nor lost
    connected: bool = True  # the protocol has not been told of the end


FACTS: dict[ConnectionState, Facts] = {
    _S.OPEN: Facts(reads=True, sends=True),
    _S.HALF_CLOSING: Facts(reads=True, sends=True, follows=True),
    _S.HALF_CLOSED: Facts(reads=True),
    _S.PEER_FINISHED: Facts(sends=True),
    _S.PEER_FINISHED_HALF_CLOSING: Facts(sends=True, follows=True),
    _S.CLOSING: Facts(reads=True, sends=True, disconnecting=True, follows=True),
    _S.PEER_FINISHED_CLOSING: Facts(sends=True, disconnecting=True, follows=True),
    _S.LINGERING: Facts(reads=True, disconnecting=True, follows=True, lingering=True),
    _S.TAKING_REST: Facts(reads=True, disconnecting=True, lingering=True),
    _S.FINISHED: Facts(disconnecting=True),
    _S.ABORTED: Facts(disconnecting=True, alive=False),
    _S.LOST: Facts(disconnecting=True, alive=False, connected=False),
}


# Where our FIN is due when everything is sent. In PEER_FINISHED_CLOSING both have finished: closing sends it.
SENDS_FIN = frozenset({_S.HALF_CLOSING, _S.PEER_FINISHED_HALF_CLOSING, _S.CLOSING})
# Where the protocol asked for our FIN and no more: if it is half-closeable, it hears of it.
TELLS_OF_FIN = frozenset({_S.HALF_CLOSING, _S.PEER_FINISHED_HALF_CLOSING})
