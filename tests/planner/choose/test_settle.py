"""Chosen islands get the layouts of the parts that they really train."""

from dataclasses import replace

import pytest

from everyflop.planner.choose.line_ups import Wanted
from everyflop.planner.choose.market import Caps, bill_of
from everyflop.planner.choose.mix import Pick, best_pick
from everyflop.planner.choose.settle import best_settled, settle

from ..fleets import A100, H100, LITE, MI300X, desk, fleet

ASKED = desk(fleet(H100, A100, MI300X))


def picked(islands: int):
    pick = best_pick(ASKED.market, {islands: ASKED.options[islands]}, Caps(), wanted=Wanted(least_pools=islands))
    assert pick
    return pick


@pytest.mark.parametrize("islands", [1, 2, 3])
def test_parts_of_the_batch_add_up_and_follow_the_speeds(islands):
    settled = settle(ASKED.supply, ASKED.market, picked(islands))
    assert settled

    parts = [found.batch_seqs for found in settled.found]
    assert sum(parts) == LITE.batch_seqs
    assert [part / LITE.batch_seqs for part in parts] == pytest.approx(settled.bill.shares, abs=0.02)


def test_parts_that_never_come_to_rest_follow_the_speeds_too():
    sizes = {0: 64, 1: 32, 2: 40}  # of these the layouts of one change the parts of the others and back
    islands = tuple(o for o in ASKED.options[3] if sizes[o.pool] == o.devices)
    settled = settle(ASKED.supply, ASKED.market, Pick(islands, bill_of(ASKED.market, islands)))
    assert settled

    parts = [found.batch_seqs / LITE.batch_seqs for found in settled.found]
    assert parts == pytest.approx(settled.bill.shares, abs=0.02)


def test_a_single_island_settles_at_its_option():
    pick = picked(1)
    settled = settle(ASKED.supply, ASKED.market, pick)

    assert settled
    assert (settled.islands, settled.bill) == (pick.islands, pick.bill)


def test_options_that_promised_too_much_are_corrected():
    # Were every H100 island three times as fast, two of them and little else would keep this deadline.
    boastful = {
        islands: [replace(o, tokens_per_s=3 * o.tokens_per_s) if o.pool == 0 else o for o in offered]
        for islands, offered in ASKED.options.items()
    }
    fastest = best_settled(ASKED.supply, ASKED.market, ASKED.options, Caps(), objective="time")
    assert fastest
    caps = Caps(days=1.2 * fastest.bill.days)

    settled = best_settled(ASKED.supply, ASKED.market, boastful, caps)

    assert settled
    assert settled.bill.days <= caps.days


def test_what_unlike_islands_turn_out_to_be_does_not_hide_like_ones():
    # Parts of 512 sequences that are unlike fill micro-batches badly, so that mixes promise more than they keep. With
    # cheap merging four islands of 32 are best for both deadlines, and were found for the shorter one only.
    ranges = [{**H100, "count": [16, 256]}, {**A100, "count": [16, 512]}, {**MI300X, "count": [8, 128]}]
    cheap = {"steps_between_exchanges": 4, "extra_tokens_share": {2: 0.008, 4: 0.025}}
    asked = desk(fleet(*ranges, islands=cheap), max_islands=4)
    tight, loose = (asked.under(Caps(days=days)).best() for days in (0.62, 0.8))

    assert tight
    assert loose
    assert len({(island.pool, island.devices) for island in tight.islands}) == 1
    assert loose.bill.cost <= tight.bill.cost
