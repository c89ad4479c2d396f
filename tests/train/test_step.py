"""One step's gradients, in fp64, where another split of the batch changes the last bits only."""

import dataclasses
import weakref

import numpy as np
import pytest
import torch

from everyflop.data.windows import WindowBatch
from everyflop.model.build import build_model
from everyflop.spec.train import RouterSpec
from everyflop.train.state import RouterLogits
from everyflop.train.step import LocalStep, micro_batches

SEQUENCES, LENGTH = 6, 16
BALANCE, Z, MTP = 0.05, 0.02, 0.3
CPU = torch.device("cpu")


@pytest.fixture
def batch() -> WindowBatch:
    """Six windows: two padded by different amounts, one of two documents."""
    ids_BT1 = np.random.default_rng(0).integers(0, 320, (SEQUENCES, LENGTH + 1))
    mask_BT = np.ones((SEQUENCES, LENGTH), dtype=np.bool_)
    mask_BT[1, 5:] = False
    mask_BT[4, 11:] = False
    documents_BT = np.zeros((SEQUENCES, LENGTH), dtype=np.int32)
    documents_BT[2, 7:] = 1
    return WindowBatch(ids_BT1[:, :-1].copy(), ids_BT1[:, 1:].copy(), mask_BT, documents_BT, np.arange(50, 56))


@pytest.fixture
def make_model(make_settled):
    def make(**fields):
        spec = make_settled(model={"init_std": 0.3, **fields}).model
        return build_model(spec, seed=0, device=CPU, compute_dtype=None).double()

    return make


def train_step(model, batch, *, size=SEQUENCES, router=RouterSpec(), step=0):
    """Return one step's sums and gradients, computed in micro-batches of `size`."""
    model.zero_grad(set_to_none=True)
    logits = RouterLogits.fresh(len(model.routers), CPU)
    sums = LocalStep(model, router, seed=1, device=CPU).forward_backward(
        list(micro_batches(batch, size)), step=step, logits=logits
    )
    return sums, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same(gradients, expected):
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, expected[name], rtol=1e-9, atol=1e-12, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_gradients_are_those_of_the_mean_over_all_targets_however_uneven_the_masks(make_model, batch):
    # Each document alone: neither packing nor padding may show in the result.
    model = make_model()
    _, gradients = train_step(model, batch, size=2)
    model.zero_grad(set_to_none=True)
    total = torch.zeros((), dtype=torch.float64)
    for row in range(SEQUENCES):
        for document in np.unique(batch.documents_BT[row]):
            here = batch.documents_BT[row] == document
            fields = (batch.inputs_BT, batch.targets_BT, batch.loss_mask_BT)
            ids, targets, mask = (torch.from_numpy(field_BT[row][here]) for field_BT in fields)
            logits_TV = model(ids[None])[0]
            total = total - logits_TV.log_softmax(-1).gather(1, targets[:, None])[:, 0][mask].sum()
    (total / batch.loss_mask_BT.sum()).backward()

    assert_same(gradients, {name: p.grad for name, p in model.named_parameters() if p.grad is not None})


@pytest.mark.parametrize("size", [1, 2, 3])
def test_accumulated_micro_batches_give_the_gradients_of_one_big_batch(make_model, batch, size):
    model = make_model(n_mtp_layers=1, mtp_loss_weight=MTP)
    router = RouterSpec(balance_loss=BALANCE, z_loss=Z)
    whole, expected = train_step(model, batch, router=router)
    split, gradients = train_step(model, batch, size=size, router=router)

    assert_same(gradients, expected)
    assert (split.tokens, split.mtp_tokens, split.positions) == (whole.tokens, whole.mtp_tokens, whole.positions)
    torch.testing.assert_close((split.ce, split.mtp_ce), (whole.ce, whole.mtp_ce))
    for here, there in zip(split.routers, whole.routers, strict=True):
        torch.testing.assert_close(here, there)


def test_noise_of_the_routing_warm_up_does_not_depend_on_the_split(make_model, batch):
    router = RouterSpec(noise_warmup_steps=10)
    model = make_model()
    _, expected = train_step(model, batch, router=router, step=3)
    _, gradients = train_step(model, batch, size=1, router=router, step=3)
    _, without = train_step(model, batch, router=router, step=10)

    assert_same(gradients, expected)
    assert not torch.equal(without["embed.weight"], expected["embed.weight"])


def test_recomputed_layers_give_the_same_gradients_and_count_nothing_twice(make_model, batch):
    model = make_model(n_mtp_layers=1, mtp_loss_weight=MTP)
    router = RouterSpec(balance_loss=BALANCE, z_loss=Z, noise_warmup_steps=10)
    kept, expected = train_step(model, batch, router=router)
    model.recompute = True
    again, gradients = train_step(model, batch, router=router)

    assert all(torch.equal(gradients[name], expected[name]) for name in expected)
    assert all(torch.equal(a.counts_E, b.counts_E) for a, b in zip(kept.routers, again.routers, strict=True))


def test_a_masked_position_adds_nothing(make_model, batch):
    model = make_model(n_mtp_layers=1, mtp_loss_weight=MTP)
    sums, expected = train_step(model, batch)
    targets_BT = batch.targets_BT.copy()
    targets_BT[4, 12:] = 7  # position 11 still shows the token ahead to nobody: its own target is masked
    other, gradients = train_step(model, dataclasses.replace(batch, targets_BT=targets_BT))

    assert other.ce == sums.ce
    assert_same(gradients, expected)


def test_a_step_without_a_token_after_next_has_gradients_for_all(make_model, batch):
    first_alone_BT = np.zeros_like(batch.loss_mask_BT)
    first_alone_BT[:, 0] = True
    model = make_model(n_mtp_layers=1, mtp_loss_weight=MTP)
    sums, gradients = train_step(model, dataclasses.replace(batch, loss_mask_BT=first_alone_BT))

    assert sums.mtp_tokens == 0
    assert gradients.keys() == dict(model.named_parameters()).keys()


def test_targets_that_count_are_those_of_the_mask(make_model, batch):
    sums, _ = train_step(make_model(n_mtp_layers=1, mtp_loss_weight=MTP), batch)

    assert sums.tokens == 4 * 16 + 5 + 11
    assert sums.mtp_tokens == 3 * 15 + 4 + 14 + 10  # one less in each window, and one less where a document ends
    assert sums.positions == 6 * 16


@pytest.mark.parametrize(("loss", "weight"), [("balance", BALANCE), ("z", Z)])
def test_a_routers_loss_pulls_as_the_mean_over_all_positions_times_its_weight(make_model, batch, loss, weight):
    model, name, entry = make_model(), "layers.1.ffn.router.weight", (1, 3)
    parameter = dict(model.named_parameters())[name]
    _, without = train_step(model, batch)
    _, with_it = train_step(model, batch, router=RouterSpec(**{f"{loss}_loss": weight}))

    def mean_after(shift: float) -> float:
        with torch.no_grad():
            parameter[entry] += shift
        sums, _ = train_step(model, batch)
        return getattr(sums.routers[0], loss).item() / (SEQUENCES * LENGTH)

    slope = (mean_after(1e-6) - mean_after(-2e-6)) / 2e-6

    assert (with_it[name] - without[name])[entry].item() == pytest.approx(weight * slope, rel=1e-5)


def test_the_mtp_loss_pulls_as_the_mean_over_its_targets_times_its_weight(make_model, batch):
    name, entry = "embed.weight", (int(batch.inputs_BT[0, 0]), 5)
    _, without = train_step(make_model(), batch)
    model = make_model(n_mtp_layers=1, mtp_loss_weight=MTP)
    parameter = dict(model.named_parameters())[name]
    _, with_it = train_step(model, batch)

    def mean_after(shift: float) -> float:
        with torch.no_grad():
            parameter[entry] += shift
        sums, _ = train_step(model, batch)
        return sums.mtp_ce.item() / sums.mtp_tokens

    slope = (mean_after(1e-6) - mean_after(-2e-6)) / 2e-6

    assert (with_it[name] - without[name])[entry].item() == pytest.approx(MTP * slope, rel=1e-4)


def test_micro_batches_are_the_batch_cut_in_order(batch):
    parts = list(micro_batches(batch, 4))

    assert [len(part.sample_numbers_B) for part in parts] == [4, 2]
    for field in dataclasses.fields(WindowBatch):
        together = np.concatenate([getattr(part, field.name) for part in parts])
        np.testing.assert_array_equal(together, getattr(batch, field.name))


@pytest.mark.parametrize("recompute", [False, True])
def test_nothing_that_autograd_keeps_outlives_its_micro_batch(make_model, batch, recompute: bool, monkeypatch):
    class Kept:
        def __init__(self, tensor: torch.Tensor):
            self.tensor = tensor.detach()  # an output that kept its own history would never go
            alive.add(self)

    alive, before_each = weakref.WeakSet[Kept](), list[int]()
    model = make_model()
    model.recompute = recompute
    losses = model.losses
    monkeypatch.setattr(model, "losses", lambda *a, **k: (before_each.append(len(alive)), losses(*a, **k))[1])

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        train_step(model, batch, size=2, router=RouterSpec(balance_loss=0.0, z_loss=0.0))

    assert before_each == [0, 0, 0]
