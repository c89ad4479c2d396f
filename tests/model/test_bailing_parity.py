"""Ling V1 and V2 against a slow float64 implementation: logits, chosen experts, loss, and gradients by differences."""

import numpy as np
import pytest
import torch

from everyflop.model.hf.load import load_hf
from everyflop.model.hf.names import parts
from everyflop.model.moe.router import Router

YARN = {"factor": 4.0, "original_max_position_embeddings": 16}

V1 = {
    "as published": {},
    "without NormHead": {"norm_head": False},
    "biases": {"use_qkv_bias": True, "use_bias": True},
    "heads that divide the hidden size": {"head_dim": None},
    "weights not normalised": {"norm_topk_prob": False},
    "one expert a token": {"num_experts_per_tok": 1},
    "dense first layer": {"first_k_dense_replace": 1},
    "no shared expert": {"num_shared_experts": None},
    "tied embeddings": {"tie_word_embeddings": True, "norm_head": False},
    "yarn": {"rope_scaling": {"type": "yarn", **YARN}},
}
V2 = {
    "as published": {},
    "mtp": {"num_nextn_predict_layers": 1, "mtp_loss_scaling_factor": 0.3},
    "rotary_dim": {"partial_rotary_factor": None, "rotary_dim": 6},
    "whole heads turn": {"partial_rotary_factor": None},
    "without qk norm": {"use_qk_norm": False},
    "one group": {"n_group": 1, "topk_group": 1},
    "one expert a token": {"num_experts_per_tok": 1},
    "biases": {"use_qkv_bias": True, "use_bias": True},
    "norm_topk_prob is ignored": {"norm_topk_prob": False},
    "all layers MoE": {"first_k_dense_replace": 0},
    "yarn": {"rope_scaling": {"rope_type": "yarn", "beta_fast": 8, "beta_slow": 2, **YARN}},
}
CASES = [pytest.param(1, change, id=f"V1, {name}") for name, change in V1.items()]
CASES += [pytest.param(2, change, id=f"V2, {name}") for name, change in V2.items()]


@pytest.fixture
def case(request, bailing, write_folder, ling_v1_config, ling_v2_config):
    """A config, random float64 tensors of it, the folder with both, and token ids (2, 9)."""
    version, changes = request.param
    config = (ling_v1_config if version == 1 else ling_v2_config)(**changes)
    config = {key: value for key, value in config.items() if value is not None or key == "num_shared_experts"}
    rng = np.random.default_rng(3)
    tensors = bailing.random_tensors(config, rng)
    ids = rng.integers(0, config["vocab_size"], (2, 9))
    return config, tensors, write_folder(config, tensors), ids


def cases(*names):
    found = [p for p in CASES if not names or p.id in names]
    return pytest.mark.parametrize("case", [pytest.param(p.values, id=p.id) for p in found], indirect=True)


@cases()
def test_logits_and_chosen_experts_agree(case, bailing):
    config, tensors, folder, ids = case
    model = load_hf(folder)
    routed = []
    for module in model.modules():
        if isinstance(module, Router):
            module.register_forward_hook(lambda _, __, routing: routed.append(routing.ids_TK))

    with torch.no_grad():
        logits = model(torch.from_numpy(ids)).numpy()

    expected = [bailing.forward(config, tensors, row) for row in ids]
    np.testing.assert_allclose(logits, np.stack([row[0] for row in expected]), atol=1e-9)
    layers = [name for name in expected[0][2] if f"layers.{config['num_hidden_layers']}." not in name]
    assert len(routed) == len(layers)
    for name, chosen in zip(layers, routed, strict=True):
        assert [set(token.tolist()) for token in chosen] == [one for row in expected for one in row[2][name]]


@cases("V1, as published", "V2, as published")
def test_logits_in_fp32_agree_within_1e_4(case, bailing):
    config, tensors, folder, ids = case

    with torch.no_grad():
        logits = load_hf(folder, torch.float32)(torch.from_numpy(ids)).numpy()

    expected = np.stack([bailing.forward(config, tensors, row)[0] for row in ids])
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=1e-4)


@cases()
def test_the_loss_agrees(case, bailing):
    config, tensors, folder, ids = case

    loss = load_hf(folder).loss(torch.from_numpy(ids)).item()

    assert loss == pytest.approx(bailing.loss(config, tensors, ids), abs=1e-10)


@cases("V1, as published", "V1, biases", "V1, tied embeddings", "V2, mtp", "V2, biases", "V2, one expert a token")
def test_gradients_agree_with_finite_differences(case, bailing):
    config, tensors, folder, ids = case
    model = load_hf(folder)
    model.loss(torch.from_numpy(ids)).backward()
    head_norm = bailing.norm_of_head(tensors) if config.get("norm_head") else None  # detached: held fixed
    rng = np.random.default_rng(5)

    parameters = dict(model.named_parameters())
    for part in parts(model.spec):
        if part.ours not in parameters:
            continue  # the expert bias: no gradient
        gradient = part.of(parameters[part.ours].grad).numpy()
        for _ in range(2):
            at = tuple(rng.integers(0, size) for size in gradient.shape)
            slope = difference(bailing, config, tensors, ids, head_norm, part.name, at)
            assert gradient[at] == pytest.approx(slope, rel=3e-4, abs=1e-8), (part.name, at)


def difference(bailing, config, tensors, ids, head_norm, name, at, step=1e-5):
    """Central difference of the reference's loss by one number of one tensor."""
    losses = []
    for sign in (1, -1):
        moved = {**tensors, name: tensors[name].copy()}
        moved[name][at] += sign * step
        losses.append(bailing.loss(config, moved, ids, head_norm=head_norm))
    return (losses[0] - losses[1]) / (2 * step)
