"""One island of three hands in bad updates, over real sockets, and the run is as good as without it."""

import math
import re

import numpy as np
import pytest

from everyflop.data.prepare import prepare
from everyflop.islands.checksum import checksum
from everyflop.islands.codec import Payload
from everyflop.islands.samples import numbers
from everyflop.islands.wire import Header
from everyflop.train.update import compute

from .in_threads import Outcome, Spoil, farthest, train_islands

BATCHES = 40
"""Of eight windows; rounds have five."""
BAD_ROUNDS = {4, 6}
ROUNDS = {"steps": 5, "rounds": "steps", "sync_share": 0.0}


def in_bad_rounds(spoil: Spoil) -> Spoil:
    def maybe(island: str, header: Header, payload: Payload) -> tuple[Header, Payload]:
        bad = island == "c" and header["round"] in BAD_ROUNDS
        return spoil(island, header, payload) if bad else (header, payload)

    return maybe


def with_nan(_island: str, header: Header, payload: Payload) -> tuple[Header, Payload]:
    numbers = np.frombuffer(payload, dtype=np.float64).copy()
    numbers[len(numbers) // 3] = math.nan
    return header, numbers.tobytes()


def too_large(_island: str, header: Header, payload: Payload) -> tuple[Header, Payload]:
    return header, (np.frombuffer(payload, dtype=np.float64) * 1e6).tobytes()


def flipped_before_it_is_sent(_island: str, header: Header, payload: Payload) -> tuple[Header, Payload]:
    return header, with_flipped_exponent(payload, len(payload) // 24)


def flipped_in_its_statistics(_island: str, header: Header, payload: Payload) -> tuple[Header, Payload]:
    return header, with_flipped_exponent(payload, -1)


def with_flipped_exponent(payload: Payload, place: int) -> bytes:
    bits = np.frombuffer(payload, dtype=np.uint64).copy()
    bits[place] ^= np.uint64(1 << 62)  # its highest bit
    return bits.tobytes()


def flipped_on_the_way(_island: str, header: Header, payload: Payload) -> tuple[Header, Payload]:
    flipped = bytearray(payload)
    flipped[1000] ^= 1
    return {**header, "checksum": checksum(payload)}, bytes(flipped)


FAULTS = {
    with_nan: "not finite",
    too_large: "times the usual norm",
    flipped_before_it_is_sent: "not finite|times the usual norm",
    flipped_in_its_statistics: "its statistics are",
    flipped_on_the_way: "damaged on the way",
}


@pytest.fixture
def train(islands_run, device, tmp_path):
    """Train with or without bad updates; return what came of it, and the loss on samples that were not used."""

    def run(name: str, spoil: Spoil | None = None, **how: bool) -> tuple[Outcome, float]:
        settled = islands_run("a", "b", "c", **ROUNDS, tokens=256 * BATCHES, **how)
        prepared = prepare(settled.run)
        outcome = train_islands(settled, prepared, device, tmp_path / name, spoil=spoil and in_bad_rounds(spoil))
        sums = compute(outcome.sessions["a"], prepared.train(settled.run.run.seed).batch(8 * BATCHES, 64))
        return outcome, (sums.ce / sums.tokens).item()

    return run


def test_bad_updates_are_rejected_and_the_run_is_as_good(train):
    _, as_good = train("good")
    for spoil, why in FAULTS.items():
        outcome, loss = train(spoil.__name__, spoil)
        members = [(record["round"], name, m) for record in outcome.records for name, m in record["members"].items()]
        rejected = {(number, name): m["why"] for number, name, m in members if not m["accepted"]}

        assert set(rejected) == {(number, "c") for number in BAD_ROUNDS}
        assert all(re.search(why, said) for said in rejected.values()), rejected
        assert {event["island"] for event in outcome.events if event["event"] == "guard"} == {"c"}
        assert sorted(n for _, _, m in members for n in numbers(m["ranges"])) == list(range(8 * BATCHES))
        assert farthest(outcome.sessions["a"], outcome.sessions["c"]) == 0.0
        assert loss == pytest.approx(as_good, rel=0.01)


def test_without_guards_updates_that_are_too_large_ruin_the_run(train):
    _, as_good = train("good", guards=False)
    _, ruined = train("ruined", too_large, guards=False)

    assert ruined > 1.2 * as_good
