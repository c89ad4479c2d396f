"""The losses of a whole model, that of the extra layer among them."""

import pytest
import torch
from torch import Tensor

from everyflop.model.transformer import CausalLM

from .tiny_models import EVERY_MODEL, MTP, inputs_and_targets, model, tokens


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
