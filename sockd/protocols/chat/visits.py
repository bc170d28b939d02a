"""What the log says of members who come by datagrams: there is no connection whose end it would tell."""

from twisted.logger import Logger

from sockd.peers import Peer
from sockd.protocols.chat.pace import Pace
from sockd.units import Rate

TOLD = Rate(20, 1.0)  # lines; of those beyond, the next line has the number


class Visits:
    """Tells of one endpoint's at a bounded rate. Time is passed in, in seconds."""

    def __init__(self, endpoint: str, log: Logger, now: float) -> None:
        self._endpoint = endpoint
        self._log = log
        self._pace = Pace(TOLD, now)
        self.untold = 0

    def began(self, peer: Peer, name: str, now: float) -> None:
        self._tell("{endpoint}: {peer} joined as {name}", peer, now, name=name, event="member joined")

    def ended(self, peer: Peer, name: str, reason: str, now: float) -> None:
        self._tell(
            "{endpoint}: {peer}, {name}, left: {reason}",
            peer, now, name=name, reason=reason, event="member left",
        )  # fmt: skip

    def _tell(self, text: str, peer: Peer, now: float, **fields: str) -> None:
        if self._pace.delay(now):
            self.untold += 1
            return
        self._pace.take(now)
        untold, self.untold = self.untold, 0
        more = " ({untold} more came or left)" if untold else ""
        self._log.info(text + more, endpoint=self._endpoint, peer=peer.text, untold=untold, **fields)
