"""A connection that goes on in another program, with the same socket: what an upgrade hands over of it."""

import math
import socket
from typing import Self

from sockd.base.frozen import Frozen, State
from sockd.base.metrics import End
from sockd.base.peers import Peer
from sockd.transports.ending import ConnectionState
from sockd.transports.faces import go_on
from sockd.transports.fields import UNSENT_LIMIT, Owner
from sockd.transports.flush import Flusher
from sockd.transports.listening import Listening
from sockd.transports.sending import Sending
from sockd.transports.twisted import TwistedProtocol


class Movable(Sending):
    """The part of a connection that an upgrade asks: `hand_over` in the old program, `take_over` in the new.

    Protocols have `freeze` and `thaw`. A wrapper of Twisted's (policies.ProtocolWrapper) shows what its
    transport has as its own, so that nothing of a transport's may have the name of a protocol's.

    `resume` follows `take_over`, once the owner has the connection. Back-pressure is found anew from what is
    unsent. A pause by the old protocol is forgotten: the new protocol's `thaw` pauses again if it must.
    """

    __slots__ = ()

    @property
    def freezable(self) -> bool:
        """Whether it can go on in another program: not once it was aborted, though it is not lost yet."""
        return self._alive

    def hand_over(self) -> Frozen:
        """What `take_over` needs besides the protocol's own state. Nothing changes here."""
        return {
            "fd": self.fileno(),
            "number": self.number,
            "listener": self.listener.name,
            "peer": self.peer.freeze(),
            "destination": self.destination,
            "name": self.name,
            "received": self.received,
            "sent": self.sent,
            "dropped": self.dropped,
            "unsent": b"".join(self._queue()),
            # Versions before this one want a number, and had no other bound than this one.
            "unsent_limit": UNSENT_LIMIT if self._own_limit == math.inf else self._own_limit,
            "rest": self._rest,
            "producer_paused": self._producer is not None and self._streaming and self._producer_paused,
            "state": self.state.value,
            "end": None if self.end is None else self.end.value,
            "opened": self.opened,
            "mark_time": self.mark_time,
            "mark_received": self.mark_received,
            "mark_sent": self.mark_sent,
        }

    @classmethod
    def take_over(
        cls, frozen: Frozen, sock: socket.socket, flusher: Flusher, owner: Owner, listener: Listening
    ) -> Self:
        """The connection that this was frozen of, over its (non-blocking) socket; `resume` starts it.

        KeyError, TypeError or ValueError where another version wrote something else.
        """
        connection = cls(sock, Peer.thaw(frozen["peer"]), flusher, owner, listener)
        connection.number = frozen["number"]
        if frozen.get("destination") is not None:  # a version before this one froze none
            host, port = frozen["destination"]
            connection.destination = host, port
        connection.name = frozen.get("name", "")  # a version before this one froze none
        connection.received, connection.sent = frozen["received"], frozen["sent"]
        connection.dropped = frozen.get("dropped", 0)
        if frozen["unsent_limit"] != UNSENT_LIMIT:
            connection.limit_unsent(frozen["unsent_limit"])
        if frozen["unsent"]:
            connection._out.append(frozen["unsent"])
            connection.unsent = len(frozen["unsent"])
            connection._granted = connection.unsent if connection.unsent > connection._unsent_limit else 0
        connection._rest = frozen["rest"]
        connection._producer_paused = frozen["producer_paused"]
        connection._enter(ConnectionState(frozen["state"]))
        connection.end = None if frozen["end"] is None else End(frozen["end"])
        connection.opened, connection.mark_time = frozen["opened"], frozen["mark_time"]
        connection.mark_received, connection.mark_sent = frozen["mark_received"], frozen["mark_sent"]
        return connection

    def resume(self, protocol: TwistedProtocol, state: State) -> None:
        """Hand a thawed connection to its protocol, with that one's own state, and go on where it stopped."""
        self.protocol = protocol
        producer_paused, self._producer_paused = self._producer_paused, False
        self._flusher.active = True
        try:
            go_on(protocol, self, state)
        except BaseException:  # noqa: BLE001
            self._failed("thaw")
        else:
            if producer_paused and self._producer is not None and self._streaming:
                # It waited for what is unsent to go, and the end of the connection may wait for it.
                self._pause_producer()
                self._start_writing()
            if self.unsent or self._follows:
                self._flush_soon()
            self._update_reading()
        self._flusher.end()
