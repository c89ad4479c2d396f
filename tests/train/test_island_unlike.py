"""Islands that round unlike, or whose steps give nothing, over real sockets."""

import dataclasses
import math
import time

import pytest
import torch

from everyflop.data.prepare import prepare
from everyflop.islands.samples import numbers
from everyflop.train.island import Island

from .in_threads import Outcome, farthest, train_islands


def rounds_unlike(name: str, island: Island) -> None:
    """Let b take a step of the optimizer that differs from others' in one bit, as on another device."""
    if name == "b":
        differ_in_a_bit(island)
        island.replica.arithmetic = "another device's"


def differ_in_a_bit(island: Island) -> None:
    apply, weight = island._apply_gradients, island.replica.parameters[0]

    def apply_elsewhere(*arguments) -> None:
        apply(*arguments)
        with torch.no_grad():
            weight.view(-1)[0] = torch.nextafter(weight.view(-1)[0], weight.new_tensor(math.inf))

    island._apply_gradients = apply_elsewhere


def verdicts(outcome: Outcome) -> set[str]:
    return {member["why"] for record in outcome.records for member in record["members"].values() if member["why"]}


def every_sample_once(outcome: Outcome, n: int) -> bool:
    used = [m for record in outcome.records for one in record["members"].values() for m in numbers(one["ranges"])]
    return sorted(used) == list(range(n))


def test_devices_that_round_unlike_exchange_gradients_as_if_they_did_not(islands_run, device, tmp_path):
    settled = islands_run("a", "b", tokens=256 * 12)
    outcome = train_islands(settled, prepare(settled.run), device, tmp_path, touch=rounds_unlike)

    assert verdicts(outcome) == set()
    assert not [event for event in outcome.events if event["event"] == "fetch"]
    assert 0 < farthest(outcome.sessions["a"], outcome.sessions["b"]) < 1e-12


def test_they_have_the_same_weights_once_they_train_apart(islands_run, device, tmp_path):
    settled = islands_run("a", "b", steps=3, rounds="steps", sync_share=0.4, tokens=256 * 24)
    outcome = train_islands(settled, prepare(settled.run), device, tmp_path, touch=rounds_unlike)

    assert verdicts(outcome) == {"its anchor is not that of the others"}, "in the first round apart alone"
    assert len([event for event in outcome.events if event["event"] == "guard"]) == 1
    assert farthest(outcome.sessions["a"], outcome.sessions["b"]) == 0.0
    assert every_sample_once(outcome, 8 * 24)


def test_weights_that_differ_where_devices_round_alike_are_a_fault(islands_run, device, tmp_path):
    def damage(name: str, island: Island) -> None:
        if name == "c":
            differ_in_a_bit(island)

    settled = islands_run("a", "b", "c", tokens=256 * 4)
    outcome = train_islands(settled, prepare(settled.run), device, tmp_path, touch=damage)

    assert verdicts(outcome) == {"its weights are not those of others that round alike"}
    assert {event["island"] for event in outcome.events if event["event"] == "guard"} == {"c"}


def without_a_loss(*names: str):
    def touch(name: str, island: Island) -> None:
        step = island.replica.session.step
        forward_backward = step.forward_backward

        def to_nothing(*arguments, **options):
            sums = forward_backward(*arguments, **options)
            return dataclasses.replace(sums, ce=sums.ce * math.nan)

        if name in names:
            step.forward_backward = to_nothing

    return touch


def test_an_island_none_of_whose_steps_has_a_loss_does_not_hold_the_others_back(islands_run, device, tmp_path):
    settled = islands_run("a", "b", "c", steps=3, rounds="steps", sync_share=0.0, tokens=256 * 12)
    outcome = train_islands(settled, prepare(settled.run), device, tmp_path, touch=without_a_loss("c"))

    assert verdicts(outcome) == {"no loss or gradient of its steps was finite"}
    assert all(record["applied"] for record in outcome.records)
    assert every_sample_once(outcome, 8 * 12)


def test_a_run_none_of_whose_islands_has_a_loss_ends(islands_run, device, tmp_path):
    settled = islands_run("a", "b", steps=3, rounds="steps", sync_share=0.0, tokens=256 * 300)
    outcome = train_islands(settled, prepare(settled.run), device, tmp_path, touch=without_a_loss("a", "b"))

    assert set(outcome.ended.values()) == {"diverged"}
    assert len(outcome.records) == 5


def test_an_island_that_saves_for_long_does_not_hang(islands_run, device, tmp_path):
    def save_for_long(name: str, island: Island) -> None:
        if name == "a":
            island._after_commit = lambda record, leads: time.sleep(4.0 if record["round"] == 1 else 0.0)

    settled = islands_run("a", "b", steps=3, rounds="steps", sync_share=0.0, tokens=256 * 12, hang_s=3, heartbeat_s=2)
    outcome = train_islands(settled, prepare(settled.run), device, tmp_path, touch=save_for_long)

    assert not [event for event in outcome.events if event["event"] == "lost"]
    assert set(outcome.ended.values()) == {"finished"}


def test_being_told_to_hurry_while_a_commit_is_applied_is_not_forgotten(islands_run, device, tmp_path):
    def tell(name: str, island: Island) -> None:
        if name == "a":
            island._after_commit = lambda record, leads: record["round"] == 0 and island.member.hurry.set()

    settled = islands_run("a", "b", steps=4, rounds="steps", sync_share=0.0, tokens=256 * 12, schedule="constant")
    outcome = train_islands(settled, prepare(settled.run), device, tmp_path, touch=tell)

    assert [record["members"]["a"]["steps"] for record in outcome.records[:2]] == [4, 1]


@pytest.mark.parametrize("spoilt", ["inf", "nan"])
def test_what_int8_left_out_of_an_update_that_was_rejected_is_forgotten(spoilt, islands_run, device, tmp_path):
    def spoil_once(name: str, island: Island) -> None:
        hand_in = island.replica.hand_in

        def once(steps: int):
            moved, statistics = hand_in(steps)
            if island.replica.round == 1:
                moved[0] = float(spoilt)
            return moved, statistics

        island.replica.hand_in = once

    how = {"rounds": "steps", "sync_share": 0.0, "compress": "int8"}
    settled = islands_run("a", steps=3, tokens=256 * 12, schedule="constant", **how)
    outcome = train_islands(settled, prepare(settled.run), device, tmp_path, dtype=torch.float32, touch=spoil_once)

    assert [record["applied"] for record in outcome.records] == [True, False, True, True]
    assert set(outcome.ended.values()) == {"finished"}
