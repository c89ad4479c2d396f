"""Mixtral, Qwen3-MoE, OLMoE and DeepSeek-V3 against transformers' own classes, both ways through real files."""

import contextlib
import copy
import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from everyflop.base.errors import DamagedFile
from everyflop.model.hf.load import load_hf
from everyflop.model.hf.names import parts
from everyflop.model.hf.save import save_hf
from everyflop.model.moe.router import Router

YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
CASES = {
    ("Mixtral", "as published"): {},
    ("Mixtral", "head_dim of its own"): {"head_dim": 6},
    ("Mixtral", "sliding window"): {"sliding_window": 3},
    ("Mixtral", "tied embeddings"): {"tie_word_embeddings": True},
    ("Mixtral", "one expert a token"): {"num_experts_per_tok": 1},
    ("Qwen3Moe", "as published"): {"head_dim": 8, "norm_topk_prob": True},
    ("Qwen3Moe", "weights not normalised"): {"head_dim": 8, "norm_topk_prob": False},
    ("Qwen3Moe", "biases"): {"attention_bias": True},
    ("Qwen3Moe", "mixed dense layers"): {"num_hidden_layers": 4, "mlp_only_layers": [3], "decoder_sparse_step": 2},
    ("Qwen3Moe", "sliding window"): {"use_sliding_window": True, "sliding_window": 4},
    ("Qwen3Moe", "sliding window not in use"): {"use_sliding_window": False, "sliding_window": 4},
    ("Qwen3Moe", "yarn"): {"head_dim": 8, "rope_scaling": YARN},
    ("Qwen3Moe", "yarn, all set"): {
        "head_dim": 16,
        "rope_scaling": {**YARN, "beta_fast": 8, "beta_slow": 2, "attention_factor": 1.3, "truncate": False},
    },
    ("Qwen3Moe", "yarn beyond the last channel"): {"head_dim": 8, "rope_scaling": {**YARN, "beta_slow": 1e-8}},
    ("Qwen3Moe", "tied embeddings"): {"tie_word_embeddings": True},
    ("Olmoe", "as published"): {},
    ("Olmoe", "kv heads as many as query heads"): {"num_key_value_heads": None},
    ("Olmoe", "clipped"): {"clip_qkv": 0.8},
    ("Olmoe", "weights normalised"): {"norm_topk_prob": True},
    ("Olmoe", "biases"): {"attention_bias": True},
    ("DeepseekV3", "as published"): {},
    ("DeepseekV3", "full query matrix"): {"q_lora_rank": None},
    ("DeepseekV3", "large epsilon"): {"rms_norm_eps": 0.05},
    ("DeepseekV3", "small latents"): {"latent_scale": 1e-3},
    ("DeepseekV3", "biases"): {"attention_bias": True},
    ("DeepseekV3", "rope in halves"): {"rope_interleave": False},
    ("DeepseekV3", "weights not normalised"): {"norm_topk_prob": False, "routed_scaling_factor": 1.7},
    ("DeepseekV3", "one group"): {"n_group": 1, "topk_group": 1},
    ("DeepseekV3", "yarn"): {"rope_scaling": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.2}},
    ("DeepseekV3", "yarn with one mscale"): {"rope_scaling": {**YARN, "mscale_all_dim": 1.2}},
}


@pytest.fixture(scope="module", params=CASES, ids=", ".join)
def pair(request, transformers_model, tmp_path_factory):
    """Their model, and ours loaded from the files they saved; ids (2, 17)."""
    theirs = transformers_model(request.param[0], **CASES[request.param])
    folder = tmp_path_factory.mktemp("theirs")
    theirs.save_pretrained(folder)
    ids = torch.randint(0, 23, (2, 17), generator=torch.Generator().manual_seed(1))
    return theirs, load_hf(folder), ids


@contextlib.contextmanager
def recorded(model, is_router, ids_of):
    """Collect each router's chosen experts while the block runs."""
    found, handles = [], []
    for module in model.modules():
        if is_router(module):
            handles.append(module.register_forward_hook(lambda _, __, out: found.append(ids_of(out).sort(-1).values)))
    yield found
    for handle in handles:
        handle.remove()


def test_logits_agree_within_1e_4_and_the_same_experts_are_chosen(pair):
    theirs, ours, ids = pair
    with torch.no_grad():
        with recorded(theirs, lambda m: type(m).__name__.lower().endswith("topkrouter"), lambda out: out[2]) as wanted:
            expected = theirs(ids).logits
        with recorded(ours, lambda m: isinstance(m, Router), lambda out: out.ids_TK) as found:
            logits = ours(ids)

    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert len(found) == len(wanted) > 0
    assert all(torch.equal(one, two) for one, two in zip(found, wanted, strict=True))


def test_the_loss_agrees_within_1e_5_and_each_gradient_within_3e_4(pair, tmp_path):
    theirs, ours, ids = pair
    their_loss, our_loss = theirs(ids, labels=ids).loss, ours.loss(ids)
    assert our_loss.item() == pytest.approx(their_loss.item(), abs=1e-5)

    their_loss.backward()
    our_loss.backward()
    gradients = hub_named(theirs, tmp_path)
    parameters = dict(ours.named_parameters())
    compared = [part for part in parts(ours.spec) if part.ours in parameters]
    for part in compared:
        expected, found = gradients[part.name], part.of(parameters[part.ours].grad)
        # The floor is for gradients that are nothing but rounding, as those of a router with one expert a token.
        assert (found - expected).norm() <= 3e-4 * expected.norm() + 1e-7, part.name
    buffers = {part.name for part in parts(ours.spec)} - {part.name for part in compared}
    assert gradients.keys() - {part.name for part in compared} == buffers
    theirs.zero_grad()
    ours.zero_grad()


def hub_named(model, folder):
    """Return a model's gradients by the names of its files: they are saved in place of its weights."""
    stand_in = copy.deepcopy(model)
    with torch.no_grad():
        for (_, parameter), (_, source) in zip(stand_in.named_parameters(), model.named_parameters(), strict=True):
            parameter.copy_(source.grad)
    stand_in.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def test_transformers_loads_what_we_save_and_computes_the_same(pair, tmp_path):
    import transformers

    theirs, ours, ids = pair
    save_hf(ours, tmp_path / "ours", max_shard_bytes=8000)
    # Without the raw config.json: what a model trained from scratch is saved with.
    vars(ours)["hf_config"], kept = None, ours.hf_config
    save_hf(ours, tmp_path / "fresh", dtype=torch.float32)
    vars(ours)["hf_config"] = kept

    with torch.no_grad():
        expected = theirs(ids).logits
        for name in ("ours", "fresh"):
            again, report = transformers.AutoModelForCausalLM.from_pretrained(
                tmp_path / name, attn_implementation="eager", output_loading_info=True
            )
            assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
            torch.testing.assert_close(again.eval()(ids).logits, expected, atol=1e-6, rtol=0)


@pytest.fixture
def with_mtp(transformers_model, tmp_path):
    """A DeepSeek-V3 of two layers and a folder of it in which the third layer of a larger one is an MTP layer."""
    from transformers.modeling_layers import MtpLayer

    theirs = transformers_model("DeepseekV3", num_hidden_layers=3)
    theirs.save_pretrained(tmp_path / "three")
    theirs.config.num_hidden_layers = 2
    mtp = MtpLayer(theirs.config, type(theirs.model.layers[2]), type(theirs.model.norm), 2)
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, tensor in mtp.named_parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3 + ("norm" in name))
    mtp.mtp_block = theirs.model.layers[2]
    tensors = load_file(tmp_path / "three" / "model.safetensors")
    tensors |= {
        f"model.layers.2.{name}.weight": getattr(mtp, name).weight.detach() for name in ("enorm", "hnorm", "eh_proj")
    }
    tensors["model.layers.2.shared_head.norm.weight"] = mtp.post_norm.weight.detach()
    tensors["model.layers.2.embed_tokens.weight"] = tensors["model.embed_tokens.weight"].clone()
    tensors["model.layers.2.shared_head.head.weight"] = tensors["lm_head.weight"].clone()
    config = json.loads((tmp_path / "three" / "config.json").read_bytes()) | {"num_hidden_layers": 2}
    return theirs, mtp, config, tensors


def test_the_mtp_layer_of_deepseek_computes_what_transformers_computes(with_mtp, write_folder):
    theirs, mtp, config, tensors = with_mtp
    ours = load_hf(write_folder(config | {"mtp_loss_scaling_factor": 1.0}, tensors))
    ids = torch.randint(0, 23, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        hidden = theirs.model(ids).last_hidden_state[:, :-1]
        positions = torch.arange(8)[None]
        causal = torch.full((8, 8), float("-inf")).triu(1)[None, None]
        rope = theirs.model.rotary_emb(hidden, positions)
        state = mtp(theirs.model.embed_tokens(ids[:, 1:]), hidden, rope, causal, positions, None)
        expected = F.cross_entropy(theirs.lm_head(state)[:, :-1].flatten(0, 1), ids[:, 2:].flatten(), reduction="sum")

        sums = ours.losses(ids[:, :-1], ids[:, 1:], torch.ones(2, 8, dtype=torch.bool))

    assert sums.mtp_ce.item() == pytest.approx(expected.item(), abs=1e-4)
    assert sums.mtp_tokens == 2 * 7


def test_a_folder_with_an_mtp_layer_comes_back_with_its_copies(with_mtp, write_folder, tmp_path):
    _, _, config, tensors = with_mtp

    save_hf(load_hf(write_folder(config, tensors)), tmp_path / "again")

    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)


def test_an_mtp_layers_copy_of_the_head_must_be_equal_to_it(with_mtp, write_folder):
    _, _, config, tensors = with_mtp
    tensors["model.layers.2.shared_head.head.weight"][0, 0] += 1

    with pytest.raises(DamagedFile, match=r"model.layers.2.shared_head.head.weight .* differs from lm_head.weight"):
        load_hf(write_folder(config, tensors))
