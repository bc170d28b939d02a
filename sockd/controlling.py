"""The control socket as the plan wants it: opened, moved, closed."""

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from sockd.admin.callers import Allowed
from sockd.admin.control import Control
from sockd.plan import Plan
from sockd.protocols.contract import State
from sockd.services.endpoint import Surroundings
from sockd.transports.opened import Opened, tune
from sockd.transports.options import SocketOptions


class Controls:
    """The control socket that there is, and the one that a reload has prepared."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._commands: Mapping[str, Callable[..., Any]] = {}
        self.opened: Opened | None = None
        self._next: Opened | None = None
        self._moves = False
        self.control: Control | None = None
        self._retired: list[Control] = []

    def open(self, plan: Plan) -> None:
        """Open what the plan names; OpenError where that can't be."""
        if plan.control is not None:
            self.opened = self._around.sockets.open(plan.control, _options(plan))

    def serve(self, plan: Plan, commands: Mapping[str, Callable[..., Any]]) -> None:
        """Answer from now on."""
        self._commands = commands
        if self.opened is not None:
            self.control = self._make(self.opened, plan)
            self.control.start()

    def _make(self, opened: Opened, plan: Plan) -> Control:
        around = self._around
        return Control(opened.sock, around.turn, self._commands, _allowed(plan), around.log)

    def pending(self) -> list[tuple[socket.socket, State]]:
        """The connections on which an upgrade was asked for."""
        asked = [] if self.control is None else self.control.pending()
        for control in self._retired:
            asked += control.pending()
        return asked

    # -- reload

    def prepare(self, old: Plan, new: Plan) -> None:
        """Open what the new plan names, if it is another; OpenError, with nothing changed, where not."""
        self._moves = old.control != new.control
        if not self._moves:
            if self.opened is not None and _options(old) != _options(new):
                tune(self.opened, _options(old), _options(new))
        elif new.control is not None:
            self._next = self._around.sockets.open(new.control, _options(new))

    def commit(self, plan: Plan) -> None:
        """Go over to it; who asked on the old one still gets the answer."""
        if not self._moves:
            if self.control is not None:
                self.control.allowed = _allowed(plan)
            return
        if self.control is not None and self.opened is not None:
            self._around.sockets.let_go(self.opened)
            self.control.retire()
            self._retired = [each for each in (*self._retired, self.control) if len(each)]
        self.control, self.opened, self._next = None, self._next, None
        self.serve(plan, self._commands)

    def close(self) -> None:
        """Close whatever is open."""
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
