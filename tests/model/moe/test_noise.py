"""Routing noise. Samples are fixed, so each statistic is one number, well inside its expected spread."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from everyflop.model.moe.noise import RoutingNoise

N_ROWS, N_POSITIONS, N_EXPERTS = 40, 125, 16  # 80,000 numbers: a mean spreads by 0.0035, a correlation likewise


def noise(step: int = 0, warmup_steps: int = 10, rows=range(N_ROWS), mean=0.0, std=1.0, seed=7) -> RoutingNoise:
    """Noise for three routers whose logits all have this mean and standard deviation."""
    return RoutingNoise(
        seed, step, warmup_steps, torch.tensor(list(rows)), torch.full((3,), mean), torch.full((3,), std)
    )


def drawn(one: RoutingNoise, layer: int = 0, positions: int = N_POSITIONS) -> Tensor:
    """Return the noise alone, (rows, positions, experts), as step 0 has nothing else."""
    n_rows = len(one.sample_numbers_B)
    return one.blend(torch.zeros(n_rows * positions, N_EXPERTS), layer).view(n_rows, positions, N_EXPERTS)


def correlation(a: Tensor, b: Tensor) -> float:
    return torch.corrcoef(torch.stack([a.flatten().double(), b.flatten().double()]))[0, 1].item()


def test_noise_is_standard_normal():
    x = drawn(noise()).double().flatten()

    assert x.mean().item() == pytest.approx(0, abs=0.01)
    assert x.std().item() == pytest.approx(1, abs=0.01)
    assert (x**3).mean().item() == pytest.approx(0, abs=0.03)
    assert (x**4).mean().item() == pytest.approx(3, abs=0.1)
    for edge, share_below in [(-1.6449, 0.05), (-0.6745, 0.25), (0.0, 0.5), (0.6745, 0.75), (1.6449, 0.95)]:
        assert (x < edge).double().mean().item() == pytest.approx(share_below, abs=0.005)


def test_no_two_numbers_share_their_bits():
    x = drawn(noise()).flatten()

    assert len(x.unique()) > 0.99 * len(x)  # fp32 has neighbours this close now and then


def test_the_noise_is_the_same_however_rows_are_split_over_micro_batches():
    whole = drawn(noise(rows=[5, 9, 1000, 2**40]))

    parts = [drawn(noise(rows=rows)) for rows in ([5], [9, 1000], [2**40])]
    assert torch.equal(whole, torch.cat(parts))
    assert torch.equal(whole.flip(0), drawn(noise(rows=[2**40, 1000, 9, 5])))


def test_shorter_rows_have_the_beginning_of_the_same_noise():
    assert torch.equal(drawn(noise(), positions=10), drawn(noise())[:, :10])


@pytest.mark.parametrize(
    ("change", "layer"),
    [
        ({"seed": 8}, 0),
        ({"step": 1, "warmup_steps": 10**9}, 0),
        ({}, 1),
        ({"sample_numbers_B": torch.arange(N_ROWS) + N_ROWS}, 0),
    ],
    ids=["seed", "step", "layer", "sample numbers"],
)
def test_each_key_gives_unrelated_noise(change, layer):
    assert abs(correlation(drawn(noise()), drawn(replace(noise(), **change), layer))) < 0.015


def test_seed_and_sample_number_cannot_be_swapped():
    assert not torch.equal(drawn(noise(seed=1, rows=[2])), drawn(noise(seed=2, rows=[1])))


@pytest.mark.parametrize("dim", [0, 1, 2], ids=["rows", "positions", "experts"])
def test_neighbours_are_unrelated(dim):
    x = drawn(noise())
    first, last = x.narrow(dim, 0, x.shape[dim] - 1), x.narrow(dim, 1, x.shape[dim] - 1)

    assert abs(correlation(first, last)) < 0.015


def test_noise_has_the_logits_mean_and_standard_deviation():
    x = drawn(noise(mean=3.0, std=0.5)).double()

    assert x.mean().item() == pytest.approx(3.0, abs=0.005)
    assert x.std().item() == pytest.approx(0.5, abs=0.005)


def test_each_router_has_its_own_statistics():
    one = replace(noise(), mean_L=torch.tensor([0.0, 100.0, 0.0]), std_L=torch.tensor([1.0, 0.0, 1.0]))

    assert (drawn(one, 1) == 100.0).all()


def test_halfway_the_logits_have_half_the_share():
    logits = torch.randn(N_ROWS * N_POSITIONS, N_EXPERTS, generator=torch.Generator().manual_seed(0))
    half = noise(step=5)
    pure = half.blend(torch.zeros_like(logits), 0) * 2

    torch.testing.assert_close(half.blend(logits, 0), 0.5 * logits + 0.5 * pure)


@pytest.mark.parametrize("step", [10, 11, 1000])
def test_after_the_warm_up_the_logits_are_left_alone(step):
    logits = torch.randn(N_ROWS * N_POSITIONS, N_EXPERTS, generator=torch.Generator().manual_seed(0))

    assert torch.equal(noise(step=step, mean=3.0).blend(logits, 0), logits)


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (3, 0.3), (10, 1.0)])
def test_gradients_flow_through_the_logits_share_alone(step, share):
    logits = torch.randn(6, N_EXPERTS, generator=torch.Generator().manual_seed(0), requires_grad=True)

    noise(step=step, rows=[0, 1]).blend(logits, 0).sum().backward()

    torch.testing.assert_close(logits.grad, torch.full_like(logits, share))


def test_fp64_logits_stay_fp64():
    assert noise(step=3, rows=[0]).blend(torch.zeros(4, N_EXPERTS, dtype=torch.float64), 0).dtype == torch.float64
