"""Mixtral, as transformers' MixtralForCausalLM computes it."""

from typing import Any

from everyflop.model.families.common import HEAD_DIM, experts, sizes
from everyflop.model.families.layout import Fields, Key, Layout, TensorNames
from everyflop.model.families.reader import ConfigReader
from everyflop.model.families.rope import read_rope, write_rope
from everyflop.spec.model import ModelSpec


def read_more(reader: ConfigReader, fields: Fields) -> Fields:
    """Read what takes more than one key."""
    return read_rope(reader, fields, theta=1_000_000.0)


def write_more(spec: ModelSpec) -> dict[str, Any]:
    """Return the keys that `read_more` reads."""
    return write_rope(spec)


LAYOUT = Layout(
    family="mixtral",
    architecture="MixtralForCausalLM",
    model_type="mixtral",
    keys=(
        *sizes(norm_eps=1e-5, max_positions=131_072, kv_heads=8),
        HEAD_DIM,
        experts("num_local_experts"),
        Key("intermediate_size", "expert_width", int),
        Key("sliding_window", "sliding_window", int, None, null=None),
    ),
    read_more=read_more,
    write_more=write_more,
    constants={"hidden_act": "silu"},
    names=TensorNames(moe="block_sparse_moe", expert=("w1", "w3", "w2")),
)
