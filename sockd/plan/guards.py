"""From `tls` and `access` of an endpoint and of the defaults to what the plan has of them."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from sockd.base.addresses import Kind
from sockd.base.errors import Problem
from sockd.config.form import merge
from sockd.config.guards import Tls
from sockd.config.load import Loaded, Written
from sockd.config.model import Listen
from sockd.config.values import shown
from sockd.plan import applies
from sockd.plan import names as lookup
from sockd.plan.plan import AccessPlan, CertificatePlan, TlsPlan

_ONE = frozenset({"certificate", "key"})
_MANY = frozenset({"certificates"})


def speaks_tls(listen: Listen) -> bool:
    """Whether connections to the address begin with a TLS handshake."""
    return listen.address.kind is Kind.TLS or (listen.address.kind is Kind.SYSTEMD and listen.tls)


@dataclass(frozen=True)
class _Named:
    """A path as it stands in the file: what it leads to, and how to say that something is wrong with it."""

    path: Path
    problem: Callable[[str], Problem]


@dataclass
class Guards:
    """Reads the endpoints' guards; each file that is named is read once."""

    loaded: Loaded
    now: float  # wall clock
    warnings: list[Problem] = field(default_factory=list)
    _certificates: dict[tuple[Path, Path], Any] = field(default_factory=dict)
    _authorities: dict[Path, Any] = field(default_factory=dict)

    @cached_property
    def _inspect(self) -> ModuleType:
        from sockd.plan import certificates as inspect  # noqa: PLC0415 - it takes its time, and only TLS needs it

        return inspect

    # -- access

    def access(self, written: Written) -> AccessPlan | None:
        """Who may use the endpoint, as far as its addresses can tell; None where nothing is said."""
        access = merge(self.loaded.defaults.access, written.endpoint.access)
        addresses = [listen.address for listen in written.endpoint.listen]
        said = {
            key: value
            for key in type(access).model_fields
            if (value := getattr(access, key)) is not None and applies.guard(key, addresses)
        }
        if not said:
            return None
        return AccessPlan(
            allow=said.get("allow", ()),
            deny=said.get("deny", ()),
            users=self._accounts(written, "users", said.get("users", ()), lookup.user),
            groups=self._accounts(written, "groups", said.get("groups", ()), lookup.group),
        )

    def _accounts(
        self,
        written: Written,
        key: str,
        accounts: Iterable[str | int],
        find: Callable[[str | int], int | None],
    ) -> frozenset[int]:
        found = set()
        for account in accounts:
            try:
                number = find(account)
            except ValueError as error:
                self.loaded.problems.append(self._problem(written, "access", key)(str(error)))
            else:
                assert number is not None  # noqa: S101
                found.add(number)
        return frozenset(found)

    # -- tls

    def tls(self, written: Written) -> TlsPlan | None:
        """What the endpoint's TLS addresses show and ask; None where it has none, or where it is wrong."""
        endpoint = written.endpoint
        self._check_listen(written)
        if not any(speaks_tls(listen) for listen in endpoint.listen):
            if endpoint.tls.model_fields_set and endpoint.listen:
                text = "this is for tls, and the endpoint has no such address"
                self.loaded.problems.append(written.problem(text, "tls"))
            return None
        tls = merge(self.loaded.defaults.tls, endpoint.tls)
        named = list(self._pairs(written, tls))
        plans = tuple(plan for pair in named if (plan := self._certificate(*pair)))
        client_ca = self._client_ca(written, tls)
        if tls.client_names and tls.client_ca is None:
            text = "names of peers are looked for in certificates of client_ca, which is missing"
            self._tell(written, "client_names", text)
        self._check_client_names(written, tls.client_names or ())
        if not plans or len(plans) < len(named):
            return None
        self._check_names(written, tls.names or (), plans)
        return TlsPlan(
            certificates=plans,
            client_ca=client_ca,
            client_names=tls.client_names or (),
            min_version=tls.min_version,
            names=tls.names or (),
            client_ca_file=None if tls.client_ca is None else self._whole(written, tls.client_ca),
        )

    def _check_client_names(self, written: Written, names: tuple[str, ...]) -> None:
        """What can't be looked for in a certificate would have every client refused."""
        if not names:
            return
        from sockd.transports.identity import IdentityError, Name  # noqa: PLC0415 - brings cryptography

        for name in names:
            try:
                Name(name)
            except IdentityError as error:
                self._tell(written, "client_names", str(error))

    def _check_listen(self, written: Written) -> None:
        for number, listen in enumerate(written.endpoint.listen):
            kind = listen.address.kind
            if "tls" in listen.model_fields_set and kind is not Kind.SYSTEMD:
                hint = f": write tls{str(listen.address)[3:]}" if kind is Kind.TCP and listen.tls else ""
                text = f"this is for systemd, not for {kind}{hint}"
                self.loaded.problems.append(written.problem(text, *written.listen_steps(number), "tls"))

    def _pairs(self, written: Written, tls: Tls) -> Iterator[tuple[_Named, _Named]]:
        """The certificates and keys: the endpoint's if it has any, else those of the defaults."""
        own, inherited = written.endpoint.tls.model_fields_set, self.loaded.defaults.tls.model_fields_set
        given = own if own & (_ONE | _MANY) else inherited
        if given & _ONE and given & _MANY:
            self._tell(
                written, "certificates", "these stand in place of certificate and key, not beside them"
            )
        elif given & _MANY:
            for number, pair in enumerate(tls.certificates):
                yield (
                    self._named(written, pair.certificate, "certificates", number, "certificate"),
                    self._named(written, pair.key, "certificates", number, "key"),
                )
        elif tls.certificate is not None and tls.key is not None:
            yield self._named(written, tls.certificate, "certificate"), self._named(written, tls.key, "key")
        elif not self._faulty(written):
            missing = [key for key in ("certificate", "key") if getattr(tls, key) is None]
            text = f"TLS needs a certificate and its key: there is no {' and no '.join(missing)}"
            self.loaded.problems.append(written.problem(text, "tls"))

    def _faulty(self, written: Written) -> bool:
        """Whether something that stands there could not be read, which is a problem already."""
        for root, section, steps in (
            (written.root, written.endpoint.tls, (*written.steps, "tls")),
            (self.loaded.root, self.loaded.defaults.tls, ("defaults", "tls")),
        ):
            value: Any = root
            for step in steps:
                value = value.get(str(step), {}) if isinstance(value, dict) else {}
            if not isinstance(value, dict) or set(value) - section.model_fields_set:
                return True
        return False

    def _certificate(self, certificate: _Named, key: _Named) -> CertificatePlan | None:
        files = (certificate.path, key.path)
        if files not in self._certificates:
            self._certificates[files] = self._inspect.certificate(*files, self.now)
        plan, found = self._certificates[files]
        self._note(found, {"certificate": certificate, "key": key})
        return cast("CertificatePlan | None", plan)

    def _client_ca(self, written: Written, tls: Tls) -> bytes | None:
        if tls.client_ca is None:
            return None
        named = self._named(written, tls.client_ca, "client_ca")
        if named.path not in self._authorities:
            self._authorities[named.path] = self._inspect.authorities(named.path, self.now)
        authorities, found = self._authorities[named.path]
        self._note(found, {"client_ca": named})
        return cast("bytes | None", authorities)

    def _note(self, found: Iterable[Any], named: dict[str, _Named]) -> None:
        for finding in found:
            if finding.warning:
                self.warnings.append(named[finding.key].problem(f"warning: {finding.text}"))
            else:
                self.loaded.problems.append(named[finding.key].problem(finding.text))

    def _check_names(
        self, written: Written, names: Iterable[str], certificates: Iterable[CertificatePlan]
    ) -> None:
        known = list(dict.fromkeys(name for certificate in certificates for name in certificate.names))
        for name in names:
            if not self._inspect.good_for(name, known):
                there = f"only for {', '.join(map(shown, known[:10]))}" if known else "nor for any other name"
                self._tell(written, "names", f"there is no certificate for {shown(name)}, {there}")

    # -- places

    def _named(self, written: Written, path: Path, *steps: str | int) -> _Named:
        return _Named(self._beside(written, path, str(steps[0])), self._problem(written, "tls", *steps))

    def _beside(self, written: Written, path: Path, key: str) -> Path:
        """The path from the directory of the file that it stands in."""
        root = written.root if key in written.endpoint.tls.model_fields_set else self.loaded.root
        return path if root is None else Path(root.place.file).parent / path

    def _whole(self, written: Written, path: Path) -> Path:
        return Path(os.path.abspath(self._beside(written, path, "client_ca")))

    def _tell(self, written: Written, key: str, text: str) -> None:
        self.loaded.problems.append(self._problem(written, "tls", key)(text))

    def _problem(self, written: Written, *steps: str | int) -> Callable[[str], Problem]:
        """How to say that what stands at these steps, in the endpoint or else in the defaults, is wrong."""
        section, key = steps[:2]
        if key in getattr(written.endpoint, str(section)).model_fields_set:
            return lambda text: written.problem(text, *steps)
        return lambda text: self.loaded.problem(text, "defaults", *steps)
