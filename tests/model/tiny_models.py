"""Models of a few thousand parameters, and what they are fed.

Float64 where two ways of computing are compared: a batch, a cache or a changed token changes how many rows a matrix
product has, and with it the rounding. 1e-10 is then far above rounding and far below any mistake.
"""

import pytest
import torch
from torch import Tensor

from everyflop.model.build import build_model
from everyflop.model.transformer import CausalLM
from everyflop.spec.model import ModelSpec

CPU = torch.device("cpu")
VOCAB = 31

SIZES = {"vocab_size": VOCAB, "hidden": 16, "n_layers": 3, "n_heads": 4, "n_kv_heads": 2, "head_dim": 8}
SIZES |= {"dense_layers": (0,), "dense_width": 24, "n_experts": 8, "experts_per_token": 2, "expert_width": 8}
SIZES |= {"init_std": 0.3, "max_positions": 64}
MODELS = {
    "ling-v1": {"family": "ling-v1", "n_shared_experts": 2},
    "ling-v2": {"family": "ling-v2", "n_shared_experts": 1, "n_groups": 4, "keep_groups": 2, "rotary_dim": 4},
    "mla": {"family": "deepseek-v3", "n_kv_heads": 4, "q_rank": 6, "kv_rank": 8}
    | {"nope_head_dim": 6, "rope_head_dim": 4, "v_head_dim": 5},
    "sliding window": {"family": "mixtral", "sliding_window": 3},
}
MTP = {"n_mtp_layers": 1, "mtp_loss_weight": 0.3}
EVERY_MODEL = pytest.mark.parametrize("name", list(MODELS))


def spec(name: str = "ling-v2", **fields) -> ModelSpec:
    return ModelSpec(**{**SIZES, **MODELS[name], **fields})


def model(name: str = "ling-v2", dtype: torch.dtype = torch.float64, **fields) -> CausalLM:
    """A model that computes in `dtype`, with expert biases that matter; fp32 parameters unless dtype is fp64."""
    built = build_model(spec(name, **fields), seed=0, device=CPU, compute_dtype=dtype)
    for number, buffer in enumerate(built.buffers()):
        buffer.copy_(0.1 * torch.randn(len(buffer), generator=torch.Generator().manual_seed(number)))
    return built.double() if dtype == torch.float64 else built


def tokens(n_rows: int = 3, n_positions: int = 12, seed: int = 1) -> Tensor:
    return torch.randint(0, VOCAB, (n_rows, n_positions), generator=torch.Generator().manual_seed(seed))


def inputs_and_targets(n_rows: int = 3, n_positions: int = 12) -> tuple[Tensor, Tensor]:
    ids = tokens(n_rows, n_positions + 1)
    return ids[:, :-1], ids[:, 1:]


def gradients(one: CausalLM) -> dict[str, Tensor]:
    return {name: p.grad for name, p in one.named_parameters() if p.grad is not None}
