"""When a connection is read from, and why not: pauses, holds, and bytes that were read too early."""

from sockd.transports.fields import READ_SIZE, ConnectionFields

# Why nothing is read from a connection: a set of bits.
BY_PROTOCOL = 1  # it called pauseProducing
BY_BACK_PRESSURE = 2  # the peer doesn't read what it gets
BY_HOLD = 4  # the protocol's service is down


class Reading(ConnectionFields):
    """The part of a connection that asks its lane for input, or doesn't.

    It is read from while the state allows it and no bit of `_paused` is set. A lingering connection is read
    from in any case, as nothing of it reaches the protocol, unless that only receives. Bytes in `_rest` come
    before all that the kernel has: while there are any, the lane is not asked.
    """

    __slots__ = ()

    def _update_reading(self) -> None:
        reading = self._reads and (not self._paused or (self.lingering and not self._only_receives))
        if reading and self._rest:
            self._owner.later(self._give_rest)
            reading = False
        if reading != self._reading:
            self._reading = reading
            if reading:
                self.lane.addReader(self)
            else:
                try:  # noqa: SIM105 - a `suppress` would cost each connection 1 %
                    self.lane.removeReader(self)
                except OSError:  # its protocol has closed the socket behind our back (getHandle)
                    pass

    def _pause(self, bit: int) -> None:
        if not self._paused & bit:
            self._paused |= bit
            self._update_reading()

    def _resume(self, bit: int) -> None:
        if self._paused & bit:
            self._paused &= ~bit
            self._update_reading()

    @property
    def paused(self) -> bool:
        """Whether nothing is being read from a peer that may still send."""
        return not self._reading and self._reads

    @property
    def reading(self) -> bool:
        """Whether the lane watches for input."""
        return self._reading

    # -- the protocol's own pauses: IPushProducer

    def pauseProducing(self) -> None:  # noqa: N802
        if self.connected and not self._paused & BY_PROTOCOL:
            self._flusher.waiting += 1
        self._pause(BY_PROTOCOL)

    def resumeProducing(self) -> None:  # noqa: N802
        if self.connected and self._paused & BY_PROTOCOL:
            self._flusher.waiting -= 1
        self._resume(BY_PROTOCOL)

    def limit_read(self, count: int) -> None:
        """Read no more than `count` bytes in one event: for a protocol that makes much of little."""
        self._read_size = min(count, READ_SIZE - 1)  # a read of READ_SIZE would have the next ones take more

    # -- the endpoint's

    @property
    def held(self) -> bool:
        """Whether nothing is being read because of the protocol's service, and not of the protocol."""
        return bool(self._paused & BY_HOLD) and not self._paused & BY_PROTOCOL

    def hold(self, held: bool) -> None:
        """Read nothing while the protocol's service is down."""
        if held:
            self._pause(BY_HOLD)
        else:
            self._resume(BY_HOLD)

    # -- what was read too early

    def give(self, data: bytes) -> None:
        """Hand the protocol bytes that were read already, as soon as it wants them, before anything else."""
        self._rest = data
        self._give_rest()

    def _give_rest(self) -> None:
        rest = self._rest
        wanted = not self._paused or (self.disconnecting and not self._only_receives)
        if rest and self.connected and wanted:
            self._rest = b""
            self._flusher.active = True
            self._deliver(rest)
            self._flusher.end()
            self._update_reading()
