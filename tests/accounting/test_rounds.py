"""How often islands exchange in a run, against a run that is walked through step by step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.accounting.rounds import Exchanges, copies_of, exchanges_of, longest_round
from everyflop.spec.exchange import ExchangeSpec

OWN = {2: 0.1, 4: 0.2}


def walk(how: ExchangeSpec, steps: int) -> tuple[int, int]:
    """Count exchanges of gradients and of weights, one optimizer step at a time."""
    gradients = weights = in_round = 0
    longest = 1
    for done in range(steps):
        if done < how.sync_share * steps:
            gradients += 1
            continue
        if in_round == 0:
            longest = min(how.steps_between_exchanges, longest_round(done, how.round_share))
        in_round += 1
        if in_round == longest or done == steps - 1:
            weights, in_round = weights + 1, 0
    return gradients, weights


@given(st.integers(1, 3000), st.integers(2, 200), st.floats(0, 1), st.floats(0.001, 1))
def test_the_count_is_that_of_a_run_walked_through(steps, between, sync_share, round_share):
    shares = {"sync_share": sync_share, "round_share": round_share}
    how = ExchangeSpec(steps_between_exchanges=between, extra_tokens_share=OWN, **shares)
    gradients, weights = walk(how, steps)
    found = exchanges_of(how, steps)

    assert found.gradients == gradients
    assert weights - 1 <= found.weights <= weights  # a last round that is cut short counts by its steps


def test_the_runs_that_were_measured_exchange_mostly_at_their_start():
    found = exchanges_of(ExchangeSpec(sync_share=0.2), 1000)

    assert found.gradients == 200
    assert 55 < found.weights < 75


def test_without_such_a_start_the_first_rounds_have_one_step():
    assert exchanges_of(ExchangeSpec(), 66) == Exchanges(0, 66)


def test_gradients_in_fp32_are_twice_what_weights_in_bf16_are():
    how = ExchangeSpec(steps_between_exchanges=10, sync_share=0.2)

    assert copies_of(how, 100_000) == pytest.approx(20_000 * 2 + 80_000 / 10)


def test_islands_that_exchange_gradients_do_so_at_every_step():
    assert copies_of(ExchangeSpec(steps_between_exchanges=1, bytes_per_parameter=4), 500) == 500
