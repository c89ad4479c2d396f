import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture(scope="session")
def bailing():
    """The slow float64 implementation of Bailing V1 and V2."""
    path = Path(__file__).parents[1] / "reference" / "bailing.py"
    spec = importlib.util.spec_from_file_location("bailing_reference", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def write_folder(tmp_path):
    """Write config.json and model.safetensors, and return the folder."""

    def write(config, tensors, name="hf"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        kept = {
            key: torch.as_tensor(np.asarray(value)) if not torch.is_tensor(value) else value
            for key, value in tensors.items()
        }
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return write


LING = {
    "attention_dropout": 0.0,
    "first_k_dense_replace": 0,
    "hidden_act": "silu",
    "hidden_size": 16,
    "intermediate_size": 10,
    "max_position_embeddings": 64,
    "moe_intermediate_size": 6,
    "norm_topk_prob": True,
    "num_attention_heads": 4,
    "num_experts": 8,
    "num_experts_per_tok": 3,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "num_shared_experts": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
    "rope_scaling": None,
    "rope_theta": 600.0,
    "tie_word_embeddings": False,
    "use_bias": False,
    "use_qkv_bias": False,
    "vocab_size": 23,
}


@pytest.fixture(scope="session")
def ling_v1_config():
    """A small config.json of Bailing V1, with changes."""

    def config(**changes):
        return {
            **LING,
            "architectures": ["BailingMoeForCausalLM"],
            "model_type": "bailing_moe",
            "norm_head": True,
        } | changes

    return config


@pytest.fixture(scope="session")
def ling_v2_config():
    """A small config.json of Bailing V2, with changes. Its model_type is the one that published files have."""

    def config(**changes):
        v2 = {
            "architectures": ["BailingMoeV2ForCausalLM"],
            "model_type": "bailing_moe",
            "first_k_dense_replace": 1,
            "moe_router_enable_expert_bias": True,
            "n_group": 4,
            "topk_group": 2,
            "partial_rotary_factor": 0.5,
            "routed_scaling_factor": 2.5,
            "score_function": "sigmoid",
            "use_qk_norm": True,
        }
        return {**LING, **v2, **changes}

    return config


COMMON = {
    "vocab_size": 23,
    "hidden_size": 16,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
FAMILIES = {
    "Mixtral": {"num_local_experts": 5},
    "Qwen3Moe": {"num_experts": 5, "moe_intermediate_size": 8},
    "Olmoe": {"num_experts": 5},
    "DeepseekV3": {
        "num_key_value_heads": 4,
        "n_routed_experts": 8,
        "n_shared_experts": 2,
        "n_group": 4,
        "topk_group": 2,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 8,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 8,
        "q_lora_rank": 6,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 6,
        "v_head_dim": 5,
    },
}


@pytest.fixture(scope="session")
def transformers_model():
    """Build a small model of a transformers class with every parameter random, norms, biases and buffers too."""

    def build(family, latent_scale=1.0, **changes):
        import transformers

        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        config = getattr(transformers, f"{family}Config")(**{**COMMON, **FAMILIES[family], **changes})
        config._attn_implementation = "eager"
        model = getattr(transformers, f"{family}ForCausalLM")(config).float().eval()
        generator = torch.Generator().manual_seed(7)
        biases = [one for one in model.named_buffers() if one[0].endswith("e_score_correction_bias")]
        with torch.no_grad():
            for name, tensor in [*model.named_parameters(), *biases]:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3 + ("norm" in name))
                if "q_a_proj" in name or "kv_a_proj" in name:
                    tensor.mul_(latent_scale)
        return model

    return build
