"""Build a model with seeded weights.

Each parameter draws from its own generator, keyed by seed and name, on the CPU: neither the order of parameters nor the
device changes the start.
"""

import hashlib
import math

import torch

from everyflop.model.transformer import CausalLM
from everyflop.spec.model import ModelSpec


def build_model(spec: ModelSpec, *, seed: int, device: torch.device, compute_dtype: torch.dtype) -> CausalLM:
    """Return a model with fp32 parameters on `device`, initialised as `initialise` says."""
    with torch.device("meta"):
        model = CausalLM(spec, compute_dtype)
    model.to_empty(device=device)
    initialise(model, seed)
    return model


@torch.no_grad()
def initialise(model: CausalLM, seed: int) -> None:
    """Set matrices to N(0, std) by the spec, routers to U(+-1/sqrt(hidden)) as Bailing, norms to 1, biases to 0."""
    spec = model.spec
    for name, buffer in model.named_buffers():
        assert name.endswith("expert_bias"), name
        buffer.zero_()
    for name, parameter in model.named_parameters():
        if name.endswith("router.weight"):
            bound = 1 / math.sqrt(spec.hidden)
            parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=_generator(name, seed)))
        elif name.endswith("norm.weight"):
            parameter.fill_(1.0)
        elif name.endswith("bias"):
            parameter.zero_()
        else:
            std = _std(spec, name)
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=_generator(name, seed)))


def _std(spec: ModelSpec, name: str) -> float:
    if name == "embed.weight":
        return spec.embed_std or spec.init_std
    writes_to_residual = name.endswith(("attn.out.weight", ".down.weight", "experts.down"))
    return (spec.output_std if writes_to_residual else None) or spec.init_std


def _generator(name: str, seed: int) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
