"""Bytes on each link, worked by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everyflop.accounting.dims import dims_of
from everyflop.accounting.layouts import Layouts
from everyflop.accounting.traffic import Bytes, ring, to_experts, traffic
from everyflop.spec.layout import Layout
from everyflop.spec.presets import preset

MIXTRAL = dims_of(preset("mixtral-8x7b"))


def sent(layout: Layout, *, domain: int = 8, n_micro: int = 1) -> dict[str, Bytes]:
    return traffic(MIXTRAL, Layouts.of([layout]), seq_len=4096, n_micro=np.array([n_micro]), domain=domain)


def test_a_ring_inside_a_domain_sends_all_but_its_own_share():
    found = ring(np.array([800.0]), np.array([8]), 1, 8)

    assert found.inside[0] == 700
    assert found.between[0] == 0


def test_a_ring_over_domains_enters_each_through_all_ports_of_its_members():
    # 16 ranks in 2 nodes of 8: half of the 1600 bytes come from the other node, shared by 8 ports
    found = ring(np.array([1600.0]), np.array([16]), 1, 8)

    assert found.between[0] == 1600 / 2 / 8
    assert found.inside[0] == 1600 * 7 / 8


def test_ranks_a_domain_apart_have_no_neighbour_inside():
    found = ring(np.array([400.0]), np.array([4]), 8, 8)

    assert (found.inside[0], found.between[0]) == (0, 300)


def test_a_token_goes_to_another_domain_once_however_many_of_its_experts_are_there():
    # 8 copies over 2 nodes: the other node is met with probability 1 - 2**-8
    found = to_experts(np.array([256.0]), np.array([16]), 1, 8, 8)

    assert found.between[0] == pytest.approx(256 * (1 - 2**-8))


@given(st.integers(1, 6), st.integers(1, 64))
def test_a_token_never_meets_more_other_domains_than_there_are_or_than_it_has_copies(log_domains, copies):
    domains = 2**log_domains
    found = to_experts(np.array([1.0]), np.array([8 * domains]), 1, 8, copies)

    assert found.between[0] <= min(domains - 1, copies) + 1e-9


def test_one_device_sends_nothing():
    for bytes_sent in sent(Layout()).values():
        assert (bytes_sent.inside[0], bytes_sent.between[0]) == (0, 0)


def test_tensor_parallelism_gathers_and_scatters_around_attention_in_each_pass():
    found = sent(Layout(tp=8))["tensor"]
    volume = 2 * 4096 * 4096 * 7 / 8  # bf16, tokens, hidden, all but one's own

    assert found.inside[0] == pytest.approx(32 * volume * 2 * 2)  # layers, gather and scatter, forward and backward


def test_zero3_gathers_and_reduces_for_each_micro_batch_and_zero1_once_a_step():
    def data(sharding: str, n_micro: int) -> float:
        return float(sent(Layout(dp=8, sharding=sharding), n_micro=n_micro)["data"].inside[0])

    assert data("zero3", 4) == pytest.approx(4 * data("zero3", 1))
    assert data("zero1", 4) == data("zero1", 1)
    # zero1: 4 bytes of gradient reduced, 2 of weight gathered; zero3: 2 + 2 gathered, 2 reduced
    assert data("zero3", 1) == pytest.approx(data("zero1", 1))


def test_expert_parallelism_leaves_fewer_gradients_to_reduce():
    all_on_each, divided = (sent(Layout(dp=8, ep=ep))["data"].inside[0] for ep in (1, 8))

    assert divided < all_on_each / 5


def test_two_parts_add_up():
    found = Bytes(np.array([1.0]), np.array([2.0])).plus(Bytes(np.array([3.0]), np.array([4.0]))).times(2)

    assert (found.inside[0], found.between[0]) == (8, 12)


def test_dense_models_send_no_tokens_to_experts():
    dense = replace(MIXTRAL, n_dense_layers=MIXTRAL.n_layers)
    found = traffic(dense, Layouts.of([Layout(dp=8)]), seq_len=4096, n_micro=np.array([1]), domain=8)

    assert found["expert"].inside[0] == 0


def test_context_parallelism_passes_keys_and_values_three_times():
    found = sent(Layout(cp=2))["context"]
    keys_and_values = 2 * 4096 * 8 * (128 + 128) / 2  # bf16; half of them are one's own

    assert found.inside[0] == pytest.approx(32 * 3 * keys_and_values)


def test_virtual_stages_send_activations_more_often():
    plain, virtual = (sent(Layout(pp=4, vpp=vpp), domain=1)["pipeline"].between[0] for vpp in (1, 3))

    assert plain == 2 * 2 * 4096 * 4096  # activation forward, gradient back
    assert virtual == 3 * plain


@pytest.mark.parametrize(("kind", "passes"), [("tensor", 2), ("context", 3), ("expert", 2)])
def test_recomputing_layers_sends_a_forward_pass_once_more(kind, passes):
    layout = Layout(tp=2, cp=2, ep=4, dp=2)
    none, full = (sent(layout.model_copy(update={"recompute": r}))[kind].inside[0] for r in ("none", "full"))

    assert full == pytest.approx(none * (passes + 1) / passes)
