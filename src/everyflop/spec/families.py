"""The model families, as data: which behaviours each one fixes.

A field named here has this value when the user does not set it. Sources: the Bailing code for Ling, and the classes of
the same names in transformers for the others.
"""

from typing import Any, Literal, get_args

Family = Literal["ling-v1", "ling-v2", "deepseek-v3", "qwen3-moe", "mixtral", "olmoe"]

FAMILIES: tuple[str, ...] = get_args(Family)

FAMILY_DEFAULTS: dict[str, dict[str, Any]] = {
    "ling-v1": {"norm_head": True, "rope_theta": 600_000.0, "init_std": 0.006},
    "ling-v2": {
        "qk_norm": "head",
        "score": "sigmoid",
        "expert_bias": True,
        "routed_scale": 2.5,
        "rope_theta": 600_000.0,
        "init_std": 0.006,
    },
    "deepseek-v3": {
        "attention": "mla",
        "score": "sigmoid",
        "expert_bias": True,
        "routed_scale": 2.5,
        "rope_interleaved": True,
    },
    "qwen3-moe": {"qk_norm": "head"},
    "mixtral": {"norm_eps": 1e-5, "rope_theta": 1_000_000.0},
    "olmoe": {"qk_norm": "full", "normalise_weights": False, "norm_eps": 1e-5},
}
