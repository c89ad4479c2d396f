"""Ling-mini, Ling-flash and Ling-1T: Bailing MoE, version 2 (inclusionAI/Ling-V2)."""

from typing import Any

from everyflop.model.families import ling_v1
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
from everyflop.model.families.reader import ConfigReader
from everyflop.model.families.rope import read_rope, write_part, write_rope
from everyflop.spec.model import ModelSpec


def read_more(reader: ConfigReader, fields: Fields) -> Fields:
    """Read what takes more than one key. This code normalises weights whenever a token has more than one expert."""
    return {
        "normalise_weights": fields["experts_per_token"] != 1,
        **read_rope(reader, fields, theta=600_000.0, partial=True),
        **read_dense_prefix(reader, fields, default=1),
    }


def write_more(spec: ModelSpec) -> dict[str, Any]:
    """Return the keys that `read_more` reads."""
    return write_rope(spec) | write_part(spec) | write_dense_prefix(spec)


LAYOUT = Layout(
    family="ling-v2",
    architecture="BailingMoeV2ForCausalLM",
    model_type="bailing_moe",  # as published: the name of version 1, so every program that reads those files takes it
    keys=(
        *sizes(norm_eps=1e-6, max_positions=32_768),
        HEAD_DIM,
        DENSE_WIDTH,
        EXPERT_WIDTH,
        experts("num_experts"),
        Key("num_shared_experts", "n_shared_experts", int, 1, null=0, aliases=("n_shared_experts",)),
        Key("n_group", "n_groups", int, 8),
        Key("topk_group", "keep_groups", int, 4),
        Key("routed_scaling_factor", "routed_scale", float, 1.0),
        Key("use_qk_norm", "qk_norm", bool, True, values={True: "head", False: "none"}),
        Key("use_qkv_bias", "qkv_bias", bool, False),
        Key("use_bias", "out_bias", bool, False),
        Key("num_nextn_predict_layers", "n_mtp_layers", int, 0, null=0, aliases=("num_mtp_layers",)),
        Key("mtp_loss_scaling_factor", "mtp_loss_weight", float, 0.0, null=0.0),
    ),
    read_more=read_more,
    write_more=write_more,
    fixed={
        "score_function": ("sigmoid",),
        "moe_router_enable_expert_bias": (True,),
        "router_dtype": ("fp32", "float32"),
        "router_type": ("topN",),
        "use_rmsnorm": (True,),
        "norm_head": (False,),
        "use_sliding_window": (False,),
        # The vendor's code reads neither value and always does this.
        "norm_topk_prob": (True, False),
    },
    constants={
        "hidden_act": "silu",
        "score_function": "sigmoid",
        "norm_topk_prob": True,
        "moe_router_enable_expert_bias": True,
        "router_dtype": "fp32",
        "use_rmsnorm": True,
    },
    harmless=ling_v1.LAYOUT.harmless,
    names=TensorNames(
        embed="model.word_embeddings",
        attention="attention",
        packed_qkv="query_key_value",
        out="dense",
        q_norm="query_layernorm",
        k_norm="key_layernorm",
    ),
)
