"""The whole model: what may depend on what, cached decoding, and the head."""

import pytest
import torch

from everyflop.model.cache import KVCache

from .tiny_models import EVERY_MODEL, VOCAB, inputs_and_targets, model, tokens

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
