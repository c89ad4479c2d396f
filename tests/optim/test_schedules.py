from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.optim.schedules import lr_at
from everyflop.spec.train import OptimSpec


def lr(tokens_done: int, **fields: Any) -> float:
    """The rate in a run of 1000 tokens in steps of 10, peak 1.0."""
    fields = {"warmup_share": 0.0, **fields}
    return lr_at(tokens_done, batch_tokens=10, optim=OptimSpec(**fields), peak_lr=1.0, total_tokens=1000)


def test_warm_up_rises_linearly_and_the_first_step_already_learns():
    rates = [lr(done, schedule="constant", warmup_share=0.04) for done in (0, 10, 20, 30, 40, 990)]

    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])


def test_without_warm_up_the_first_step_has_the_peak_rate():
    assert lr(0, schedule="cosine") == 1.0


def test_cosine_is_halfway_at_half_the_tokens_after_warm_up():
    # Warm-up takes 200 tokens, so 600 is the middle of the 800 that follow.
    assert lr(600, schedule="cosine", warmup_share=0.2) == pytest.approx(0.5)
    assert lr(400, schedule="cosine", warmup_share=0.2) == pytest.approx(0.5 + 0.5 * 2**-0.5)


def test_linear_falls_in_proportion_to_the_tokens():
    assert [lr(done, schedule="linear") for done in (0, 250, 990)] == pytest.approx([1.0, 0.75, 0.01])


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_decay_ends_at_the_final_share_and_stays_there(schedule: str):
    assert lr(1000, schedule=schedule, final_share=0.1) == pytest.approx(0.1)
    assert lr(2000, schedule=schedule, final_share=0.1) == pytest.approx(0.1)


def test_ling_v1_halves_the_rate_at_60_percent_of_the_tokens():
    assert [lr(done, schedule="ling-v1") for done in (590, 600, 890, 900)] == pytest.approx([1.0, 0.5, 0.5, 0.5])


def test_ling_v1_ends_at_a_ten_thousandth_of_the_halved_rate():
    # 1 - sqrt(0.25) = 0.5 at a quarter of the last tenth: between 0.5 and 0.5e-4 half-way.
    assert lr(925, schedule="ling-v1") == pytest.approx(0.5 * 0.50005)
    assert lr(1000, schedule="ling-v1") == pytest.approx(0.5e-4)
    assert lr(3000, schedule="ling-v1") == pytest.approx(0.5e-4)


def test_the_published_ling_plus_rates_come_out():
    optim = OptimSpec(schedule="ling-v1", warmup_share=0.001)
    rates = [
        lr_at(int(done), batch_tokens=36_700_160, optim=optim, peak_lr=2.4e-4, total_tokens=9 * 10**12)
        for done in (5e12, 6e12, 9e12)
    ]

    assert rates == pytest.approx([2.4e-4, 1.2e-4, 1.2e-8])


@given(
    schedule=st.sampled_from(["constant", "cosine", "linear", "ling-v1"]),
    warmup_share=st.floats(0, 0.5),
    total=st.integers(10, 10**13),
    data=st.data(),
)
def test_every_step_of_a_run_has_a_positive_rate_of_at_most_the_peak(
    schedule: str, warmup_share: float, total: int, data: st.DataObject
):
    batch_tokens = data.draw(st.integers(1, total))
    tokens_done = data.draw(st.integers(0, total - 1))
    optim = OptimSpec.model_validate({"schedule": schedule, "warmup_share": warmup_share})

    rate = lr_at(tokens_done, batch_tokens=batch_tokens, optim=optim, peak_lr=2e-3, total_tokens=total)

    assert 0 < rate <= 2e-3
