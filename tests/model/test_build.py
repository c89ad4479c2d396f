import math

import pytest
import torch
from torch import Tensor

from everyflop.model.build import build_model
from everyflop.model.transformer import CausalLM
from everyflop.spec.model import ModelSpec

CPU = torch.device("cpu")


def spec(**fields) -> ModelSpec:
    sizes = {"vocab_size": 300, "hidden": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 16}
    dense = {"dense_layers": (0,), "dense_width": 96, "qkv_bias": True, "out_bias": True}
    experts = {"n_experts": 8, "experts_per_token": 2, "expert_width": 32, "n_shared_experts": 1, "n_mtp_layers": 1}
    return ModelSpec(family="ling-v2", **{**sizes, **dense, **experts, "init_std": 0.05, **fields})


def built(seed: int = 0, **fields) -> CausalLM:
    return build_model(spec(**fields), seed=seed, device=CPU, compute_dtype=torch.float32)


def tensors(model: CausalLM) -> dict[str, Tensor]:
    return dict(model.state_dict())


def test_the_same_seed_gives_the_same_bits():
    one, other = tensors(built()), tensors(built())

    assert all(torch.equal(one[name], other[name]) for name in one)


def test_another_seed_gives_other_weights():
    one, other = built(0), dict(built(1).named_parameters())

    changed = {name for name, p in one.named_parameters() if not torch.equal(p, other[name])}
    assert changed == {name for name, p in one.named_parameters() if p.dim() > 1}


@pytest.mark.parametrize("fields", [{"n_layers": 3}, {"n_mtp_layers": 0}, {"tied_embeddings": True}])
def test_other_parts_of_a_model_change_no_weight_of_those_that_stay(fields):
    one, other = tensors(built()), tensors(built(**fields))

    shared = one.keys() & other.keys()
    assert len(shared) > 20
    assert one.keys() != other.keys()
    assert all(torch.equal(one[name], other[name]) for name in shared)


def test_drawing_elsewhere_changes_nothing():
    one = tensors(built())
    torch.manual_seed(123)
    torch.rand(10)

    other = tensors(built())

    assert all(torch.equal(one[name], other[name]) for name in one)


def test_no_two_matrices_are_alike():
    starts = [p.flatten()[:16] for p in built().parameters() if p.dim() > 1]

    assert len({tuple(start.tolist()) for start in starts}) == len(starts)


@pytest.mark.parametrize("std", [0.006, 0.05])
def test_matrices_are_normal_with_the_stated_deviation(std):
    for name, parameter in built(init_std=std).named_parameters():
        if parameter.dim() > 1 and not name.endswith("router.weight"):
            # The spread of a sample's deviation is std / sqrt(2 n): four of them, and four for the mean.
            slack = 4 * std / math.sqrt(parameter.numel())
            assert parameter.mean().item() == pytest.approx(0, abs=slack), name
            assert parameter.std().item() == pytest.approx(std, abs=slack), name


def test_the_embedding_and_what_writes_to_the_residual_stream_can_have_deviations_of_their_own():
    model = built(init_std=0.05, embed_std=1.0, output_std=0.01, n_experts=16)

    found = {name: p.std().item() for name, p in model.named_parameters() if p.dim() > 1}
    outputs = {name for name in found if ".out." in name or ".down" in name}
    assert found["embed.weight"] == pytest.approx(1.0, rel=0.05)
    assert (
        len(outputs) == 3 * 2 + 2
    )  # in each of three blocks: attention, feed-forward; in the MoE ones the shared expert
    assert {name: found[name] for name in outputs} == pytest.approx(dict.fromkeys(outputs, 0.01), rel=0.1)
    rest = found.keys() - outputs - {"embed.weight"} - {name for name in found if "router" in name}
    assert {name: found[name] for name in rest} == pytest.approx(dict.fromkeys(rest, 0.05), rel=0.1)


def test_latents_of_attention_do_not_write_to_the_residual_stream():
    ranks = {"q_rank": 24, "kv_rank": 32, "nope_head_dim": 12, "rope_head_dim": 8, "v_head_dim": 12}
    model = built(attention="mla", n_kv_heads=4, init_std=0.05, output_std=0.01, **ranks)

    latent = (".q_down.weight", ".kv_down.weight")
    found = {name: p.std().item() for name, p in model.named_parameters() if name.endswith(latent)}
    assert len(found) == 2 * 3
    assert found == pytest.approx(dict.fromkeys(found, 0.05), rel=0.1)


def test_routers_are_uniform_up_to_one_over_the_root_of_the_hidden_size():
    weights = torch.cat([p.flatten() for name, p in built().named_parameters() if name.endswith("router.weight")])

    bound = 1 / math.sqrt(64)
    assert weights.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert weights.abs().max().item() <= bound
    assert weights.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_norms_are_one_and_biases_zero():
    found = {name: set(p.tolist()) for name, p in built().named_parameters() if p.dim() == 1}

    assert all(values == {1.0} for name, values in found.items() if name.endswith("norm.weight"))
    assert all(values == {0.0} for name, values in found.items() if name.endswith("bias"))
    assert all(name.endswith(("norm.weight", "bias")) for name in found)


def test_expert_biases_are_zero():
    biases = dict(built().named_buffers())

    assert len(biases) == 2  # one MoE layer and the MTP layer
    assert not any(bias.any() for bias in biases.values())


def test_parameters_are_fp32_whatever_the_model_computes_in():
    model = build_model(spec(), seed=0, device=CPU, compute_dtype=torch.bfloat16)

    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    assert model.compute_dtype == torch.bfloat16
