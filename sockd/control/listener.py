"""Opens, moves and closes the control socket as the plan has it."""

import os
import socket
from collections.abc import Mapping

from sockd.base.addresses import Address
from sockd.base.frozen import State
from sockd.base.metrics import Counters
from sockd.control.conversation import Allowed
from sockd.control.server import ControlServer, Effect
from sockd.plan.changes import Changes, Setting
from sockd.plan.plan import Plan
from sockd.process.rights import Rights
from sockd.transports.sockets.inet import OpenError
from sockd.transports.sockets.opening import Opened, tune
from sockd.transports.sockets.options import SocketOptions
from sockd.transports.sockets.unix import PathTakenError
from sockd.transports.sockets.watch import FileWatch
from sockd.tree.endpoint import Surroundings


class ControlListener:
    """The control socket that is open, and the one that a reload has prepared."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self.counters = Counters()  # of this socket and all before it
        self._effects: Mapping[str, Effect] = {}
        self.opened: Opened | None = None
        self._next: Opened | None = None
        self._moves = False
        self.control: ControlServer | None = None
        self._retired: list[ControlServer] = []
        self._plan: Plan | None = None
        self._watch: FileWatch | None = None
        self._lost = ""  # why the socket, whose file was lost, can't be opened again

    def open(self, plan: Plan) -> None:
        """Open the socket that the plan names; OpenError where that fails."""
        if plan.control is not None:
            self.opened = self._open(plan.control, plan)

    def serve(self, plan: Plan, effects: Mapping[str, Effect]) -> None:
        """Accept connections from now on, and answer with the results of `effects`."""
        self._effects = effects
        self._plan = plan
        self._stop_watch()
        if self.opened is not None:
            self.control = self._make(self.opened, plan)
            self.control.start()
            if self.opened.file is not None:
                self._watch = FileWatch(self._around.reactor, self.opened.file, self._file_lost)

    def _make(self, opened: Opened, plan: Plan) -> ControlServer:
        around = self._around
        return ControlServer(
            opened.sock, around.flusher, self._effects, _allowed(plan), around.log, self.counters
        )

    @staticmethod
    def missing(plan: Plan, rights: Rights) -> str:
        """Why a process with these `rights` couldn't open the socket again; empty if it could, or needn't."""
        return "" if plan.control is None else rights.missing(plan.control, _options(plan))

    def pending(self) -> list[tuple[socket.socket, State]]:
        """The connections that wait for the answer to an upgrade."""
        asked = [] if self.control is None else self.control.pending()
        for control in self._retired:
            asked += control.pending()
        return asked

    def _open(self, address: Address, plan: Plan) -> Opened:
        try:
            return self._around.sockets.open(address, _options(plan))
        except PathTakenError as error:
            raise OpenError("another sockd is running there: stop it, or set daemon.control") from error

    # -- its file

    def _file_lost(self) -> None:
        """Open the socket again: without its file no command reaches the daemon."""
        plan = self._plan
        assert plan is not None and plan.control is not None  # noqa: S101, PT018
        address = str(plan.control)
        try:
            new = self._open(plan.control, plan)
        except OpenError as error:
            if str(error) != self._lost:
                self._lost = str(error)
                self._around.log.error(  # noqa: TRY400 - a reason, not a bug
                    "control: {address}: the socket's file was removed or replaced, and the socket can't be "
                    "opened again: {why}; trying again",
                    address=address, why=self._lost, event="control",
                )  # fmt: skip
            return
        self._lost = ""
        self._around.log.warn(  # noqa: G010
            "control: {address}: the socket's file was removed or replaced; the socket is open again",
            address=address, event="control",
        )  # fmt: skip
        self._go_over(new, plan)

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    # -- reload

    def prepare(self, changes: Changes) -> None:
        """Open the socket that the new plan names, if it is another.

        OpenError, with nothing changed, where that fails.
        """
        old, new = changes.old, changes.new
        self._moves = Setting.CONTROL in changes.settings
        try:
            if not self._moves:
                if self.opened is not None and Setting.CONTROL_ACCESS in changes.settings:
                    tune(self.opened, _options(old), _options(new))
            elif new.control is not None:
                self._next = self._open(new.control, new)
        except OpenError as error:
            raise OpenError(f"control: {new.control}: {error}") from error

    def commit(self, plan: Plan) -> None:
        """Go over to what was prepared; callers on the old socket still get their answers."""
        self._plan = plan
        if self._moves:
            opened, self._next = self._next, None
            self._go_over(opened, plan)
        elif self.control is not None:
            self.control.allowed = _allowed(plan)

    def _go_over(self, opened: Opened | None, plan: Plan) -> None:
        if self.control is not None and self.opened is not None:
            self._around.sockets.let_go(self.opened)
            self.control.retire()
            self._retired = [each for each in (*self._retired, self.control) if len(each)]
        self.control, self.opened = None, opened
        self.serve(plan, self._effects)

    def close(self) -> None:
        """Close the socket and all connections."""
        self._stop_watch()
        for control in self._retired:
            control.close()
        opened, self.opened = self.opened, None
        if opened is not None:
            self._around.sockets.let_go(opened)
            if self.control is None:
                opened.sock.close()
            else:
                self.control.close()
        self.control = None


def _options(plan: Plan) -> SocketOptions:
    mode = 0o600 if plan.control_group is None else 0o660
    return SocketOptions(mode=mode, user=plan.control_user, group=plan.control_group)


def _allowed(plan: Plan) -> Allowed:
    return Allowed(os.geteuid(), plan.control_group)
