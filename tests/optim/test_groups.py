import torch
from torch.nn import Parameter

from everyflop.optim.groups import parameter_groups

SHAPES = {
    "embed.weight": (8, 4),
    "layers.0.attn_norm.weight": (4,),
    "layers.0.attn.qkv.weight": (12, 4),
    "layers.0.attn.qkv.bias": (12,),
    "layers.0.ffn.router.weight": (2, 4),
    "layers.0.ffn.experts.gate_up": (2, 6, 4),
}


def test_matrices_decay_and_norms_and_biases_do_not():
    named = [(name, Parameter(torch.zeros(shape))) for name, shape in SHAPES.items()]

    decaying, steady = parameter_groups(named, 0.1)

    assert (decaying["weight_decay"], steady["weight_decay"]) == (0.1, 0.0)
    assert [name for name, _ in steady["params"]] == ["layers.0.attn_norm.weight", "layers.0.attn.qkv.bias"]
    assert [name for name, _ in decaying["params"]] == [
        "embed.weight",
        "layers.0.attn.qkv.weight",
        "layers.0.ffn.router.weight",
        "layers.0.ffn.experts.gate_up",
    ]


def test_a_group_without_parameters_is_left_out():
    assert len(parameter_groups([("w", Parameter(torch.zeros(2, 2)))], 0.1)) == 1
