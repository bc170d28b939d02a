"""A parser with a bug, for the test of the fuzzer."""

from contextlib import suppress

from sockd.base.addresses import AddressError, Kind, parse


def find_me(data: bytes) -> None:
    """Fails for an address that is right, and of one kind."""
    with suppress(AddressError):
        if parse(data.decode(errors="replace")).kind is Kind.SYSTEMD:
            raise ZeroDivisionError
