import json
from typing import Any

import numpy as np
import pytest

from everyflop.islands.codec import LARGEST, decode, encode, encoded_bytes
from everyflop.islands.commit import Merged, Update, merge_updates
from everyflop.islands.rounds import Exchange, Round
from everyflop.spec.islands import IslandsSpec

REST = {
    "skipped": 0,
    "weights": "h",
    "arithmetic": "one",
    "sequences": 1,
    "reach": 1.0,
    "sizes": [1],
    "train_s": 1.0,
    "round_s": 2.0,
    "lost_s": 1.0,
}


def update(
    island: str,
    numbers: list[float],
    *,
    statistics: tuple[float, ...] = (1.0,),
    tokens: int = 100,
    steps: int = 1,
    anchor: str = "h",
    weights: str = "h",
    arithmetic: str = "one",
    skipped: int = 0,
    how: str = "fp32",
    whole: bool = True,
    cut: int = 0,
    more: bytes = b"",
) -> Update:
    array = np.array(numbers, dtype=np.float32)
    payload = bytes(encode(array, how)) + np.array(statistics, dtype=np.float64).tobytes()
    facts = {"n": array.size, "dtype": "float32", "compress": how, "hash": anchor}
    facts |= {"n_stats": len(statistics), "stats_dtype": "float64"}
    header = {**facts, **REST, "steps": steps, "tokens": tokens, "samples": tokens // 10}
    header |= {"weights": weights, "arithmetic": arithmetic, "skipped": skipped}
    return Update(island, header, memoryview(payload[: len(payload) - cut] + more), whole)


def nothing(island: str, anchor: str = "h") -> Update:
    """Return what an island hands in that came too late to train."""
    header = {"n": 0, "dtype": "float64", "n_stats": 0, "stats_dtype": "float64", "compress": "fp32", "hash": anchor}
    return Update(island, {**header, **REST, "steps": 0, "tokens": 0, "samples": 0}, memoryview(b""), True)


def merged(
    *updates: Update, exchange: Exchange = "weights", lost: int = 0, rates: Any = None, residual: Any = None, **how: Any
) -> Merged:
    """Merge updates of a round that had `lost` more sequences in a step than these."""
    plan = Round(exchange, 1, None, sum(one.samples for one in updates) + lost, {one.island: 1 for one in updates})
    by_name = {one.island: one for one in updates}
    return merge_updates(by_name, plan, IslandsSpec(**how), rates=rates or {}, residual=residual or {})


def numbers(result: Merged, n: int) -> list[float]:
    size = encoded_bytes(n, result.form["compress"])
    return decode(result.payload[:size], result.form["compress"], n).tolist()


def statistics(result: Merged) -> list[float]:
    return np.frombuffer(result.payload[len(result.payload) - 8 * result.form["n_stats"] :]).tolist()


def test_gradients_of_parts_of_a_batch_add_up_to_that_of_the_batch():
    result = merged(update("a", [3.0, 0.0], tokens=300), update("b", [0.0, 2.0], tokens=100), exchange="gradients")

    assert numbers(result, 2) == [3.0, 2.0]
    assert result.steps == 1


def test_the_gradient_of_a_lost_part_is_made_up_for_by_the_others():
    pair = [update("a", [3.0, 0.0], tokens=300), update("b", [0.0, 2.0], tokens=100)]

    # 40 of 60 sequences are there: times 1.5 they are a mean over their tokens
    assert numbers(merged(*pair, exchange="gradients", lost=20), 2) == [4.5, 3.0]


def test_the_gradient_of_a_rejected_part_is_made_up_for_by_the_others():
    pair = [update("a", [3.0], tokens=300), update("b", [np.nan], tokens=100)]

    assert numbers(merged(*pair, exchange="gradients"), 1) == [4.0]


def test_statistics_of_one_step_are_summed():
    pair = [update("a", [1.0], statistics=(3.0, 1.0), tokens=300), update("b", [1.0], statistics=(5.0, 2.0))]

    assert statistics(merged(*pair, exchange="gradients")) == [8.0, 3.0]


def test_statistics_of_weights_are_averaged_by_tokens():
    pair = [update("a", [1.0], statistics=(4.0,), tokens=300), update("b", [1.0], statistics=(8.0,), tokens=100)]

    assert statistics(merged(*pair)) == [5.0]


def test_weights_are_merged_by_the_rule_of_the_run():
    pair = [update("a", [6.0], tokens=300, steps=6), update("b", [2.0], tokens=100, steps=2)]

    assert numbers(merged(*pair, merge="steps"), 1) == [5.0]  # every step moved by 1, and the round has 5
    assert numbers(merged(*pair, merge="tokens"), 1) == [5.0]  # 0.75 * 6 + 0.25 * 2, by chance the same
    assert merged(*pair, merge="steps").weights == pytest.approx({"a": 0.625, "b": 0.625})
    assert merged(*pair, merge="tokens").weights == {"a": 0.75, "b": 0.25}
    assert merged(*pair).steps == 5


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (update("c", [1.0, 1.0], whole=False), "damaged on the way"),
        (update("c", [1.0, 1.0], anchor="other"), "its anchor is not that of the others"),
        (update("c", [1.0, 1.0], weights="other"), "its weights are not those of others that round alike"),
        (update("c", [1.0, 1.0], steps=3, skipped=3), "no loss or gradient of its steps was finite"),
        (update("c", [1.0, 1.0], cut=12), "bytes where 2 numbers"),
        (update("c", [1.0, 1.0], cut=4), "bytes"),
        (update("c", [1.0, 1.0], more=b"12345678"), "bytes"),
        (update("c", [1.0, 1.0, 1.0]), "numbers"),
        (update("c", [np.nan, 1.0]), "not finite"),
        (update("c", [1.0, -np.inf]), "not finite"),
        (update("c", [1.0, 1.0], statistics=(np.nan,)), "its statistics are not finite"),
        (update("c", [1.0, 1.0], statistics=(1e9,)), "its statistics are 1e+09 times the usual norm"),
        (update("c", [1e6, 1e6]), "times the usual norm"),
    ],
    ids=[
        "damaged",
        "anchor",
        "weights",
        "all skipped",
        "short",
        "statistics cut",
        "long",
        "other model",
        "nan",
        "inf",
        "nan statistics",
        "huge statistics",
        "huge",
    ],
)
def test_an_unsound_update_is_left_out_and_its_island_must_rejoin(bad: Update, why: str):
    result = merged(update("a", [1.0, 3.0]), update("b", [3.0, 1.0]), bad)

    assert numbers(result, 2) == [2.0, 2.0]
    assert statistics(result) == [1.0]
    assert [name for name, verdict in result.verdicts.items() if not verdict.accepted] == ["c"]
    assert list(result.must_rejoin) == ["c"]
    assert why in result.must_rejoin["c"]


def test_weights_may_differ_where_devices_round_unlike():
    result = merged(update("a", [1.0]), update("b", [3.0], weights="other", arithmetic="another"), exchange="gradients")

    assert numbers(result, 1) == [4.0]
    assert result.must_rejoin == {}


def test_an_update_that_is_somewhat_too_large_is_clipped_and_its_island_stays():
    result = merged(update("a", [1.0]), update("b", [1.0]), update("c", [4.0]))

    # 4 times the others' norm is clipped to 2.5 of them
    assert numbers(result, 1) == pytest.approx([1.5])
    assert result.must_rejoin == {}


def test_the_past_that_an_update_is_judged_by_is_that_of_the_same_kind_of_exchange():
    past = {"gradients/a": [1.0] * 4}

    assert not merged(update("a", [100.0]), exchange="gradients", rates=past).applied
    assert merged(update("a", [100.0]), exchange="weights", rates=past).applied


def test_statistics_are_judged_by_their_own_past():
    past = {"weights/a": [1.0] * 4, "statistics of weights/a": [1.0] * 4}

    assert not merged(update("a", [1.0], statistics=(100.0,)), rates=past).applied
    assert merged(update("a", [1.0], statistics=(10.0,)), rates=past).applied
    assert merged(update("a", [1.0], statistics=(2.0,))).rates_of("a", "weights") == {
        "weights/a": 1.0,
        "statistics of weights/a": 2.0,
    }


def test_a_norm_is_judged_for_each_root_of_a_step_and_of_one_over_the_part_of_the_batch():
    result = merged(update("a", [6.0], tokens=900, steps=9), update("b", [2.0], tokens=100), lost=100)

    # Of 200 sequences in a step each has 10, 9 steps of one and 1 of the other: 3 and 1 times root of 20.
    assert result.rates == {"a": pytest.approx(2 / 20**0.5), "b": pytest.approx(2 / 20**0.5)}


def test_the_norm_of_a_gradient_is_judged_for_its_part_of_the_batch():
    result = merged(update("a", [3.0], tokens=300), update("b", [1.0], tokens=100), exchange="gradients")

    assert result.rates == {"a": pytest.approx(4.0), "b": pytest.approx(4.0)}


def test_when_no_update_is_sound_nothing_is_applied_and_nobody_has_anything_to_fetch():
    result = merged(update("a", [np.nan]), update("b", [1.0], whole=False))

    assert not result.applied
    assert (result.payload, result.steps) == (b"", 0)
    assert result.must_rejoin == {}
    assert not any(verdict.accepted for verdict in result.verdicts.values())


def test_beside_an_island_that_did_nothing_an_unsound_one_is_in_doubt():
    result = merged(nothing("a"), update("b", [np.nan]))

    assert not result.applied
    assert list(result.must_rejoin) == ["b"]


def test_an_empty_update_is_accepted_and_changes_nothing():
    result = merged(update("a", [2.0]), nothing("b"))

    assert numbers(result, 1) == [2.0]
    assert result.verdicts["b"].accepted
    assert result.weights == {"a": 1.0}


def test_a_round_in_which_nobody_trained_is_not_applied():
    result = merged(nothing("a"), nothing("b"))

    assert not result.applied
    assert result.must_rejoin == {}


def test_a_commit_says_of_each_update_what_became_of_it_and_holds_no_nan():
    bad, good = update("a", [np.nan]), update("b", [2.0], steps=4)
    result = merged(bad, good, nothing("c"))
    entries = [result.entry(one) for one in (bad, good, nothing("c"))]

    assert [entry["rate"] for entry in entries] == [None, pytest.approx(8**-0.5), None]  # 2 / (4 steps / root of half)
    assert [entry["accepted"] for entry in entries] == [False, True, True]
    assert [entry["weight"] for entry in entries] == [0.0, 1.0, 0.0]
    assert [entry["sent_bytes"] for entry in entries] == [12, 12, 0]  # a number in fp32 and one in fp64
    json.dumps(entries, allow_nan=False)


@pytest.mark.parametrize("exchange", ["gradients", "weights"])
@pytest.mark.parametrize("how", LARGEST)
def test_what_integers_round_off_is_carried_to_the_next_exchange(how: str, exchange: Exchange):
    pair = [update("a", [1.0, 0.001]), update("b", [1.0, 0.001])]
    once = numbers(merged(*pair, exchange=exchange, compress=how), 2)
    arrived, residual = 0.0, None
    for _ in range(50):
        result = merged(*pair, exchange=exchange, compress=how, residual=residual)
        residual = result.residual
        arrived += numbers(result, 2)[1]

    assert once[1] == 0.0  # far less than half a scale, without a past
    assert arrived == pytest.approx(0.05 * once[0], abs=1.01 * once[0] / LARGEST[how])


def test_a_round_that_is_not_applied_keeps_what_was_rounded_off():
    kept = {"weights": np.array([0.5], dtype=np.float32)}

    assert merged(update("a", [np.nan]), compress="int8", residual=kept).residual is kept


@pytest.mark.parametrize(("exchange", "other"), [("gradients", "weights"), ("weights", "gradients")])
def test_what_was_rounded_off_one_kind_of_exchange_is_not_added_to_the_other(exchange: Exchange, other: Exchange):
    kept = {other: np.array([50.0], dtype=np.float32)}
    result = merged(update("a", [1.0]), exchange=exchange, compress="int8", residual=kept)

    assert numbers(result, 1)[0] == pytest.approx(1.0, rel=0.01)
    assert [*result.residual] == [exchange]


@pytest.mark.parametrize("how", ["bf16", "int8", "int4"])
def test_compressed_updates_are_merged_as_what_they_say(how: Any):
    pair = [update("a", [1.27, -1.27], how=how), update("b", [1.27, 1.27], how=how)]

    assert numbers(merged(*pair, compress=how), 2) == pytest.approx([1.27, 0.0], rel=2**-8, abs=1e-9)


def test_islands_merge_to_the_same_bits_in_whatever_order_they_handed_in():
    rng = np.random.default_rng(0)
    updates = [
        update(name, rng.standard_normal(100).tolist(), tokens=n) for name, n in {"a": 30, "b": 70, "c": 90}.items()
    ]

    assert merged(*updates).payload == merged(*reversed(updates)).payload


def test_short_steps_make_small_updates_and_are_no_smaller_for_it():
    whole, short = update("a", [2.0]), update("a", [1.0])
    short.header["reach"] = 0.5

    assert merged(short).rates == merged(whole).rates
