"""Rotary embedding against pairs turned one by one, and YaRN against its formulas written out."""

import cmath
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from everyflop.model.rope import RopeTables, rope_tables, yarn_mscale, yarn_scale
from everyflop.spec.model import ModelSpec, YarnSpec

HEAD_DIM = 8


def spec(**fields) -> ModelSpec:
    sizes = {"vocab_size": 8, "hidden": 8, "n_layers": 1, "n_heads": 1, "n_kv_heads": 1, "head_dim": HEAD_DIM}
    experts = {"n_experts": 2, "experts_per_token": 1, "expert_width": 2}
    return ModelSpec(family="mixtral", **{**sizes, **experts, "rope_theta": 100.0, **fields})


def tables(one: ModelSpec, *positions: int) -> RopeTables:
    return rope_tables(one, torch.tensor(positions), torch.float64)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def turned(pair: Tensor, angle: float) -> list[float]:
    """Turn a point of the plane."""
    z = complex(*pair.tolist()) * cmath.exp(1j * angle)
    return [z.real, z.imag]


@pytest.mark.parametrize("r", [2, 4, 8])
def test_channel_i_turns_with_channel_i_plus_half(r):
    x = normal(1, 3, 2, HEAD_DIM)

    y = tables(spec(rotary_dim=r), 0, 1, 5).rotate(x)

    for t, position in enumerate((0, 1, 5)):
        for i in range(r // 2):
            for head in range(2):
                expected = turned(x[0, t, head, [i, i + r // 2]], position * 100.0 ** (-2 * i / r))
                assert y[0, t, head, [i, i + r // 2]].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("r", [2, 4, 8])
def test_interleaved_neighbours_turn_together_and_come_out_as_halves(r):
    x = normal(1, 3, 2, HEAD_DIM)

    y = tables(spec(rotary_dim=r, rope_interleaved=True), 0, 1, 5).rotate(x)

    for t, position in enumerate((0, 1, 5)):
        for i in range(r // 2):
            expected = turned(x[0, t, 0, [2 * i, 2 * i + 1]], position * 100.0 ** (-2 * i / r))
            assert y[0, t, 0, [i, i + r // 2]].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("interleaved", [False, True])
def test_channels_past_the_rotary_ones_pass_through(interleaved):
    x = normal(1, 2, 1, HEAD_DIM)

    y = tables(spec(rotary_dim=4, rope_interleaved=interleaved), 3, 4).rotate(x)

    assert torch.equal(y[..., 4:], x[..., 4:])
    assert (y[..., :4] != x[..., :4]).all()


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 1000), st.booleans())
def test_products_of_queries_and_keys_depend_on_their_distance_alone(m, n, shift, interleaved):
    one = spec(rope_interleaved=interleaved)
    q, k = normal(2, 1, 1, HEAD_DIM).split(1)

    near = (tables(one, m).rotate(q) * tables(one, n).rotate(k)).sum()
    far = (tables(one, m + shift).rotate(q) * tables(one, n + shift).rotate(k)).sum()

    torch.testing.assert_close(near, far, rtol=1e-9, atol=1e-9)


def test_rotation_keeps_the_inputs_type():
    angles = rope_tables(spec(), torch.arange(3), torch.float32)

    assert angles.cos.dtype == torch.float32
    assert angles.rotate(torch.ones(1, 3, 1, HEAD_DIM, dtype=torch.bfloat16)).dtype == torch.bfloat16


YARN = {"factor": 4.0, "original_max_positions": 256, "beta_fast": 8.0, "beta_slow": 1.0}


def literal_frequencies(r: int, theta: float, *, factor: float, length: int, fast: float, slow: float, truncate: bool):
    """YaRN's section 3.2, frequency by frequency: keep the fast ones, divide the slow ones, ramp between."""

    def channel(turns: float) -> float:
        return r * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = channel(fast), channel(slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, r - 1)
    found = []
    for i in range(r // 2):
        frequency = theta ** (-2 * i / r)
        divided_share = min(max((i - low) / (high - low), 0.0), 1.0)
        found.append(frequency / factor * divided_share + frequency * (1 - divided_share))
    return found


@pytest.mark.parametrize("truncate", [True, False])
def test_yarn_keeps_fast_channels_divides_slow_ones_and_ramps_between(truncate):
    yarn = YarnSpec(**YARN, truncate=truncate, attention_factor=1.0)
    one = spec(head_dim=32, rope_theta=10_000.0, yarn=yarn)

    angles = tables(one, 1)

    expected = literal_frequencies(32, 10_000.0, factor=4.0, length=256, fast=8.0, slow=1.0, truncate=truncate)
    plain = [10_000.0 ** (-2 * i / 32) for i in range(16)]
    assert expected[0] == plain[0]
    assert expected[-1] == pytest.approx(plain[-1] / 4)
    assert torch.atan2(angles.sin, angles.cos)[0].tolist() == pytest.approx(expected, rel=1e-9)


def test_a_yarn_ramp_without_length_is_a_step():
    # 16 / (2.6 x 2 pi) is just below 1: both ends of the ramp fall on channel 0.
    yarn = YarnSpec(factor=4.0, original_max_positions=16, beta_fast=32.0, beta_slow=2.6, attention_factor=1.0)

    angles = tables(spec(yarn=yarn), 1)

    expected = [1.0, *(100.0 ** (-2 * i / HEAD_DIM) / 4 for i in range(1, 4))]
    assert torch.atan2(angles.sin, angles.cos)[0].tolist() == pytest.approx(expected)


def test_yarn_scales_cosine_and_sine():
    plain, scaled = (tables(spec(yarn=YarnSpec(**YARN, attention_factor=factor)), 3) for factor in (1.0, 1.5))

    torch.testing.assert_close(scaled.cos, 1.5 * plain.cos)
    torch.testing.assert_close(scaled.sin, 1.5 * plain.sin)


@pytest.mark.parametrize(
    ("fields", "scale"),
    [
        ({}, 0.1 * math.log(4) + 1),
        ({"attention_factor": 1.25}, 1.25),
        ({"mscale": 1.0, "mscale_all_dim": 1.0}, 1.0),
        ({"mscale": 0.707, "mscale_all_dim": 1.0}, (0.0707 * math.log(4) + 1) / (0.1 * math.log(4) + 1)),
        ({"mscale": 0.707}, 0.1 * math.log(4) + 1),  # one of the two alone says nothing
    ],
)
def test_the_scale_comes_from_its_own_key_then_from_both_mscales_then_from_the_factor(fields, scale):
    assert yarn_scale(YarnSpec(**YARN, **fields)) == pytest.approx(scale)


def test_nothing_stretched_is_nothing_scaled():
    assert yarn_mscale(1.0, 1.0) == 1.0
