"""Certificates and keys: what the plan has of them, what is wrong, what is odd."""

import datetime as dt
import warnings
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sockd.plan import certificates
from sockd.plan.certificates import DAY, Finding, good_for
from sockd.plan.plan import CertificatePlan
from sockd.transports.openssl import TlsError
from tests.certificates import tls_plan
from tests.pem_files import (
    FIXTURES,
    NOW,
    SHA1,
    certificate,
    key_pem,
    leaf,
    middle,
    pem,
    root,
    write,
)

GAP = (
    "certificate: a.pem: the certificate of 'CN={}' was signed by 'CN={}', but that of 'CN={}' follows:"
    " one is missing, or they are out of order"
)
NO_ISSUER = (
    "warning: a.pem: the certificate of its issuer, 'CN=middle', is missing in it, and peers may not have it:"
    " it is at 'http://ca.example/middle.crt'"
)
NO_NAME = "warning: a.pem: it names no host (subjectAltName), so peers can't tell whether it is the right one"


def inspected(
    directory: Path, chain: bytes, key: bytes, now: float = NOW
) -> tuple[CertificatePlan | None, list[str]]:
    """The plan of the two files, and what is found, without the files' names."""
    files = (write(directory, "a.pem", chain), write(directory, "a.key", key))
    plan, found = certificates.certificate(*files, now)
    return plan, [_line(finding, directory) for finding in found]


def _line(finding: Finding, directory: Path) -> str:
    assert finding.text.isprintable()
    return f"{'warning' if finding.warning else finding.key}: {finding.text}".replace(f"{directory}/", "")


def test_what_is_kept(tmp_path: Path) -> None:
    """Names as they are compared, the end, the fingerprint, and the contents in one form."""
    written = key_pem("leaf") + b"subject: somebody\n" + pem(leaf()) + b"\n\n" + pem(middle(), root())
    plan, found = inspected(tmp_path, written, key_pem("leaf"))
    assert found == []
    assert plan == CertificatePlan(
        names=("example.org", "*.example.org", "192.0.2.1"),
        not_after=dt.datetime(2099, 1, 1, tzinfo=dt.UTC).timestamp(),
        fingerprint=leaf().fingerprint(hashes.SHA256()).hex(),
        chain=pem(leaf(), middle(), root()),
        key=key_pem("leaf"),
        file=tmp_path / "a.pem",
        key_file=tmp_path / "a.key",
    )
    assert plan is not None
    assert (plan.file, plan.key_file) == (tmp_path / "a.pem", tmp_path / "a.key")
    assert "PRIVATE" not in repr(plan)
    assert "BEGIN" not in repr(plan)


def test_paths_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan means the same files wherever it is read; messages have the file's own words."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a", pem(leaf(), middle()) + key_pem("leaf"))
    plan, found = certificates.certificate(Path("a"), Path("a"), NOW)
    assert plan is not None
    assert (plan.file, plan.key_file, found) == (tmp_path / "a", tmp_path / "a", [])
    plan, found = certificates.certificate(Path("b"), Path("c"), NOW)
    assert plan is None
    assert [finding.text for finding in found] == ["there is no file b", "there is no file c"]


def test_self_signed(tmp_path: Path) -> None:
    """A self-signed certificate needs no other."""
    plan, found = inspected(tmp_path, pem(certificate("root", "a.org", issuer="root")), key_pem("root"))
    assert plan
    assert found == []


@pytest.mark.parametrize(
    ("chain", "key", "expected"),
    [
        (
            FIXTURES["chain"],
            key_pem("other"),
            ["key: a.key: this is not the key of the certificate in a.pem"],
        ),
        (
            lambda: pem(certificate("leaf", "a.org", end=dt.datetime(2030, 5, 31, 23, 59, tzinfo=dt.UTC))),
            key_pem("leaf"),
            ["certificate: a.pem: it expired on 2030-05-31"],
        ),
        (
            lambda: pem(certificate("leaf", "a.org", start=dt.datetime(2030, 6, 1, 5, tzinfo=dt.UTC))),
            key_pem("leaf"),
            ["certificate: a.pem: it is not valid before 2030-06-01 05:00 UTC"],
        ),
        (
            lambda: pem(leaf(), certificate("middle", end=dt.datetime(2025, 1, 1, tzinfo=dt.UTC))),
            key_pem("leaf"),
            ["certificate: a.pem: the certificate of 'CN=middle': it expired on 2025-01-01"],
        ),
        (
            lambda: pem(leaf(), root()),
            key_pem("leaf"),
            [GAP.format("leaf", "middle", "root")],
        ),
        (
            lambda: pem(leaf(), certificate("middle", signed_with="other")) + pem(root()),
            key_pem("leaf"),
            [GAP.format("middle", "root", "root")],
        ),
        (
            lambda: pem(certificate("weak rsa", "a.org")),
            key_pem("weak rsa"),
            ["certificate: a.pem: an RSA key of 1024 bits is too weak: 2048 are needed"],
        ),
        (
            lambda: pem(certificate("weak ec", "a.org")),
            key_pem("weak ec"),
            ["certificate: a.pem: an EC key of 192 bits is too weak: 224 are needed"],
        ),
        (
            lambda: pem(certificate("dsa", "a.org")),
            key_pem("dsa"),
            [
                "certificate: a.pem: this kind of key is not used in TLS: RSA, EC and Ed25519 are",
                "key: a.key: this kind of key is not used in TLS: RSA, EC and Ed25519 are",
            ],
        ),
        (
            lambda: SHA1,
            key_pem("leaf"),
            [
                "certificate: a.pem: its signature, with SHA1, is too weak: SHA256 is needed",
                "key: a.key: this is not the key of the certificate in a.pem",
            ],
        ),
    ],
)
def test_what_is_wrong(tmp_path: Path, chain: object, key: bytes, expected: list[str]) -> None:
    """Everything that is wrong is reported, and there is no plan."""
    assert callable(chain)
    now = dt.datetime(2030, 6, 1, tzinfo=dt.UTC).timestamp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own, about what is weak
        plan, found = inspected(tmp_path, chain(), key, now)
    assert plan is None
    assert found == expected


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (14.1, []),
        (13.9, ["warning: a.pem: it expires on 2099-01-01, in 13 days"]),
        (1, ["warning: a.pem: it expires on 2099-01-01, in 1 day"]),
        (0, ["warning: a.pem: it expires on 2099-01-01, in less than a day"]),
    ],
)
def test_what_expires_soon(tmp_path: Path, days: float, words: list[str]) -> None:
    """From a fortnight before its end a certificate is used with a warning."""
    end = dt.datetime(2099, 1, 1, tzinfo=dt.UTC).timestamp()
    plan, found = inspected(tmp_path, pem(certificate("leaf", "a.org")), key_pem("leaf"), end - days * DAY)
    assert plan
    assert found == words
    later = certificates.grown_old(tls_plan(plan), end - days * DAY)
    assert [_line(finding, tmp_path) for finding in later] == words


def test_what_has_expired_meanwhile(tmp_path: Path) -> None:
    """Certificates that were in order when they were read: the same words, also for authorities."""
    early, late = (dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in (2040, 2050))
    issuer = certificate("middle", end=early)
    plan, _ = inspected(tmp_path, pem(leaf(), issuer), key_pem("leaf"))
    assert plan
    bundle = pem(certificate("middle", end=early), certificate("root", end=late))
    tls = tls_plan(plan, client_ca=bundle, client_ca_file=tmp_path / "ca.pem")
    middle_ended = "certificate: a.pem: the certificate of 'CN=middle': it expired on 2040-01-01"
    for then, words in (
        (NOW, []),
        (early.timestamp() + DAY, [middle_ended]),
        (
            late.timestamp() + DAY,
            [middle_ended, "client_ca: ca.pem: all of it has expired, last on 2050-01-01"],
        ),
    ):
        assert [_line(finding, tmp_path) for finding in certificates.grown_old(tls, then)] == words


def test_what_is_odd(tmp_path: Path) -> None:
    """A public certificate without its issuer's, and one without a name, are used."""
    chain = pem(certificate("leaf", issuer="middle", issuer_at="http://ca.example/middle.crt"))
    plan, found = inspected(tmp_path, chain, key_pem("leaf"))
    assert plan
    assert plan.names == ()
    assert found == [
        NO_ISSUER,
        NO_NAME,
    ]


def test_a_curve_that_few_clients_take(tmp_path: Path) -> None:
    """Hardly a client would get through the handshake, and only in TLS 1.2; those in common use are fine."""
    plan, found = inspected(tmp_path, pem(certificate("odd ec", "a.org")), key_pem("odd ec"))
    assert plan
    assert found == [
        "warning: a.pem: its key is on the curve secp256k1, which hardly a client takes: make one on P-256"
    ]
    assert inspected(tmp_path, pem(certificate("p-521", "a.org")), key_pem("p-521"))[1] == []


def test_where_only_the_status_is(tmp_path: Path) -> None:
    """Where a certificate names no place for its issuer's, the issuer is taken for a root."""
    plan, found = inspected(tmp_path, pem(certificate("leaf", "a.org", issuer_at="")), key_pem("leaf"))
    assert plan
    assert found == []


def test_authorities(tmp_path: Path) -> None:
    """One expired authority among several is a warning; when all have expired, the file is refused."""
    old = certificate("old", issuer="old", end=dt.datetime(2025, 1, 1, tzinfo=dt.UTC))
    file = write(tmp_path, "ca.pem", pem(root(), old), 0o644)
    assert certificates.authorities(file, NOW) == (
        pem(root(), old),
        [
            Finding(
                "client_ca", f"{file}: the certificate of 'CN=old': it expired on 2025-01-01", warning=True
            )
        ],
    )
    write(tmp_path, "ca.pem", pem(old))
    found = [Finding("client_ca", f"{file}: all of it has expired, last on 2025-01-01")]
    assert certificates.authorities(file, NOW) == (None, found)
    file.unlink()
    assert certificates.authorities(file, NOW) == (None, [Finding("client_ca", f"there is no file {file}")])


def test_unknown_kinds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A kind of key that the library doesn't know is reported, not raised."""

    def fail(_self: x509.Certificate) -> None:
        raise ValueError("unknown curve")

    class Odd:
        """A certificate whose key can't be had."""

        public_key = fail

    assert list(certificates.weaknesses(Odd())) == [  # type: ignore[arg-type]
        "its key or its signature is of a kind that is not known"
    ]


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("example.org", ("example.org",), True),
        ("example.org", ("*.example.org",), False),
        ("a.example.org", ("*.example.org",), True),
        ("a.b.example.org", ("*.example.org",), False),
        ("*.example.org", ("*.example.org",), True),
        ("*.example.org", ("a.example.org",), False),
        ("192.0.2.1", ("192.0.2.1",), True),
        ("192.0.2.1", ("*.0.2.1",), False),
        ("2001:db8::1", ("2001:db8::1",), True),
        ("localhost", (), False),
    ],
)
def test_good_for(name: str, names: tuple[str, ...], expected: bool) -> None:
    """A wildcard stands for one label, and for no part of an address."""
    assert good_for(name, names) is expected


def test_openssl_has_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever OpenSSL would refuse at the start, the check refuses with its reason."""

    def refusing(*_: object) -> None:
        raise TlsError("ee key too small")

    monkeypatch.setattr(certificates, "context", refusing)
    plan, found = inspected(tmp_path, pem(leaf(), middle(), root()), key_pem("leaf"))
    assert plan is None
    assert found == ["certificate: a.pem: OpenSSL refuses it: ee key too small"]
