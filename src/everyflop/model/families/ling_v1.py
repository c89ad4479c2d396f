"""Ling-lite and Ling-plus: Bailing MoE, version 1 (inclusionAI/Ling)."""

from typing import Any

from everyflop.model.families.common import (
    DENSE_WIDTH,
    EXPERT_WIDTH,
    HEAD_DIM,
    experts,
    read_dense_prefix,
    sizes,
    write_dense_prefix,
)
from everyflop.model.families.layout import Fields, Key, Layout, TensorNames
from everyflop.model.families.reader import REFUSED, ConfigReader
from everyflop.model.families.rope import read_rope, write_rope
from everyflop.spec.model import ModelSpec


def read_more(reader: ConfigReader, fields: Fields) -> Fields:
    """Read what takes more than one key. With one expert a token, this code never normalises its weight."""
    fields["normalise_weights"] = fields["normalise_weights"] and fields["experts_per_token"] != 1
    rope = read_rope(reader, fields, theta=10_000.0, original=4096)
    if isinstance(yarn := rope["yarn"], dict):
        _check_yarn(reader, yarn)
    return rope | read_dense_prefix(reader, fields, default=0)


def _check_yarn(reader: ConfigReader, yarn: dict[str, Any]) -> None:
    """Refuse what this code's own YaRN does not know, or reads in its own way."""
    if yarn["attention_factor"] is not None or not yarn["truncate"]:
        reader.problem("rope_scaling", "sets attention_factor or truncate, which this architecture ignores")
    if yarn["mscale"] == 1 and not yarn["mscale_all_dim"]:
        yarn["mscale"] = yarn["mscale_all_dim"] = None  # the values that absent keys stand for
    if bool(yarn["mscale"]) != bool(yarn["mscale_all_dim"]) and REFUSED not in yarn.values():
        reader.problem("rope_scaling", "sets one of mscale and mscale_all_dim", "set both or neither")


def write_more(spec: ModelSpec) -> dict[str, Any]:
    """Return the keys that `read_more` reads."""
    return write_rope(spec) | write_dense_prefix(spec)


LAYOUT = Layout(
    family="ling-v1",
    architecture="BailingMoeForCausalLM",
    model_type="bailing_moe",
    keys=(
        *sizes(norm_eps=1e-5, max_positions=16_384),
        HEAD_DIM,
        DENSE_WIDTH,
        EXPERT_WIDTH,
        experts("num_experts"),
        Key("num_shared_experts", "n_shared_experts", int, 0, null=0, aliases=("n_shared_experts",)),
        Key("norm_topk_prob", "normalise_weights", bool, True),
        Key("norm_head", "norm_head", bool, False),
        Key("use_qkv_bias", "qkv_bias", bool, False),
        Key("use_bias", "out_bias", bool, True),
    ),
    read_more=read_more,
    write_more=write_more,
    fixed={"use_sliding_window": (False,)},
    # The vendor's class assumes dropout where a config is silent.
    constants={"hidden_act": "silu", "attention_dropout": 0.0, "embedding_dropout": 0.0, "output_dropout": 0.0},
    harmless=frozenset(
        {
            "embedding_dropout",
            "output_dropout",
            "norm_softmax",
            "sliding_window",
            "max_window_layers",
            "moe_shared_expert_intermediate_size",
        }
    ),
    names=TensorNames(embed="model.word_embeddings", attention="attention", packed_qkv="query_key_value", out="dense"),
)
