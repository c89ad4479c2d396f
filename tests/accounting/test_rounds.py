"""How often islands exchange in a run, against a run that is walked through step by step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.accounting.rounds import Exchanges, copies_of, exchanges_of
from everyflop.spec.exchange import ExchangeSpec

OWN = {2: 0.1, 4: 0.2}


def walk(how: ExchangeSpec, steps: int) -> tuple[int, int]:
    """Count exchanges of gradients and of weights, one optimizer step at a time."""
    gradients = weights = in_round = 0
    for done in range(steps):
        if done < how.sync_share * steps:
            gradients += 1
            continue
        in_round += 1
        if in_round == how.steps_between_exchanges or done == steps - 1:
            weights, in_round = weights + 1, 0
    return gradients, weights


@given(st.integers(1, 3000), st.integers(2, 200), st.floats(0, 1))
def test_the_count_is_that_of_a_run_walked_through(steps, between, sync_share):
    how = ExchangeSpec(steps_between_exchanges=between, extra_tokens_share=OWN, sync_share=sync_share)
    gradients, weights = walk(how, steps)
    found = exchanges_of(how, steps)

    assert found.gradients == gradients
    assert weights - 1 <= found.weights <= weights  # a last round that is cut short counts by its steps


def test_without_a_synchronous_start_no_gradients_travel():
    assert exchanges_of(ExchangeSpec(steps_between_exchanges=8), 1000) == Exchanges(0, 125)


def test_gradients_in_fp32_are_twice_what_weights_in_bf16_are():
    how = ExchangeSpec(steps_between_exchanges=8, sync_share=0.2, bytes_per_parameter=2)

    assert copies_of(how, 100_000) == pytest.approx(20_000 * 2 + 80_000 / 8)


def test_islands_that_exchange_gradients_do_so_at_every_step():
    assert copies_of(ExchangeSpec(steps_between_exchanges=1, bytes_per_parameter=4), 500) == 500
