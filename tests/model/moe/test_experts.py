import torch
import torch.nn.functional as F

from everyflop.model.moe.dispatch import LocalDispatch
from everyflop.model.moe.experts import Experts

N_EXPERTS, HIDDEN, WIDTH = 4, 6, 5


def experts(dtype: torch.dtype = torch.float64) -> Experts:
    built = Experts(N_EXPERTS, HIDDEN, WIDTH).to(dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return built


def test_each_row_goes_through_its_own_experts_swiglu_and_is_weighed():
    model, owners = experts(), [0, 0, 0, 2, 3, 3, 3]
    x_TH = torch.randn(7, HIDDEN, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights_TK = torch.arange(1.0, 8.0, dtype=torch.float64)[:, None]

    y_RH = model(LocalDispatch().dispatch(x_TH, torch.tensor(owners)[:, None], weights_TK, N_EXPERTS))

    for x, y, e, weight in zip(x_TH, y_RH, owners, weights_TK, strict=True):
        gate, up = model.gate_up[e][:WIDTH] @ x, model.gate_up[e][WIDTH:] @ x
        torch.testing.assert_close(y, weight * (model.down[e] @ (F.silu(gate) * up)))
