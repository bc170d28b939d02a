"""The states of a connection: the whole table, what each state implies, and that every way ends."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockd.transports.ending import (
    FACTS,
    SENDS_FIN,
    TELLS_OF_FIN,
    TRANSITIONS,
    ConnectionEvent,
    ConnectionState,
)

S, E = ConnectionState, ConnectionEvent
PEER = (E.PEER_FINISHED, E.PEER_HALF_CLOSED)
# State, and where each event that it answers leads; ABORT and GONE are looked at apart.
TABLE = {
    S.OPEN: {
        E.PEER_FINISHED: S.PEER_FINISHED_CLOSING,
        E.PEER_HALF_CLOSED: S.PEER_FINISHED,
        E.CLOSE: S.CLOSING,
        E.HALF_CLOSE: S.HALF_CLOSING,
        E.UNSENDABLE: S.HALF_CLOSED,
    },
    S.HALF_CLOSING: {
        E.PEER_FINISHED: S.PEER_FINISHED_CLOSING,
        E.PEER_HALF_CLOSED: S.PEER_FINISHED_HALF_CLOSING,
        E.CLOSE: S.CLOSING,
        E.ALL_SENT: S.HALF_CLOSED,
        E.UNSENDABLE: S.HALF_CLOSED,
    },
    S.HALF_CLOSED: {
        E.PEER_FINISHED: S.FINISHED,
        E.PEER_HALF_CLOSED: S.FINISHED,
        E.CLOSE: S.LINGERING,
    },
    S.PEER_FINISHED: {
        E.CLOSE: S.PEER_FINISHED_CLOSING,
        E.HALF_CLOSE: S.PEER_FINISHED_HALF_CLOSING,
    },
    S.PEER_FINISHED_HALF_CLOSING: {E.CLOSE: S.PEER_FINISHED_CLOSING, E.ALL_SENT: S.FINISHED},
    S.CLOSING: {
        E.PEER_FINISHED: S.PEER_FINISHED_CLOSING,
        E.PEER_HALF_CLOSED: S.PEER_FINISHED_CLOSING,
        E.ALL_SENT: S.LINGERING,
        E.UNSENDABLE: S.LINGERING,
    },
    S.PEER_FINISHED_CLOSING: {E.ALL_SENT: S.FINISHED},
    S.LINGERING: {
        E.PEER_FINISHED: S.FINISHED,
        E.PEER_HALF_CLOSED: S.FINISHED,
        E.LINGER_EXPIRED: S.FINISHED,
        E.REST_WANTED: S.TAKING_REST,
    },
    S.TAKING_REST: {E.PEER_FINISHED: S.FINISHED, E.PEER_HALF_CLOSED: S.FINISHED},
    S.FINISHED: {},
    S.ABORTED: {},
    S.LOST: {},
}


def moves(state: ConnectionState) -> set[ConnectionState]:
    """Where one event may lead."""
    return {after for (before, _), after in TRANSITIONS.items() if before is state}


def reachable(state: ConnectionState) -> set[ConnectionState]:
    """Where any number of events may lead."""
    found: set[ConnectionState] = set()
    left = [state]
    while left:
        for after in moves(left.pop()) - found:
            found.add(after)
            left.append(after)
    return found


@pytest.mark.parametrize(("state", "event"), list(product(S, E)))
def test_every_state_and_event(state: ConnectionState, event: ConnectionEvent) -> None:
    """The table is what is written here, and nothing else happens."""
    expected = dict(TABLE[state])
    if state is not S.LOST:
        expected[E.GONE] = S.LOST
        if state is not S.ABORTED:
            expected[E.ABORT] = S.ABORTED
    assert TRANSITIONS.get((state, event)) == expected.get(event)


def test_every_state_is_reached_and_has_its_facts() -> None:
    """None is there for nothing."""
    assert reachable(S.OPEN) == set(S) - {S.OPEN}
    assert set(FACTS) == set(S)


def test_no_state_is_entered_again() -> None:
    """So the number of moves is bounded."""
    for state in S:
        assert state not in reachable(state)


def test_the_longest_way() -> None:
    """Seven moves, as the module says."""

    def longest(state: ConnectionState) -> int:
        return max((1 + longest(after) for after in moves(state)), default=0)

    assert longest(S.OPEN) == 7


def test_one_end() -> None:
    """LOST is the only state without a way out, and only GONE leads there."""
    assert [state for state in S if not moves(state)] == [S.LOST]
    assert {event for (_, event), after in TRANSITIONS.items() if after is S.LOST} == {E.GONE}


@given(events=st.lists(st.sampled_from(E), max_size=30))
def test_whatever_happens_it_ends(events: list[ConnectionEvent]) -> None:
    """After any events, a close and the usual course of things end a connection; so does an abort."""
    state = S.OPEN
    for event in events:
        state = TRANSITIONS.get((state, event), state)
    # For a protocol that only receives the kernel itself ends the peer's direction then.
    expired = [E.CLOSE, E.ALL_SENT, E.LINGER_EXPIRED, E.PEER_FINISHED]
    for course in (expired, [E.CLOSE, E.ALL_SENT, *PEER], [E.ABORT]):
        end = state
        for event in course:
            end = TRANSITIONS.get((end, event), end)
        assert end in (S.FINISHED, S.ABORTED, S.LOST)
        assert TRANSITIONS.get((end, E.GONE), end) is S.LOST


@given(events=st.lists(st.sampled_from(E), max_size=30))
def test_what_has_ended_stays_ended(events: list[ConnectionEvent]) -> None:
    """No direction opens again, nothing is delivered after the end was certain, and nobody lives twice."""
    state = S.OPEN
    for event in events:
        old, new = FACTS[state], FACTS[state := TRANSITIONS.get((state, event), state)]
        for name in ("reads", "sends", "alive", "connected"):
            assert getattr(old, name) or not getattr(new, name)
        assert new.disconnecting or not old.disconnecting


def test_combinations_that_mean_nothing() -> None:
    """What the facts of a state can't be together."""
    for state, facts in FACTS.items():
        assert facts.connected or not facts.alive
        assert facts.alive or not (facts.reads or facts.sends or facts.follows or facts.lingering)
        assert facts.disconnecting or facts.reads or facts.sends, f"{state}: who would end it?"
        assert not facts.lingering or (facts.reads and facts.disconnecting and not facts.sends)
        assert not facts.sends or not facts.disconnecting or facts.follows, f"{state}: its end is forgotten"


def test_everything_sent_is_followed_where_the_table_says_so() -> None:
    """Where ALL_SENT moves the state something follows, and our FIN is sent but for one end."""
    moved = {state for state, event in TRANSITIONS if event is E.ALL_SENT}
    assert {state for state in S if FACTS[state].follows} == moved | {S.LINGERING}
    assert moved - SENDS_FIN == {S.PEER_FINISHED_CLOSING}
    assert {state for state in SENDS_FIN if not FACTS[state].disconnecting} == TELLS_OF_FIN


def test_the_peers_fin_comes_once() -> None:
    """It moves a state exactly if the peer may still send in it."""
    for event in PEER:
        assert {state for state, at in TRANSITIONS if at is event} == {s for s in S if FACTS[s].reads}


def test_what_can_not_be_sent_where_nothing_is_to_be_read_is_an_abort() -> None:
    """UNSENDABLE keeps a connection for the peer's last bytes, of which a finished peer has none."""
    for state, event in TRANSITIONS:
        if event is E.UNSENDABLE:
            assert FACTS[state].reads
            assert FACTS[state].sends
