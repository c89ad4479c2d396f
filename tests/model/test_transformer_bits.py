"""What must change no bit, or rounding only: recomputing, micro-batches, bf16, another process."""

import hashlib
import os
import subprocess
import sys

import pytest
import torch

from everyflop.model.moe.balance import add_stats
from everyflop.model.moe.noise import RoutingNoise

from .tiny_models import EVERY_MODEL, MTP, gradients, inputs_and_targets, model, tokens


def noise(n_rows: int) -> RoutingNoise:
    return RoutingNoise(0, 3, 10, torch.arange(n_rows), torch.zeros(3), torch.ones(3))


@EVERY_MODEL
@pytest.mark.parametrize("noisy", [False, True], ids=["plain", "with routing noise"])
def test_recomputing_layers_changes_no_bit_of_losses_gradients_and_counts(name, noisy):
    lm = model(name, torch.float32)
    inputs, targets = inputs_and_targets()

    results = []
    for recompute in (False, True):
        lm.recompute = recompute
        lm.zero_grad()
        mask = torch.ones_like(inputs, dtype=torch.bool)
        sums = lm.losses(inputs, targets, mask, noise=noise(3) if noisy else None)
        (sums.ce + sum(0.01 * stats.balance + 0.001 * stats.z for stats in sums.routers)).backward()
        results.append((sums, gradients(lm)))

    (plain, plain_grads), (again, again_grads) = results
    assert torch.equal(plain.ce, again.ce)
    for one, other in zip(plain.routers, again.routers, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert plain_grads.keys() == again_grads.keys()
    assert all(torch.equal(plain_grads[key], again_grads[key]) for key in plain_grads)


def test_recomputing_keeps_fewer_tensors_for_the_backward_pass():
    lm, kept = model(), []
    inputs, targets = inputs_and_targets()

    for recompute in (False, True):
        lm.recompute, saved = recompute, []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=saved: s.append(x.nbytes) or x, lambda x: x):
            lm.losses(inputs, targets, torch.ones_like(inputs, dtype=torch.bool))
        kept.append(sum(saved))

    assert kept[1] < kept[0] / 2


def test_splitting_a_batch_into_micro_batches_changes_no_sum_and_no_gradient():
    lm = model(**MTP)
    inputs, targets = inputs_and_targets(n_rows=4)
    mask = torch.ones_like(inputs, dtype=torch.bool)

    results = []
    for size in (4, 1):
        lm.zero_grad()
        parts = []
        for rows in torch.arange(4).split(size):
            part_noise = RoutingNoise(0, 3, 10, rows, torch.zeros(3), torch.ones(3))
            part = lm.losses(inputs[rows], targets[rows], mask[rows], noise=part_noise)
            (part.ce + part.mtp_ce + sum(stats.balance + 0.1 * stats.z for stats in part.routers)).backward()
            parts.append(part)
        totals = [sum(part.ce for part in parts), sum(part.mtp_ce for part in parts)]
        totals += [value for stats in add_stats([part.routers for part in parts]) for value in stats]
        results.append((totals, gradients(lm)))

    (whole, whole_grads), (split, split_grads) = results
    for one, other in zip(whole, split, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    for key, gradient in whole_grads.items():
        torch.testing.assert_close(split_grads[key], gradient, rtol=1e-8, atol=1e-8)


@EVERY_MODEL
def test_bf16_compute_gives_fp32_gradients_close_to_those_of_fp32(name):
    # Every expert is chosen, so that rounding cannot change who learns. A bf16 number is off by up to 2**-9 of itself;
    # some dozen roundings follow one another on the way, and 5 % of a gradient's norm holds them.
    fields = {"experts_per_token": 8, "n_groups": 1, "keep_groups": 1, "init_std": 0.1}
    ids, found = tokens(n_rows=4), {}
    for dtype in (torch.float32, torch.bfloat16):
        lm = model(name, dtype, **fields)
        loss = lm.loss(ids)
        loss.backward()
        found[dtype] = (loss, gradients(lm))

    (exact_loss, exact), (loss, rounded) = found[torch.float32], found[torch.bfloat16]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact_loss.item(), rel=2**-8)
    assert exact.keys() == rounded.keys()
    for key, gradient in exact.items():
        assert rounded[key].dtype == torch.float32
        assert (rounded[key] - gradient).norm() <= 0.05 * gradient.norm(), key


def test_logits_are_fp32_when_the_model_computes_in_bf16():
    lm = model(dtype=torch.bfloat16)

    assert lm(tokens()).dtype == torch.float32
    assert lm.norm.weight.dtype == torch.float32


# Six experts a token: its gradient is a sum of six, and sums of three and more show in which order threads added.
PROCESS = """
import hashlib, torch
from everyflop.model.build import build_model
from everyflop.spec.model import ModelSpec
torch.set_num_threads(2)
spec = ModelSpec(family="ling-v2", vocab_size=300, hidden=64, n_layers=2, dense_layers=(0,), dense_width=96, n_heads=4,
    n_kv_heads=2, head_dim=16, n_experts=8, experts_per_token=6, expert_width=32, n_shared_experts=1, n_mtp_layers=1,
    mtp_loss_weight=0.1)
model = build_model(spec, seed=5, device=torch.device("cpu"), compute_dtype=torch.float32)
for step in range(3):
    ids = torch.randint(0, 300, (8, 257), generator=torch.Generator().manual_seed(step))
    model.loss(ids).backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad
            p.grad = None
digest = hashlib.sha256()
for name, tensor in sorted(model.state_dict().items()):
    digest.update(tensor.numpy().tobytes())
print(digest.hexdigest())
"""


def test_the_same_seed_gives_the_same_bits_in_two_processes_with_two_threads():
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}

    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    first, second = (process.communicate()[0].strip() for process in processes)

    assert first == second
    assert len(first) == hashlib.sha256().digest_size * 2
