"""Makes a plan of the file: each endpoint gets what it inherits, and what its names lead to is looked up."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sockd.base import paths
from sockd.base.addresses import Address, AddressError, resolve
from sockd.base.errors import FileWrongError, Place, Problem
from sockd.base.units import format_duration
from sockd.config import model
from sockd.config.file import Log
from sockd.config.form import merge
from sockd.config.load import Loaded, Written, load
from sockd.plan import applies, names
from sockd.plan.claims import Claim, Claims
from sockd.plan.guards import Guards, speaks_tls
from sockd.plan.plan import EndpointPlan, Limits, ListenerPlan, LogPlan, Plan
from sockd.process.directories import Directories
from sockd.protocols.contract import Options, Specification
from sockd.protocols.registry import Registry


def read(file: Path, directories: Directories, registry: Registry | None = None) -> Plan:
    """The plan of this file; FileWrongError has all its problems, in the order of the file.

    SockdError where the file's path is relative to a directory that is gone.
    """
    paths.absolute(file)  # else what the file names fails later, without a word about the directory
    registry = registry or Registry()
    loaded = load(file, lambda protocol: names.options_of(protocol, registry))
    guards = Guards(loaded, time.time())
    planner = _Planner(directories, registry, loaded, guards)
    control = planner.control()
    control_group = planner.control_group()
    plans = [(planner.endpoint(written), written.endpoint.enabled) for written in loaded.endpoints]
    if loaded.problems:
        raise FileWrongError(tuple(sorted(set(loaded.problems))))
    return Plan(
        file=file,
        drain=loaded.daemon.drain,
        log=_log(loaded.daemon.log, directories),
        endpoints=tuple(plan for plan, enabled in plans if plan and enabled),
        control=control,
        control_group=control_group,
        disabled=tuple(plan for plan, enabled in plans if plan and not enabled),
        warnings=tuple(sorted({*_warnings(loaded), *guards.warnings, *planner.warnings})),
    )


def _log(log: Log, directories: Directories) -> LogPlan:
    to = log.to if log.to in ("auto", "stdout", "stderr") else str(directories.logs / log.to)
    return LogPlan(log.level, log.format, to)


def _warnings(loaded: Loaded) -> Iterator[Problem]:
    if not any(written.endpoint.enabled for written in loaded.endpoints):
        yield loaded.problem("warning: no endpoint is enabled: nothing would run", "endpoints")


@dataclass
class _Planner:
    """Makes the parts of one plan. A part that is None has its reasons among the problems."""

    directories: Directories
    registry: Registry
    loaded: Loaded
    guards: Guards
    claims: Claims = field(default_factory=Claims)
    control_claim: Claim | None = None
    # What only one endpoint may use, like a file that it writes, and where that endpoint is in the file.
    exclusive: dict[str, Place] = field(default_factory=dict)
    warnings: list[Problem] = field(default_factory=list)

    def control(self) -> Address | None:
        """The control socket, whose address no listener may have."""
        steps = ("daemon", "control")
        wanted = self.loaded.daemon.control
        if wanted is None or self.loaded.root is None:
            return None
        try:
            address = resolve(wanted, self.directories.runtime)
        except AddressError as error:
            self.loaded.problems.append(self.loaded.problem(str(error), *steps))
            return None
        self.control_claim = Claim(address, False, self.loaded.problem("", *steps).place)
        self.claims.add(self.control_claim)
        return address

    def control_group(self) -> int | None:
        """The group that may use the control socket."""
        steps = ("daemon", "control_group")
        wanted = self.loaded.daemon.control_group
        if wanted is not None and self.loaded.daemon.control is None:
            text = "this is for the control socket, which is off"
            self.loaded.problems.append(self.loaded.problem(text, *steps))
        try:
            return names.group(wanted)
        except ValueError as error:
            self.loaded.problems.append(self.loaded.problem(str(error), *steps))
            return None

    def endpoint(self, written: Written) -> EndpointPlan | None:
        endpoint = written.endpoint
        listeners = [self._listener(written, number) for number in range(len(endpoint.listen))]
        restart = merge(self.loaded.defaults.restart, endpoint.restart)
        if restart.max_delay < restart.delay:
            less, more = format_duration(restart.max_delay), format_duration(restart.delay)
            self.loaded.problems.append(
                written.problem(f"max_delay, {less}, is less than delay, {more}", "restart")
            )
        self._check_keys(written)
        specification = names.specification(written, self.registry, self.loaded.problems)
        tls, access = self.guards.tls(written, specification), self.guards.access(written)
        if specification is None:
            return None
        self._check_kinds(written, specification)
        options = names.options(written, specification.options, self._context(written), self.loaded.problems)
        if options is None:
            return None
        self._check_hosted(written, specification, options)
        self._check_exclusive(written, options)
        return EndpointPlan(
            name=written.name,
            protocol=self.registry.canonical(endpoint.protocol),
            specification=specification,
            options=options,
            limits=self._limits(written, specification),
            restart=restart,
            give_up_after=endpoint.required.give_up_after if endpoint.required else None,
            listeners=tuple(listener for listener in listeners if listener),
            place=written.place,
            tls=tls,
            access=access,
            proxy_from=endpoint.proxy_protocol.from_,
            log=merge(self.loaded.defaults.log, endpoint.log),
        )

    def _context(self, written: Written) -> dict[str, object]:
        """What the types of an endpoint's options may ask for, as pydantic's `info.context`."""
        beside = Path(os.path.abspath(written.root.place.file)).parent
        return {
            "directories": self.directories,
            "beside": beside,  # the directory of the file that has them
            "endpoint": written.name,
            "reading": self.loaded,  # the same for all endpoints that are read together
        }

    def _listener(self, written: Written, number: int) -> ListenerPlan | None:
        listen = written.endpoint.listen[number]
        steps = written.listen_steps(number)
        try:
            address = resolve(listen.address, self.directories.runtime)
        except AddressError as error:
            self.loaded.problems.append(written.problem(str(error), *steps))
            return None
        options = merge(self.loaded.defaults.socket, written.endpoint.socket, listen.socket)
        user = self._account(written, number, "user", names.user, options.user, address)
        group = self._account(written, number, "group", names.group, options.group, address)
        socket = applies.socket_options(options, address, user, group)
        if written.endpoint.enabled:
            claim = Claim(address, socket.reuse_port, written.place_of(*steps))
            other = self.claims.add(claim)
            if other:
                self.loaded.problems.append(written.problem(self._taken(claim, other), *steps))
        return ListenerPlan(address, socket, speaks_tls(listen))

    def _taken(self, claim: Claim, other: Claim) -> str:
        if other is self.control_claim:
            return f"{claim.address} is taken by the control socket, {other.address.path} (daemon.control)"
        same = "is" if other.address == claim.address else f"overlaps {other.address}, which is"
        if other.place == claim.place:
            return f"{claim.address} {same} already used by another endpoint, which shares it by an alias"
        return f"{claim.address} {same} already used at {other.place}"

    def _account(
        self,
        written: Written,
        number: int,
        key: str,
        find: Callable[[str | int | None], int | None],
        account: str | int | None,
        address: Address,
    ) -> int | None:
        if not applies.socket_key(key, address):
            return None
        try:
            return find(account)
        except ValueError as error:
            listen = written.endpoint.listen[number]
            if key in listen.socket.model_fields_set:
                problem = written.problem(str(error), *written.listen_steps(number), "socket", key)
            elif key in written.endpoint.socket.model_fields_set:
                problem = written.problem(str(error), "socket", key)
            else:
                problem = self.loaded.problem(str(error), "defaults", "socket", key)
            self.loaded.problems.append(problem)
            return None

    def _limits(self, written: Written, specification: Specification) -> Limits:
        limits = merge(self.loaded.defaults.limits, written.endpoint.limits)
        addresses = [listen.address for listen in written.endpoint.listen]
        values = dict(usual_limits(specification))
        values |= {
            key: getattr(limits, key) for key in limits.model_fields_set if applies.limit(key, addresses)
        }
        return Limits(**values | {"exempt": values["exempt"] or ()})

    def _check_kinds(self, written: Written, specification: Specification) -> None:
        for number, listen in enumerate(written.endpoint.listen):
            kind = listen.address.kind
            if not applies.speaks(specification, kind):
                how = "streams" if kind.stream else "datagrams"
                text = f"the protocol {written.endpoint.protocol!r} does not speak over {how} ({kind})"
                self.loaded.problems.append(written.problem(text, *written.listen_steps(number)))

    def _check_hosted(self, written: Written, specification: Specification, options: Options) -> None:
        hosted = options.hosted()
        for number, listen in enumerate(written.endpoint.listen):
            kind = listen.address.kind
            whys = [hosted.no_streams] * kind.stream + [hosted.no_datagrams] * kind.datagram
            if all(whys) and applies.speaks(specification, kind):
                self.loaded.problems.append(written.problem(whys[0], *written.listen_steps(number)))
        for text, *steps in hosted.remarks:
            self.warnings.append(written.problem(f"warning: {text}", "options", *steps))

    def _check_keys(self, written: Written) -> None:
        """Report keys that mean nothing where they are written."""
        endpoint = written.endpoint
        addresses = [listen.address for listen in endpoint.listen]
        if not addresses:
            return  # they could not be read
        for key in endpoint.limits.model_fields_set:
            if not applies.limit(key, addresses):
                self.loaded.problems.append(written.problem(applies.why_not(key), "limits", key))
        for key in endpoint.socket.model_fields_set:
            if not any(applies.socket_key(key, address) for address in addresses):
                self.loaded.problems.append(written.problem(applies.why_not(key), "socket", key))
        self._check_guards(written)
        for number, listen in enumerate(endpoint.listen):
            for key in listen.socket.model_fields_set:
                if not applies.socket_key(key, listen.address):
                    steps = (*written.listen_steps(number), "socket", key)
                    self.loaded.problems.append(written.problem(applies.why_not(key, listen.address), *steps))

    def _check_guards(self, written: Written) -> None:
        addresses = [listen.address for listen in written.endpoint.listen]
        for key in written.endpoint.access.model_fields_set:
            if not applies.guard(key, addresses):
                self.loaded.problems.append(written.problem(applies.why_not(key), "access", key))
        if written.endpoint.proxy_protocol.from_ and not applies.guard("from", addresses):
            self.loaded.problems.append(written.problem(applies.why_not("from"), "proxy_protocol"))

    def _check_exclusive(self, written: Written, options: Options) -> None:
        if not written.endpoint.enabled:
            return
        for what in options.claims():
            first = self.exclusive.setdefault(what, written.place)
            if first != written.place:
                text = f"{what} is already used by the endpoint at {first}"
                self.loaded.problems.append(written.problem(text, "options"))


def usual_limits(specification: Specification) -> model.Limits:
    """The limits of an endpoint of this protocol where nothing is written."""
    return model.Limits(
        idle=specification.idle,
        datagrams=specification.datagrams,
        datagrams_per_source=specification.datagrams_per_source,
    )
