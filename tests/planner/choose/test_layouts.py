"""Layouts that are worth a prediction are possible ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everyflop.accounting.dims import dims_of
from everyflop.planner.choose.layouts import MOST_IDLE_SHARE, degrees, distinct, join, refitted, variants
from everyflop.spec.presets import preset

MODELS = {name: dims_of(preset(name)) for name in ("ling-lite", "ling-1t", "mixtral-8x7b", "deepseek-v3")}


@settings(max_examples=30)
@given(st.sampled_from(sorted(MODELS)), st.integers(1, 3000), st.sampled_from([1, 4, 8, 72]), st.integers(1, 2000))
def test_degrees_fit_devices_domains_experts_and_batches(name, devices, domain, batch_seqs):
    dims = MODELS[name]

    found = degrees(dims, devices=devices, domain=domain, seq_len=4096, batch_seqs=batch_seqs)

    assert (found.devices <= devices).all()
    assert (found.devices >= (1 - MOST_IDLE_SHARE) * devices).all()
    assert (found.tp <= domain).all()
    assert (dims.n_heads % found.tp == 0).all()
    assert (dims.n_experts % found.ep == 0).all()
    assert (found.tp * found.cp * found.dp % (found.ep * found.etp) == 0).all()
    assert (found.dp <= batch_seqs).all()
    assert (found.pp <= dims.n_layers).all()


def test_one_device_has_one_combination_of_degrees():
    found = degrees(MODELS["ling-lite"], devices=1, domain=8, seq_len=4096, batch_seqs=64)

    assert len(found) == 1
    assert found.at(0).devices == 1


def test_the_layout_of_ling_1t_is_among_those_looked_at():
    # Every Activation Boosted: 2,016 devices, TP1 EP8 PP21 VPP2; 80 layers on 21 stages are 4 at most, as on 20.
    found = degrees(MODELS["ling-1t"], devices=2016, domain=8, seq_len=4096, batch_seqs=18144)

    assert ((found.tp == 1) & (found.ep == 8) & (found.pp == 20)).any()


def test_long_sequences_may_be_divided():
    found = degrees(MODELS["ling-lite"], devices=64, domain=8, seq_len=16384, batch_seqs=64)

    assert set(found.cp) == {1, 2, 4}


def test_few_large_experts_may_be_divided():
    assert set(degrees(MODELS["mixtral-8x7b"], devices=64, domain=8, seq_len=4096, batch_seqs=64).etp) > {1}
    assert set(degrees(MODELS["ling-1t"], devices=64, domain=8, seq_len=4096, batch_seqs=64).etp) == {1}


@pytest.mark.parametrize("batch_seqs", [16, 512])
def test_variants_have_a_micro_batch_for_every_rank_and_a_layer_for_every_chunk(batch_seqs):
    dims = MODELS["ling-lite"]
    some = degrees(dims, devices=64, domain=8, seq_len=4096, batch_seqs=batch_seqs)

    every = variants(some, dims, batch_seqs=batch_seqs)

    assert len(every) > len(some)
    assert (every.dp * every.micro_batch <= batch_seqs).all()
    assert (every.pp * every.vpp <= dims.n_layers).all()
    assert (every.vpp[every.pp == 1] == 1).all()


def test_joining_keeps_the_order():
    some = degrees(MODELS["ling-lite"], devices=8, domain=8, seq_len=4096, batch_seqs=64)

    both = join([some, some])

    assert np.array_equal(both.tp, np.concatenate([some.tp, some.tp]))


@settings(max_examples=30)
@given(st.sampled_from(sorted(MODELS)), st.integers(8, 3000), st.integers(8, 3000))
def test_a_layout_for_other_devices_differs_in_its_replicas_alone_and_fits(name, devices, others):
    dims = MODELS[name]
    before = degrees(dims, devices=devices, domain=8, seq_len=4096, batch_seqs=512)

    after, _ = refitted(before, devices=np.full(len(before), others), batch_seqs=512)

    assert (after.devices <= others).all()
    assert (after.devices >= (1 - MOST_IDLE_SHARE) * others).all()
    assert (after.tp * after.cp * after.dp % (after.ep * after.etp) == 0).all()
    assert {(int(tp), int(pp)) for tp, pp in zip(after.tp, after.pp, strict=True)} <= {
        (int(tp), int(pp)) for tp, pp in zip(before.tp, before.pp, strict=True)
    }


def test_for_the_same_devices_layouts_stay_as_they_are():
    before = degrees(MODELS["ling-lite"], devices=64, domain=8, seq_len=4096, batch_seqs=512)
    after, kept = refitted(before, devices=np.full(len(before), 64), batch_seqs=512)

    assert [after.at(i) for i in range(len(after))] == [before.at(i) for i in range(len(before))]
    assert kept.tolist() == list(range(len(before)))


def test_distinct_layouts_keep_their_order():
    some = degrees(MODELS["ling-lite"], devices=64, domain=8, seq_len=4096, batch_seqs=512)
    twice = distinct(join([some, some]))

    assert [twice.at(i) for i in range(len(twice))] == [some.at(i) for i in range(len(some))]
