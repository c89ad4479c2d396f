import math

import pytest
import torch

from everyflop.model.layers import Linear, RMSNorm, SwiGLU, at_least_fp32, swiglu


def linear(n_in: int, n_out: int, *, bias: bool = False) -> Linear:
    layer = Linear(n_in, n_out, bias=bias)
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters(), start=1):
            parameter.copy_(number * torch.arange(1.0, parameter.numel() + 1).view_as(parameter))
    return layer


def rms_norm(size: int, eps: float) -> RMSNorm:
    norm = RMSNorm(size, eps)
    with torch.no_grad():
        norm.weight.fill_(1.0)
    return norm


@pytest.mark.parametrize(
    ("dtype", "wide"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_statistics_are_in_fp32_or_fp64(dtype, wide):
    assert at_least_fp32(torch.ones(2, dtype=dtype)).dtype == wide


def test_linear_multiplies_by_the_transposed_matrix_and_adds_the_bias():
    x = torch.tensor([1.0, 10.0])

    assert linear(2, 3)(x).tolist() == [21.0, 43.0, 65.0]
    assert linear(2, 3, bias=True)(x).tolist() == [23.0, 47.0, 71.0]  # bias 2 4 6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_linear_computes_in_the_inputs_type_and_learns_in_its_own(dtype):
    layer = linear(2, 3, bias=True)

    y = layer(torch.ones(4, 2, dtype=dtype))
    y.sum().backward()

    assert y.dtype == dtype
    assert {layer.weight.dtype, layer.weight.grad.dtype, layer.bias.grad.dtype} == {torch.float32}


def test_rms_norm_divides_by_the_root_mean_square():
    y = rms_norm(2, eps=0.0)(torch.tensor([3.0, 4.0]))

    assert y.tolist() == pytest.approx([3 / math.sqrt(12.5), 4 / math.sqrt(12.5)])


def test_rms_norm_adds_eps_to_the_mean_square():
    assert rms_norm(2, eps=12.5)(torch.tensor([3.0, 4.0])).tolist() == pytest.approx([0.6, 0.8])


def test_rms_norm_scales_each_channel_by_its_weight():
    norm = rms_norm(2, eps=0.0)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, -1.0]))

    assert norm(torch.tensor([5.0, 5.0])).tolist() == pytest.approx([2.0, -1.0])


def test_rms_norm_of_bf16_has_statistics_in_fp32():
    x = torch.randn(8, 300, generator=torch.Generator().manual_seed(0)).bfloat16()

    y = rms_norm(300, eps=1e-6)(x)

    exact = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-6).sqrt()
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, exact.bfloat16())  # rounded once: statistics in bf16 would be off by up to 2**-8


def test_swiglu_gates_the_second_half_by_the_silu_of_the_first():
    y = swiglu(torch.tensor([0.0, 1.0, 7.0, 3.0]))

    assert y.tolist() == pytest.approx([0.0, 3.0 / (1 + math.exp(-1))])


def test_the_dense_part_projects_up_gates_and_projects_down():
    layer = SwiGLU(1, 2)
    with torch.no_grad():
        layer.gate_up.weight.copy_(torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
        layer.down.weight.copy_(torch.tensor([[10.0, 100.0]]))

    y = layer(torch.tensor([[1.0]]))

    expected = 10 * 3 / (1 + math.exp(-1)) + 100 * 4 * 2 / (1 + math.exp(-2))
    assert y.item() == pytest.approx(expected)
