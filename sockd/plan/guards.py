"""Makes the plan's TLS and access of what an endpoint and the defaults say, and reads the files they name."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sockd.base.addresses import Kind
from sockd.base.errors import Problem
from sockd.config.form import merge
from sockd.config.guards import Tls
from sockd.config.load import Loaded, Written
from sockd.config.model import Listen
from sockd.config.values import shown
from sockd.plan import applies, names
from sockd.plan.plan import AccessPlan, CertificatePlan, TlsPlan
from sockd.protocols.contract import Specification

if TYPE_CHECKING:
    from sockd.plan.certificates import Finding

# The two ways in which certificates are written.
_ONE_PAIR = frozenset({"certificate", "key"})
_PAIRS = frozenset({"certificates"})


def speaks_tls(listen: Listen) -> bool:
    """Whether connections to the address begin with a TLS handshake."""
    return listen.address.kind is Kind.TLS or (listen.address.kind is Kind.SYSTEMD and listen.tls)


@dataclass(frozen=True)
class _Named:
    """A path that the file has: where it leads, and how to report that something is wrong with it."""

    path: Path
    problem: Callable[[str], Problem]


@dataclass
class Guards:
    """Makes the guards of all endpoints; a file that several of them name is read once."""

    loaded: Loaded
    now: float  # wall clock
    warnings: list[Problem] = field(default_factory=list)
    _certificates: dict[tuple[Path, Path], tuple[CertificatePlan | None, list["Finding"]]] = field(
        default_factory=dict
    )
    _authorities: dict[Path, tuple[bytes | None, list["Finding"]]] = field(default_factory=dict)

    # -- access

    def access(self, written: Written) -> AccessPlan | None:
        """Who may use the endpoint, as far as its addresses can tell; None where the file doesn't say."""
        access = merge(self.loaded.defaults.access, written.endpoint.access)
        addresses = [listen.address for listen in written.endpoint.listen]
        written_keys = {
            key: value
            for key in type(access).model_fields
            if (value := getattr(access, key)) is not None and applies.guard(key, addresses)
        }
        if not written_keys:
            return None
        return AccessPlan(
            allow=written_keys.get("allow", ()),
            deny=written_keys.get("deny", ()),
            users=self._accounts(written, "users", written_keys.get("users", ()), names.user),
            groups=self._accounts(written, "groups", written_keys.get("groups", ()), names.group),
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

    def tls(self, written: Written, specification: Specification | None) -> TlsPlan | None:
        """What the endpoint's TLS shows and asks; None where it has none, or something is wrong.

        It has some at its TLS addresses, and where its protocol may start it on connections of others.
        """
        endpoint = written.endpoint
        self._check_listen(written)
        own, starts = endpoint.tls.model_fields_set, specification is not None and specification.starts_tls
        if not (own and starts) and not any(speaks_tls(listen) for listen in endpoint.listen):
            if own and endpoint.listen and specification is not None:
                text = (
                    "this is for tls, and the endpoint has no such address: remove it, or listen on a tls://"
                    " address"
                )
                self.loaded.problems.append(written.problem(text, "tls"))
            return None
        tls = merge(self.loaded.defaults.tls, endpoint.tls)
        named = list(self._pairs(written, tls))
        plans = tuple(plan for pair in named if (plan := self._certificate(*pair)))
        client_ca = self._client_ca(written, tls)
        if tls.client_names and tls.client_ca is None:
            text = "these are names in certificates that client_ca vouches for, and there is no client_ca"
            self._report(written, "client_names", text)
        if tls.recheck is not None and tls.client_ca is None:
            text = "these are checks of certificates that client_ca vouches for, and there is no client_ca"
            self._report(written, "recheck", text)
        self._check_client_names(written, tls.client_names or ())
        if not plans or len(plans) < len(named):
            return None
        self._check_names(written, tls.names or (), plans)
        return TlsPlan(
            certificates=plans,
            client_ca=client_ca,
            client_names=tls.client_names or (),
            min_version=tls.min_version,
            alpn=tls.alpn or (),
            recheck=tls.recheck,
            names=tls.names or (),
            client_ca_file=None if tls.client_ca is None else self._whole(written, tls.client_ca),
        )

    def _check_client_names(self, written: Written, wanted: tuple[str, ...]) -> None:
        """Report names that no certificate can have: every client would be refused."""
        if not wanted:
            return
        from sockd.transports.identity import IdentityError, Name  # noqa: PLC0415 - brings cryptography

        for name in wanted:
            try:
                Name(name)
            except IdentityError as error:
                self._report(written, "client_names", str(error))

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
        given = own if own & (_ONE_PAIR | _PAIRS) else inherited
        if given & _ONE_PAIR and given & _PAIRS:
            self._report(written, "certificates", "write either certificates, or certificate and key")
        elif given & _PAIRS:
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
        """Whether something in these sections could not be read, which has been reported."""
        for root, section, steps in (
            (written.root, written.endpoint.tls, (*written.steps, "tls")),
            (self.loaded.root, self.loaded.defaults.tls, ("defaults", "tls")),
        ):
            value: object = root  # what was read of a file: mappings, lists and scalars
            for step in steps:
                value = value.get(str(step), {}) if isinstance(value, dict) else {}
            if not isinstance(value, dict) or set(value) - section.model_fields_set:
                return True
        return False

    def _certificate(self, certificate: _Named, key: _Named) -> CertificatePlan | None:
        files = (certificate.path, key.path)
        if files not in self._certificates:
            from sockd.plan import certificates  # noqa: PLC0415 - cryptography loads slowly; only TLS needs it

            self._certificates[files] = certificates.certificate(*files, self.now)
        plan, found = self._certificates[files]
        self._note(found, {"certificate": certificate, "key": key})
        return plan

    def _client_ca(self, written: Written, tls: Tls) -> bytes | None:
        if tls.client_ca is None:
            return None
        named = self._named(written, tls.client_ca, "client_ca")
        if named.path not in self._authorities:
            from sockd.plan import certificates  # noqa: PLC0415 - as above

            self._authorities[named.path] = certificates.authorities(named.path, self.now)
        authorities, found = self._authorities[named.path]
        self._note(found, {"client_ca": named})
        return authorities

    def _note(self, found: Iterable["Finding"], named: dict[str, _Named]) -> None:
        for finding in found:
            if finding.warning:
                self.warnings.append(named[finding.key].problem(f"warning: {finding.text}"))
            else:
                self.loaded.problems.append(named[finding.key].problem(finding.text))

    def _check_names(self, written: Written, wanted: Iterable[str], plans: Iterable[CertificatePlan]) -> None:
        from sockd.plan import certificates  # noqa: PLC0415 - as above

        known = list(dict.fromkeys(name for plan in plans for name in plan.names))
        for name in wanted:
            if not certificates.good_for(name, known):
                there = f"only for {', '.join(map(shown, known[:10]))}" if known else "nor for any other name"
                self._report(written, "names", f"there is no certificate for {shown(name)}, {there}")

    # -- places

    def _named(self, written: Written, path: Path, *steps: str | int) -> _Named:
        return _Named(self.place_of(written, path, str(steps[0])), self._problem(written, "tls", *steps))

    def place_of(self, written: Written, path: Path, key: str) -> Path:
        """The path, which is relative to the directory of the file that has it."""
        root = written.root if key in written.endpoint.tls.model_fields_set else self.loaded.root
        return path if root is None else Path(root.place.file).parent / path

    def _whole(self, written: Written, path: Path) -> Path:
        return Path(os.path.abspath(self.place_of(written, path, "client_ca")))

    def _report(self, written: Written, key: str, text: str) -> None:
        self.loaded.problems.append(self._problem(written, "tls", key)(text))

    def _problem(self, written: Written, *steps: str | int) -> Callable[[str], Problem]:
        """How to report what is wrong at these steps, in the endpoint or else in the defaults."""
        section, key = steps[:2]
        if key in getattr(written.endpoint, str(section)).model_fields_set:
            return lambda text: written.problem(text, *steps)
        return lambda text: self.loaded.problem(text, "defaults", *steps)
