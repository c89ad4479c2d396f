"""How often islands exchange in a run, against a run that is walked through step by step."""

from hypothesis import given
from hypothesis import strategies as st

from everyflop.accounting.rounds import exchanges_in
from everyflop.spec.exchange import ExchangeSpec

OWN = {2: 0.1, 4: 0.2}


def walk(how: ExchangeSpec, steps: int) -> int:
    """Count exchanges, one optimizer step at a time."""
    exchanges = in_round = 0
    for done in range(steps):
        if done < how.sync_share * steps:
            exchanges += 1
            continue
        in_round += 1
        if in_round == how.steps_between_exchanges or done == steps - 1:
            exchanges, in_round = exchanges + 1, 0
    return exchanges


@given(st.integers(1, 3000), st.integers(1, 200), st.floats(0, 1))
def test_the_count_is_that_of_a_run_walked_through(steps: int, between: int, sync_share: float):
    how = ExchangeSpec(steps_between_exchanges=between, extra_tokens_share=OWN, sync_share=sync_share)
    exchanges = walk(how, steps)

    # A last round that is cut short counts by its steps.
    assert exchanges - 1 <= exchanges_in(how, steps) <= exchanges + 1e-9


def test_without_a_synchronous_start_there_is_one_for_each_round():
    assert exchanges_in(ExchangeSpec(steps_between_exchanges=8, sync_share=0.0), 1000) == 125


def test_a_start_of_a_fifth_is_most_of_them():
    assert exchanges_in(ExchangeSpec(steps_between_exchanges=8, sync_share=0.2), 100_000) == 20_000 + 80_000 / 8
