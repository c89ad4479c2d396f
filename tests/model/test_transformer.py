"""The whole model: what may depend on what, cached decoding, losses, and bits that must not change.

Float64 where two ways of computing are compared: a batch, a cache or a changed token changes how many rows a matrix
product has, and with it the rounding. 1e-10 is then far above rounding and far below any mistake.
"""

import hashlib
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from everyflop.model.build import build_model
from everyflop.model.cache import KVCache
from everyflop.model.moe.balance import add_stats
from everyflop.model.moe.noise import RoutingNoise
from everyflop.model.transformer import CausalLM
from everyflop.spec.model import ModelSpec

CPU = torch.device("cpu")
VOCAB = 31

SIZES = {"vocab_size": VOCAB, "hidden": 16, "n_layers": 3, "n_heads": 4, "n_kv_heads": 2, "head_dim": 8}
SIZES |= {"dense_layers": (0,), "dense_width": 24, "n_experts": 8, "experts_per_token": 2, "expert_width": 8}
SIZES |= {"init_std": 0.3, "max_positions": 64}
MODELS = {
    "ling-v1": {"family": "ling-v1", "n_shared_experts": 2},
    "ling-v2": {"family": "ling-v2", "n_shared_experts": 1, "n_groups": 4, "keep_groups": 2, "rotary_dim": 4},
    "mla": {"family": "deepseek-v3", "n_kv_heads": 4, "q_rank": 6, "kv_rank": 8}
    | {"nope_head_dim": 6, "rope_head_dim": 4, "v_head_dim": 5},
    "sliding window": {"family": "mixtral", "sliding_window": 3},
}
EVERY_MODEL = pytest.mark.parametrize("name", list(MODELS))


def spec(name: str = "ling-v2", **fields) -> ModelSpec:
    return ModelSpec(**{**SIZES, **MODELS[name], **fields})


def model(name: str = "ling-v2", dtype: torch.dtype = torch.float64, **fields) -> CausalLM:
    """A model that computes in `dtype`, with expert biases that matter; fp32 parameters unless dtype is fp64."""
    built = build_model(spec(name, **fields), seed=0, device=CPU, compute_dtype=dtype)
    for number, buffer in enumerate(built.buffers()):
        buffer.copy_(0.1 * torch.randn(len(buffer), generator=torch.Generator().manual_seed(number)))
    return built.double() if dtype == torch.float64 else built


def tokens(n_rows: int = 3, n_positions: int = 12, seed: int = 1) -> Tensor:
    return torch.randint(0, VOCAB, (n_rows, n_positions), generator=torch.Generator().manual_seed(seed))


def inputs_and_targets(n_rows: int = 3, n_positions: int = 12) -> tuple[Tensor, Tensor]:
    ids = tokens(n_rows, n_positions + 1)
    return ids[:, :-1], ids[:, 1:]


def gradients(one: CausalLM) -> dict[str, Tensor]:
    return {name: p.grad for name, p in one.named_parameters() if p.grad is not None}


# What may depend on what.


@EVERY_MODEL
def test_changing_a_token_leaves_earlier_logits_alone(name):
    lm, ids = model(name), tokens()
    before = lm(ids)

    for t in range(1, ids.shape[1]):
        changed = ids.clone()
        changed[:, t] = (changed[:, t] + 7) % VOCAB
        after = lm(changed)
        torch.testing.assert_close(after[:, :t], before[:, :t], rtol=0, atol=1e-10)
        assert (after[:, t] != before[:, t]).any(-1).all()


@EVERY_MODEL
def test_earlier_logits_keep_every_bit_when_no_expert_gets_more_or_fewer_rows(name):
    every_expert = {"experts_per_token": 8, "n_groups": 1, "keep_groups": 1}
    lm, ids = model(name, torch.float32, **every_expert), tokens()
    changed = ids.clone()
    changed[:, 7:] = tokens(seed=2)[:, 7:]

    assert torch.equal(lm(ids)[:, :7], lm(changed)[:, :7])


@EVERY_MODEL
def test_later_embeddings_get_no_gradient_at_all_from_earlier_logits(name):
    lm, ids = model(name), torch.arange(12)[None]  # each token once, so that rows of the embedding are positions

    lm(ids)[:, :7].square().sum().backward()

    learned = lm.embed.weight.grad.any(-1)
    assert learned[:7].all()
    assert not learned[7:].any()


def test_a_sliding_window_hides_what_is_too_far_back():
    lm, ids = model("sliding window", n_layers=1, dense_layers=()), tokens()
    changed = ids.clone()
    changed[:, 4] = (changed[:, 4] + 7) % VOCAB

    moved = (lm(ids) - lm(changed)).abs().amax(-1) > 1e-10

    assert moved.all(0).nonzero().flatten().tolist() == [4, 5, 6]  # the token itself and two more


@EVERY_MODEL
def test_rows_do_not_know_each_other(name):
    lm, ids = model(name), tokens()

    together, alone = lm(ids), torch.cat([lm(row[None]) for row in ids])

    torch.testing.assert_close(together, alone, rtol=0, atol=1e-10)


@EVERY_MODEL
def test_documents_do_not_know_each_other(name):
    lm = model(name)
    inputs, targets = inputs_and_targets()
    documents = torch.tensor([[0] * 5 + [1] * 7]).expand(3, -1)
    second = (documents == 1).clone()
    changed = inputs.clone()
    changed[:, :5] = (changed[:, :5] + 7) % VOCAB

    before, after = (lm.losses(ids, targets, second, documents_BT=documents).ce for ids in (inputs, changed))
    mixed = lm.losses(changed, targets, second).ce

    torch.testing.assert_close(after, before, rtol=0, atol=1e-10)
    assert abs(mixed - before) > 1e-3


# Cached decoding.


@EVERY_MODEL
@pytest.mark.parametrize("chunks", [[5, *[1] * 7], [1] * 12, [4, 4, 4], [7, 2, 3]], ids=str)
def test_cached_decoding_equals_the_full_forward(name, chunks):
    lm, ids = model(name), tokens()
    cache = KVCache(12)

    with torch.no_grad():
        logits = torch.cat([lm(chunk, cache) for chunk in ids.split(chunks, dim=1)], dim=1)
        full = lm(ids)

    assert cache.length == 12
    torch.testing.assert_close(logits, full, rtol=0, atol=1e-10)


# Losses.


def literal_cross_entropy(logits: Tensor, targets: Tensor, counted: Tensor) -> tuple[float, int]:
    """Return the sum of -log p(target), position by position, and how many there were."""
    total, n = 0.0, 0
    for row in range(len(targets)):
        for t in range(targets.shape[1]):
            if counted[row, t]:
                odds = logits[row, t].double().exp()
                total -= (odds[targets[row, t]] / odds.sum()).log().item()
                n += 1
    return total, n


@EVERY_MODEL
def test_losses_sum_the_cross_entropy_of_the_targets_that_count(name):
    lm = model(name)
    inputs, targets = inputs_and_targets()
    mask = torch.rand(inputs.shape, generator=torch.Generator().manual_seed(0)) < 0.7

    sums = lm.losses(inputs, targets, mask)

    expected, n = literal_cross_entropy(lm(inputs).detach(), targets, mask)
    assert sums.ce.item() == pytest.approx(expected)
    assert sums.tokens == n
    assert sums.mtp_tokens == 0
    assert [int(stats.counts_E.sum()) for stats in sums.routers] == [3 * 12 * 2] * 2


def test_the_loss_of_a_batch_is_the_mean_over_its_next_tokens():
    lm, ids = model(), tokens()

    expected, n = literal_cross_entropy(lm(ids).detach(), ids[:, 1:], torch.ones(3, 11))
    assert n == 33
    assert lm.loss(ids).item() == pytest.approx(expected / 33)


MTP = {"n_mtp_layers": 1, "mtp_loss_weight": 0.3}


def literal_mtp(lm: CausalLM, inputs: Tensor, targets: Tensor, documents: Tensor | None) -> tuple[float, int]:
    """Read the extra layer at every position of every row and score the token after next."""
    (layer,) = lm.mtp
    hidden, context, _ = lm._hidden(inputs, documents, None, None)
    embedded = lm.embed(targets)

    def rms(x: Tensor, weight: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + lm.spec.norm_eps).sqrt() * weight

    joined = torch.cat([rms(embedded, layer.embed_norm.weight), rms(hidden, layer.hidden_norm.weight)], -1)
    states, _ = layer.block(joined @ layer.merge.weight.T, context, None)
    logits = rms(states, layer.norm.weight) @ lm.head.weight.T
    counted = torch.zeros(inputs.shape, dtype=torch.bool)
    for row in range(len(inputs)):
        for t in range(inputs.shape[1] - 1):
            counted[row, t] = documents is None or documents[row, t] == documents[row, t + 1]
    return literal_cross_entropy(logits[:, :-1].detach(), targets[:, 1:], counted[:, :-1])


@pytest.mark.parametrize("documents", [None, [[0] * 12, [0] * 4 + [1] * 7 + [2]]], ids=["one document", "several"])
def test_the_extra_layer_predicts_the_token_after_next_inside_its_row_and_document(documents):
    lm = model(**MTP)
    inputs, targets = inputs_and_targets(n_rows=2)
    documents = None if documents is None else torch.tensor(documents)

    sums = lm.losses(inputs, targets, torch.ones_like(inputs, dtype=torch.bool), documents_BT=documents)

    expected, n = literal_mtp(lm, inputs, targets, documents)
    assert n == (22 if documents is None else 20)
    assert sums.mtp_ce.item() == pytest.approx(expected)
    assert sums.mtp_tokens == n
    assert len(sums.routers) == len(lm.routers) == 3


def test_the_extra_layer_skips_targets_outside_the_mask():
    lm = model(**MTP)
    inputs, targets = inputs_and_targets(n_rows=1)
    mask = torch.arange(12)[None] < 9  # nine targets, and eight that follow another

    whole, cut = lm.losses(inputs, targets, mask), lm.losses(inputs[:, :9], targets[:, :9], mask[:, :9])

    assert whole.mtp_tokens == 8
    assert whole.mtp_ce.item() == pytest.approx(cut.mtp_ce.item())


def test_the_loss_adds_the_weighted_loss_of_the_extra_layer():
    lm, ids = model(**MTP), tokens(n_rows=2)
    inputs, targets = ids[:, :-1], ids[:, 1:]

    main, n = literal_cross_entropy(lm(inputs).detach(), targets, torch.ones(2, 11))
    extra, n_extra = literal_mtp(lm, inputs, targets, None)
    assert (n, n_extra) == (22, 20)
    assert lm.loss(ids).item() == pytest.approx(main / 22 + 0.3 * extra / 20)


def test_an_extra_layer_without_weight_costs_nothing():
    lm = model(n_mtp_layers=1, mtp_loss_weight=0.0)
    inputs, targets = inputs_and_targets()

    sums = lm.losses(inputs, targets, torch.ones_like(inputs, dtype=torch.bool))

    assert lm.trained_mtp == []
    assert len(sums.routers) == len(lm.routers) == 2
    assert sums.mtp_tokens == 0


def test_routers_are_numbered_in_the_order_of_their_statistics():
    # Routing noise looks its mean and deviation up by this number.
    assert [router.layer for router in model(**MTP).routers] == [0, 1, 2]


# The head.


def test_norm_head_divides_each_channel_of_the_matrix_by_its_norm_over_the_vocabulary():
    lm, hidden = model("ling-v1"), torch.randn(2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    logits = lm.logits(hidden)

    weight = lm.head.weight.detach()
    columns = [weight[:, j] / (sum(float(w) ** 2 for w in weight[:, j]) ** 0.5 + 1e-7) for j in range(16)]
    torch.testing.assert_close(logits, hidden @ torch.stack(columns, dim=1).T)


def test_no_gradient_flows_through_the_heads_norm():
    lm, hidden = model("ling-v1"), torch.randn(2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    slopes = torch.randn(2, VOCAB, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    (lm.logits(hidden) * slopes).sum().backward()

    held_fixed = lm.head.weight.detach().norm(dim=0) + 1e-7
    torch.testing.assert_close(lm.head.weight.grad, slopes.T @ hidden / held_fixed)


def test_tied_embeddings_are_the_head_and_learn_from_both_ends():
    lm = model(tied_embeddings=True)
    hidden = torch.randn(2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    torch.testing.assert_close(lm.logits(hidden), hidden @ lm.embed.weight.T)
    assert not any("head" in name for name, _ in lm.named_parameters())
    lm.loss(torch.zeros(1, 4, dtype=torch.int64)).backward()
    assert lm.embed.weight.grad.any(-1).all()  # the one token read, and all that compete to be predicted


# Bits that must not change.


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
