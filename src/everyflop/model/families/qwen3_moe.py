"""Qwen3-MoE, as transformers' Qwen3MoeForCausalLM computes it."""

from typing import Any

from everyflop.model.families.common import DENSE_WIDTH, EXPERT_WIDTH, HEAD_DIM, experts, sizes, used_width
from everyflop.model.families.layout import Fields, Key, Layout
from everyflop.model.families.reader import MISSING, REFUSED, ConfigReader
from everyflop.model.families.rope import read_rope, write_rope
from everyflop.spec.model import ModelSpec


def read_more(reader: ConfigReader, fields: Fields) -> Fields:
    """Read what takes more than one key. The biases of attention come together or not at all."""
    return {
        "out_bias": fields["qkv_bias"],
        "sliding_window": _read_window(reader),
        **read_rope(reader, fields, theta=10_000.0),
        **_read_dense_layers(reader, fields),
    }


def _read_window(reader: ConfigReader) -> Any:
    """Return sliding_window, which counts only where use_sliding_window is true."""
    used, size = reader.raw("use_sliding_window"), reader.raw("sliding_window")
    skipped = reader.raw("max_window_layers")
    if used in (MISSING, None, False):
        return None
    if skipped not in (MISSING, None, 0):
        hint = "older versions of transformers leave these layers without a window, newer ones do not; set it to 0"
        reader.problem("max_window_layers", f"is {skipped!r} while use_sliding_window is true", hint)
    if reader.typed(used, bool, "use_sliding_window") is REFUSED:
        return REFUSED
    return 4096 if size is MISSING else None if size is None else reader.typed(size, int, "sliding_window")


def _read_dense_layers(reader: ConfigReader, fields: Fields) -> Fields:
    """Return dense_layers: those listed, and all but every decoder_sparse_step-th."""
    listed, step, n_layers = reader.raw("mlp_only_layers"), reader.raw("decoder_sparse_step"), fields["n_layers"]
    listed = [] if listed in (MISSING, None) else listed
    step = 1 if step is MISSING else step
    if not isinstance(listed, list) or any(type(layer) is not int for layer in listed):
        reader.problem("mlp_only_layers", f"is {listed!r}, and a list of layer numbers is needed")
    elif type(step) is not int or step < 1:
        reader.problem("decoder_sparse_step", f"is {step!r}, and a whole number from 1 is needed")
    elif n_layers is not REFUSED:
        return used_width(fields, tuple(i for i in range(n_layers) if i in listed or (i + 1) % step))
    return {"dense_layers": REFUSED}


def write_more(spec: ModelSpec) -> dict[str, Any]:
    """Return the keys that `read_more` reads."""
    return {
        **write_rope(spec),
        "use_sliding_window": spec.sliding_window is not None,
        "sliding_window": spec.sliding_window,
        "mlp_only_layers": list(spec.dense_layers),
        "decoder_sparse_step": 1,
        "intermediate_size": spec.dense_width or spec.expert_width,
    }


LAYOUT = Layout(
    family="qwen3-moe",
    architecture="Qwen3MoeForCausalLM",
    model_type="qwen3_moe",
    keys=(
        *sizes(norm_eps=1e-6, max_positions=32_768, kv_heads=4),
        HEAD_DIM,
        DENSE_WIDTH,
        EXPERT_WIDTH,
        experts("num_experts"),
        Key("norm_topk_prob", "normalise_weights", bool, False),
        Key("attention_bias", "qkv_bias", bool, False),
    ),
    read_more=read_more,
    write_more=write_more,
    constants={"hidden_act": "silu"},
)
