"""Expected values: settings published for Ling 2.0 (arXiv 2510.22115) and examples in arXiv 2507.17702."""

import pytest

from everyflop.accounting.laws import (
    checked_leverage,
    default_batch_tokens,
    default_lr,
    fitted_leverage,
    law_note,
    leverage,
    optimal_allocation,
    optimal_batch_tokens,
    optimal_dense_allocation,
    optimal_lr,
    training_compute,
)
from everyflop.spec.model import ModelSpec
from everyflop.spec.presets import preset

TINY = ModelSpec(
    family="ling-v2",
    vocab_size=4096,
    hidden=256,
    n_layers=4,
    n_heads=4,
    n_kv_heads=2,
    head_dim=64,
    n_experts=16,
    experts_per_token=2,
    expert_width=128,
)

# Active parameters with both embeddings, tokens, and what the laws give: rate, sequences of 4,096 tokens.
LAW_SETTINGS = {
    "Ling-flash-2.0": (6.1e9, 20e12, 2.60e-4, 8_418),
    "Ling-1T": (51e9, 20e12, 1.88e-4, 18_251),
    "Ling-mini-2.0": (1.4e9, 20e12, 3.25e-4, 4_924),
    "Ling-plus": (28.8e9, 9e12, 2.32e-4, 11_079),
}

# Tokens, what was used in training (rate, sequences), and how far the laws are from it: Ling-plus predates them.
USED_SETTINGS = {
    "ling-flash-2.0": (20e12, 2.61e-4, 8_352, 0.02),
    "ling-1t": (20e12, 1.86e-4, 18_144, 0.02),
    "ling-mini-2.0": (20e12, 3.36e-4, 4_400, 0.15),
    "ling-plus": (9e12, 2.4e-4, 8_960, 0.25),
}

# Activation, granularity, then leverage at 1e20, 1e21 and 1e22 FLOP.
LEVERAGE = [(0.035, 8, (4.3, 5.4, 6.8)), (0.077, 3.5, (2.9, 3.5, 4.2)), (0.12, 2.9, (2.4, 2.7, 3.2))]


@pytest.mark.parametrize(("active", "tokens", "lr", "sequences"), LAW_SETTINGS.values(), ids=LAW_SETTINGS)
def test_laws_return_the_settings_computed_for_published_models(
    active: float, tokens: float, lr: float, sequences: int
):
    compute = 6 * active * tokens

    assert optimal_lr(compute) == pytest.approx(lr, abs=0.005e-4)
    assert optimal_batch_tokens(compute) / 4096 == pytest.approx(sequences, abs=0.5)


@pytest.mark.parametrize(("name", "used"), USED_SETTINGS.items())
def test_laws_with_our_parameter_counts_come_close_to_what_was_used(name: str, used: tuple[float, float, float, float]):
    tokens, lr, sequences, tolerance = used

    compute = training_compute(preset(name), tokens)

    assert optimal_lr(compute) == pytest.approx(lr, rel=tolerance)
    assert optimal_batch_tokens(compute) / 4096 == pytest.approx(sequences, rel=tolerance)


@pytest.mark.parametrize("compute", [1e18, 1e21, 1e24])
def test_the_best_allocation_spends_the_whole_compute(compute: float):
    best = optimal_allocation(compute)

    assert best.flops_per_token * best.tokens == pytest.approx(compute, rel=1e-3)


def test_a_dense_model_of_the_same_compute_is_larger_at_scale():
    dense = optimal_dense_allocation(1e24)  # 0.0655 x 1e24^0.5422 = 6.74e11, by hand

    assert dense.flops_per_token == pytest.approx(6.74e11, rel=0.005)
    assert dense.flops_per_token * dense.tokens == pytest.approx(1e24, rel=0.002)
    assert dense.flops_per_token > optimal_allocation(1e24).flops_per_token


def test_the_best_model_grows_a_little_faster_than_the_tokens():
    small, large = optimal_allocation(1e20), optimal_allocation(1e22)

    assert large.flops_per_token / small.flops_per_token == pytest.approx(100**0.5095)
    assert large.tokens / small.tokens == pytest.approx(100**0.4905)


@pytest.mark.parametrize(("activation", "granularity", "expected"), LEVERAGE)
def test_leverage_is_that_of_the_published_law(activation: float, granularity: float, expected: tuple[float, ...]):
    found = tuple(leverage(activation, granularity, compute) for compute in (1e20, 1e21, 1e22))

    assert found == pytest.approx(expected, abs=0.06)


def test_the_papers_own_example_has_a_leverage_above_seven():
    assert fitted_leverage(0.031, 12, 1e22) == pytest.approx(7.24, abs=0.005)


def test_the_best_granularity_is_about_twelve():
    assert max(range(2, 33), key=lambda granularity: fitted_leverage(0.031, granularity, 1e22)) == pytest.approx(
        12, abs=1
    )


def test_leverage_is_not_extrapolated_beyond_seven():
    assert fitted_leverage(0.035, 8, 1e24) == pytest.approx(10.7, abs=0.06)
    assert leverage(0.035, 8, 1e24) == 7.0


def test_beyond_where_it_was_checked_leverage_stays_as_it_is_there():
    assert checked_leverage(0.077, 3.5, 1e21) == leverage(0.077, 3.5, 1e21)
    assert checked_leverage(0.077, 3.5, 1e24) == pytest.approx(4.2, abs=0.06)


def test_a_default_batch_is_whole_sequences_nearest_the_law():
    tokens = 20_000_000_000_000

    batch = default_batch_tokens(preset("ling-flash-2.0"), tokens, 4096)

    assert batch % 4096 == 0
    assert batch == pytest.approx(optimal_batch_tokens(training_compute(preset("ling-flash-2.0"), tokens)), abs=2048)


def test_a_default_batch_leaves_room_for_a_hundred_steps():
    # The law asks for about 2,000 tokens at this size, and 100,000 tokens in 100 steps are 1,000 each.
    assert default_batch_tokens(TINY, 100_000, 100) == 1_000


def test_a_default_batch_is_one_sequence_at_least():
    assert default_batch_tokens(TINY, 1_000, 512) == 512


def test_a_default_rate_is_the_laws_where_that_was_fitted():
    assert default_lr(preset("ling-flash-2.0"), 20_000_000_000_000) == pytest.approx(2.60e-4, rel=5e-3)


def test_a_default_rate_is_capped_for_tiny_runs():
    assert optimal_lr(training_compute(TINY, 1_000_000)) > 4e-3
    assert default_lr(TINY, 1_000_000) == 4e-3


@pytest.mark.parametrize(("compute", "where"), [(9e17, "below"), (1e18, "inside"), (6e20, "inside"), (7e20, "above")])
def test_the_note_says_where_the_compute_lies(compute: float, where: str):
    assert f"is {where} the laws' fitted range (1e+18 to 6e+20)" in law_note(compute)
