"""What each source has had, in bounded memory."""

from sockd.limits.accounts import MOST_ACCOUNTS, OTHER_REASONS, REASONS_KEPT, Account, Accounts


def account(accounts: Accounts, source: str) -> Account:
    return dict(accounts.items())[source]


def test_numbers_are_exact_while_sources_are_few() -> None:
    """Connections, datagrams, bytes and refusals, each under its source; nothing is forgotten."""
    accounts = Accounts()
    for now in range(10):
        accounts.connection_ended("192.0.2.1", 5, 7, now)
        accounts.received("192.0.2.2", 3, 100, now)
        accounts.refused("192.0.2.2", "access", 2, now)
    one, other = account(accounts, "192.0.2.1"), account(accounts, "192.0.2.2")
    assert (one.connections, one.bytes_in, one.bytes_out, one.refusals, one.last) == (10, 50, 70, 0, 9)
    assert (other.datagrams, other.bytes_in, other.reasons) == (30, 1000, {"access": 20})
    assert not accounts.forgotten


def test_a_flood_of_sources_drives_no_active_one_out() -> None:
    """However many come, and although they came first: memory is bounded, and what is lost is said."""
    accounts = Accounts()
    for number in range(MOST_ACCOUNTS):
        accounts.refused(f"first {number}", "access", 50, 0)
    for number in range(20 * MOST_ACCOUNTS):
        accounts.refused(f"forged {number}", "access", 1, 0)
        accounts.connection_ended(f"short {number}", 1, 1, 0)
        assert len(accounts) <= MOST_ACCOUNTS
        if not number % 20:
            accounts.refused("noisy", "connect_rate", 1, 0)
            accounts.connection_ended("heavy", 10_000, 0, 0)
    assert account(accounts, "noisy").reasons["connect_rate"] > 400
    assert account(accounts, "heavy").bytes_in > 4_000_000
    assert accounts.forgotten


def test_reasons_of_a_source_are_bounded() -> None:
    """A peer that finds ever new ones has the rest under one name; none is uncounted."""
    accounts = Accounts()
    for number in range(100):
        accounts.refused("192.0.2.1", f"TLS: {number}", 1, 0)
    one = account(accounts, "192.0.2.1")
    assert len(one.reasons) == REASONS_KEPT + 1
    assert one.reasons[OTHER_REASONS] == 100 - REASONS_KEPT
    assert one.refusals == 100


def test_accounts_go_on_in_another_program() -> None:
    """With all their numbers, and the weights by which they are kept."""
    accounts, again = Accounts(), Accounts()
    for number in range(2 * MOST_ACCOUNTS):
        accounts.refused(number % 7 or number, "access", 1, 1.5)
    again.thaw(accounts.freeze())
    assert again.freeze() == accounts.freeze()
    assert {one.weights() for _, one in again.items()} == {one.weights() for _, one in accounts.items()}
