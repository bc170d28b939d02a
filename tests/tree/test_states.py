"""The tables: what moves between states, and what each cause leaves of serving."""

from itertools import combinations

import pytest

from sockd.tree.states import EFFECTS, TRANSITIONS, Cause, Effect, Event, State, effect

ALL = [frozenset(causes) for count in range(4) for causes in combinations(Cause, count)]


def test_every_cause_has_its_effect() -> None:
    """Held: nothing is accepted and nothing read. At the limit and draining: who is there goes on."""
    assert {
        Cause.SERVICE_DOWN: Effect(accepts=False, reads=False, receives=False),
        Cause.BY_HAND: Effect(accepts=False, reads=True, receives=False),
        Cause.AT_LIMIT: Effect(accepts=False, reads=True, receives=True),
        Cause.DRAINING: Effect(accepts=False, reads=True, receives=True),
        Cause.UPGRADING: Effect(accepts=False, reads=False, receives=False),
    } == EFFECTS
    assert set(EFFECTS) == set(Cause)


@pytest.mark.parametrize("causes", ALL, ids=lambda causes: "+".join(sorted(causes)) or "none")
def test_causes_together(causes: frozenset[Cause]) -> None:
    """What one cause takes away no other gives back."""
    left = effect(causes)
    assert left.accepts == (not causes)
    assert left.reads == causes.isdisjoint({Cause.SERVICE_DOWN, Cause.UPGRADING})
    assert left.receives == causes.isdisjoint({Cause.SERVICE_DOWN, Cause.UPGRADING, Cause.BY_HAND})


def test_every_state_can_be_reached_and_left() -> None:
    """No state is a trap, none is out of reach, every event moves something."""
    assert {state for state, _ in TRANSITIONS} == set(State) == set(TRANSITIONS.values())
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_stop_is_possible_wherever_something_runs() -> None:
    """Whatever a child is doing, it can be told to end."""
    for state in State:
        idle = state in (State.STOPPED, State.DRAINING)
        assert ((state, Event.STOP) in TRANSITIONS) == (not idle)
