"""DeepSeek-V3 and R1, as transformers' DeepseekV3ForCausalLM computes them."""

from typing import Any

from everyflop.model.families.common import (
    DENSE_WIDTH,
    EXPERT_WIDTH,
    experts,
    read_dense_prefix,
    sizes,
    write_dense_prefix,
)
from everyflop.model.families.layout import Fields, Key, Layout, TensorNames
from everyflop.model.families.reader import MISSING, REFUSED, ConfigReader
from everyflop.model.families.rope import read_rope, write_rope
from everyflop.spec.model import ModelSpec


def read_more(reader: ConfigReader, fields: Fields) -> Fields:
    """Read what takes more than one key. The biases of attention come together or not at all."""
    rope_dim, nope_dim = fields["rope_head_dim"], fields["nope_head_dim"]
    if REFUSED not in (rope_dim, nope_dim):
        reader.expect("head_dim", (rope_dim, None))
        reader.expect("qk_head_dim", (nope_dim + rope_dim,))
    return {
        "head_dim": rope_dim,
        "out_bias": fields["qkv_bias"],
        "n_mtp_layers": _read_mtp(reader),
        **read_rope(reader, fields, theta=10_000.0),
        **read_dense_prefix(reader, fields, default=3),
    }


def _read_mtp(reader: ConfigReader) -> Any:
    """Return the number of MTP layers: config.json says 1 even where there is none, so the tensors decide."""
    value = reader.raw("num_nextn_predict_layers", "num_mtp_layers")
    count = 1 if value is MISSING else 0 if value is None else reader.typed(value, int, "num_nextn_predict_layers")
    return count if count is REFUSED or reader.has_mtp else 0


def write_more(spec: ModelSpec) -> dict[str, Any]:
    """Return the keys that `read_more` reads."""
    return {
        **write_rope(spec),
        **write_dense_prefix(spec),
        "num_nextn_predict_layers": spec.n_mtp_layers,
        "head_dim": spec.rope_head_dim,
    }


LAYOUT = Layout(
    family="deepseek-v3",
    architecture="DeepseekV3ForCausalLM",
    model_type="deepseek_v3",
    keys=(
        *sizes(norm_eps=1e-6, max_positions=4096, kv_heads=None),
        DENSE_WIDTH,
        EXPERT_WIDTH,
        experts("n_routed_experts"),
        Key("n_shared_experts", "n_shared_experts", int, 1, null=0, aliases=("num_shared_experts",)),
        Key("q_lora_rank", "q_rank", int, 1536, null=None),
        Key("kv_lora_rank", "kv_rank", int, 512),
        Key("qk_nope_head_dim", "nope_head_dim", int, 128),
        Key("qk_rope_head_dim", "rope_head_dim", int, 64),
        Key("v_head_dim", "v_head_dim", int, 128),
        Key("n_group", "n_groups", int, 8),
        Key("topk_group", "keep_groups", int, 4),
        Key("norm_topk_prob", "normalise_weights", bool, True),
        Key("routed_scaling_factor", "routed_scale", float, 2.5),
        Key("rope_interleave", "rope_interleaved", bool, True),
        Key("attention_bias", "qkv_bias", bool, False),
        Key("mtp_loss_scaling_factor", "mtp_loss_weight", float, 0.0),
    ),
    read_more=read_more,
    write_more=write_more,
    fixed={"scoring_func": ("sigmoid",), "topk_method": ("noaux_tc",), "moe_layer_freq": (1,)},
    constants={"hidden_act": "silu", "scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1},
    harmless=frozenset({"aux_loss_alpha", "seq_aux"}),
    names=TensorNames(
        expert_bias="e_score_correction_bias",
        mtp_norm="shared_head.norm",
        mtp_copies={"embed_tokens.weight": "model.embed_tokens.weight", "shared_head.head.weight": "lm_head.weight"},
    ),
    mtp_by_tensors=True,
)
