import torch
import torch.nn.functional as F

from everyflop.model.moe.experts import Experts

N_EXPERTS, HIDDEN, WIDTH = 4, 6, 5


def experts(dtype: torch.dtype = torch.float64) -> Experts:
    built = Experts(N_EXPERTS, HIDDEN, WIDTH).to(dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return built


def rows(n_rows: int) -> torch.Tensor:
    return torch.randn(n_rows, HIDDEN, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_each_row_goes_through_its_own_experts_swiglu():
    model, x_SH = experts(), rows(7)
    owners = [0, 0, 0, 2, 3, 3, 3]

    y_SH = model(x_SH, torch.tensor([3, 3, 4, 7], dtype=torch.int32))

    for x, y, e in zip(x_SH, y_SH, owners, strict=True):
        gate, up = model.gate_up[e][:WIDTH] @ x, model.gate_up[e][WIDTH:] @ x
        torch.testing.assert_close(y, model.down[e] @ (F.silu(gate) * up))


def test_an_expert_without_rows_gets_gradients_of_zero():
    model = experts()

    model(rows(7), torch.tensor([3, 3, 4, 7], dtype=torch.int32)).sum().backward()

    for gradient in (model.gate_up.grad, model.down.grad):
        assert [bool(one.any()) for one in gradient] == [True, False, True, True]


def test_fp32_matrices_work_on_bf16_rows_and_get_fp32_gradients():
    model = experts(torch.float32)

    y_SH = model(rows(7).bfloat16(), torch.tensor([3, 3, 4, 7], dtype=torch.int32))
    y_SH.sum().backward()

    assert y_SH.dtype == torch.bfloat16
    assert {model.gate_up.grad.dtype, model.down.grad.dtype} == {torch.float32}
