"""What is predicted that a step keeps, against what autograd keeps of a real model, byte for byte."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from everyflop.accounting.step_memory import kept_of_step, step_memory
from everyflop.model.transformer import CausalLM
from everyflop.spec.model import ModelSpec
from everyflop.spec.presets import preset

TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@st.composite
def models(draw):
    """Small models of several families, with and without dense layers, shared experts, norms of queries, biases."""
    n_kv_heads = draw(st.sampled_from([1, 2]))
    n_layers = draw(st.integers(1, 3))
    fields = {
        "family": draw(st.sampled_from(["qwen3-moe", "ling-v2", "mixtral", "olmoe"])),
        "vocab_size": draw(st.sampled_from([50, 64])),
        "hidden": draw(st.sampled_from([16, 24])),
        "n_layers": n_layers,
        "dense_layers": draw(st.sampled_from([(), (0,)])),
        "dense_width": 40,
        "n_heads": n_kv_heads * draw(st.integers(1, 2)),
        "n_kv_heads": n_kv_heads,
        "head_dim": draw(st.sampled_from([8, 12])),
        "n_experts": 4,
        "experts_per_token": draw(st.integers(1, 2)),
        "expert_width": 8,
        "n_shared_experts": draw(st.integers(0, 1)),
        "n_groups": 1,
        "keep_groups": 1,
        "n_mtp_layers": 0,
        "clip_qkv": None,
        "qkv_bias": draw(st.booleans()),
        "out_bias": draw(st.booleans()),
        "tied_embeddings": draw(st.booleans()),
    }
    return ModelSpec.model_validate(fields)


def kept(spec: ModelSpec, rows: int, seq_len: int, precision: str) -> int:
    """Count the bytes of all memory that autograd keeps for the backward pass, parameters not counted."""
    model, storages = CausalLM(spec, TYPES[precision]), {}
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    held = []  # or the memory of one is given to another

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    ids, targets = (torch.randint(spec.vocab_size, (rows, seq_len)) for _ in range(2))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        sums = model.losses(ids, targets, torch.ones_like(ids, dtype=torch.bool))
    assert sums.ce.isfinite()
    return sum(storages.values())


@settings(max_examples=30)
@given(
    spec=models(), rows=st.integers(1, 3), seq_len=st.sampled_from([7, 40]), precision=st.sampled_from(["bf16", "fp32"])
)
def test_what_the_backward_pass_needs_is_predicted_to_the_byte(spec, rows, seq_len, precision):
    assert kept_of_step(spec, rows=rows, seq_len=seq_len, precision=precision) == kept(spec, rows, seq_len, precision)


@given(models())
def test_states_are_the_models_own_and_two_moments_of_the_same_size(spec):
    found = step_memory(spec, rows=1, seq_len=8, precision="bf16")

    assert found.parameters == 4 * sum(parameter.numel() for parameter in CausalLM(spec).parameters())
    assert found.moments == 2 * found.parameters


def test_recomputing_layers_keeps_less_and_larger_batches_more():
    spec = preset("ling-mini-2.0").model_copy(update={"n_mtp_layers": 0})
    sizes = {"seq_len": 4096, "precision": "bf16"}

    plain = step_memory(spec, rows=1, **sizes).total
    assert step_memory(spec, rows=1, recompute=True, **sizes).total < plain < step_memory(spec, rows=2, **sizes).total


@pytest.mark.parametrize("of", [step_memory, kept_of_step])
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"clip_qkv": 8.0, "n_mtp_layers": 1}, "MTP layers, clip_qkv"),
        ({"norm_head": True}, "norm_head"),
        ({"sliding_window": 63}, "window"),
    ],
)
def test_what_has_no_formula_is_said(of, changes, named):
    spec = preset("ling-mini-2.0").model_copy(update={"n_mtp_layers": 0} | changes)

    with pytest.raises(ValueError, match=named):
        of(spec, rows=1, seq_len=64, precision="bf16")


def test_latent_attention_has_no_formula():
    with pytest.raises(ValueError, match="MLA"):
        step_memory(preset("deepseek-v3"), rows=1, seq_len=64, precision="bf16")
