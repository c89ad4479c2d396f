"""OLMoE, as transformers' OlmoeForCausalLM computes it."""

from typing import Any

from everyflop.model.families.common import even_heads, experts, sizes
from everyflop.model.families.layout import Fields, Key, Layout
from everyflop.model.families.reader import REFUSED, ConfigReader
from everyflop.model.families.rope import read_rope, write_rope
from everyflop.spec.model import ModelSpec


def read_more(reader: ConfigReader, fields: Fields) -> Fields:
    """Read what takes more than one key. Heads always divide the hidden size: their norms are that wide."""
    head_dim = even_heads(fields)
    if head_dim is not REFUSED:
        reader.expect("head_dim", (head_dim, None))
    return {"head_dim": head_dim, "out_bias": fields["qkv_bias"], **read_rope(reader, fields, theta=10_000.0)}


def write_more(spec: ModelSpec) -> dict[str, Any]:
    """Return the keys that `read_more` reads."""
    return write_rope(spec)


LAYOUT = Layout(
    family="olmoe",
    architecture="OlmoeForCausalLM",
    model_type="olmoe",
    keys=(
        *sizes(norm_eps=1e-5, max_positions=4096, kv_heads=None),
        experts("num_experts"),
        Key("intermediate_size", "expert_width", int),
        Key("norm_topk_prob", "normalise_weights", bool, False),
        Key("attention_bias", "qkv_bias", bool, False),
        Key("clip_qkv", "clip_qkv", float, None, null=None),
    ),
    read_more=read_more,
    write_more=write_more,
    constants={"hidden_act": "silu"},
)
