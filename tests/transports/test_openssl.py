"""OpenSSL's contexts: descriptors that ran out, and whom a client's authorities vouch for."""

import errno
import os
import ssl
from contextlib import suppress

import pytest

from sockd.base import descriptors
from sockd.transports.openssl import TlsError, context
from tests.certificates import made


def test_one_is_made_when_descriptors_have_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload takes new keys also while peers have all descriptors: some are kept back."""
    make = os.memfd_create

    def full(name: str, flags: int) -> int:
        if not descriptors.lent():
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return make(name, flags)

    monkeypatch.setattr(os, "memfd_create", full)
    certificate = made("localhost")
    assert context(certificate.chain, certificate.key)


def test_none_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system refuses is a line, too."""

    def full(name: str, flags: int) -> int:
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))

    monkeypatch.setattr(os, "memfd_create", full)
    certificate = made("localhost")
    with pytest.raises(TlsError, match="Too many open files in system"):
        context(certificate.chain, certificate.key)


def test_one_ticket() -> None:
    """A connection can be resumed, and brings one ticket for that, no more."""
    certificate = made("localhost")
    assert context(certificate.chain, certificate.key).num_tickets == 1


@pytest.mark.parametrize(("issuer", "accepted"), [("branch", True), ("root", False)])
def test_an_authority_needs_no_root(issuer: str, accepted: bool) -> None:
    """A branch of an authority vouches for its own clients, and for nobody else's."""
    branch = made("branch", issuer="root", authority=True)
    certificate = made("localhost")
    server = context(certificate.chain, certificate.key, client_ca=branch.chain)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    made("good.example", issuer=issuer).load_into(client)
    assert _accepts(server, client) is accepted


def _accepts(server: ssl.SSLContext, client: ssl.SSLContext) -> bool:
    one, other = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking, asked = client.wrap_bio(one, other), server.wrap_bio(other, one, server_side=True)
    try:
        for side in (asking, asked, asking, asked):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError:
        return False
    return asked.getpeercert(True) is not None
