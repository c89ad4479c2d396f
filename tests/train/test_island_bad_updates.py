"""One island of three hands in bad updates, over real sockets, and the run is as good as without it."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from everyflop.data.prepare import prepare
from everyflop.islands.checksum import checksum
from everyflop.islands.codec import Payload
from everyflop.islands.samples import numbers
from everyflop.islands.wire import Header
from everyflop.train.session import Session
from everyflop.train.update import compute

from .in_threads import Spoil, farthest, train_islands

BAD_ROUNDS = {5, 9, 14}
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
    bits = np.frombuffer(payload, dtype=np.uint64).copy()
    bits[len(bits) // 3] ^= np.uint64(1 << 62)  # the exponent's highest bit
    return header, bits.tobytes()


def flipped_on_the_way(_island: str, header: Header, payload: Payload) -> tuple[Header, Payload]:
    flipped = bytearray(payload)
    flipped[1000] ^= 1
    return {**header, "checksum": checksum(payload)}, bytes(flipped)


def loss_of(session: Session, stream: Any) -> float:
    """Return the loss on samples that the run has not used."""
    with torch.random.fork_rng():
        sums = compute(session, stream.batch(500, 64))
    return (sums.ce / sums.tokens).item()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (with_nan, "not finite"),
        (too_large, "times the usual norm"),
        (flipped_before_it_is_sent, "not finite|times the usual norm"),
        (flipped_on_the_way, "damaged on the way"),
    ],
)
def test_bad_updates_are_rejected_and_the_run_is_as_good(spoil: Spoil, why: str, islands_run, device, tmp_path):
    settled = islands_run("a", "b", "c", **ROUNDS, tokens=256 * 100)
    prepared = prepare(settled.run)

    good = train_islands(settled, prepared, device, tmp_path / "good")
    outcome = train_islands(settled, prepared, device, tmp_path / "bad", spoil=in_bad_rounds(spoil))
    members = [(record["round"], name, m) for record in outcome.records for name, m in record["members"].items()]
    rejected = {(number, name): m["why"] for number, name, m in members if not m["accepted"]}
    stream = prepared.train(settled.run.run.seed)

    assert set(rejected) == {(number, "c") for number in BAD_ROUNDS}
    assert all(any(reason in said for reason in why.split("|")) for said in rejected.values()), rejected
    assert {event["island"] for event in outcome.events if event["event"] == "guard"} == {"c"}
    assert sorted(n for _, _, m in members for n in numbers(m["ranges"])) == list(range(256 * 100 // 32))
    assert farthest(outcome.sessions["a"], outcome.sessions["c"]) == 0.0
    assert loss_of(outcome.sessions["a"], stream) == pytest.approx(loss_of(good.sessions["a"], stream), rel=0.01)


def test_without_guards_one_update_that_is_too_large_ruins_the_run(islands_run, device, tmp_path):
    settled = islands_run("a", "b", "c", **ROUNDS, tokens=256 * 100, guards=False)
    prepared = prepare(settled.run)

    good = train_islands(settled, prepared, device, tmp_path / "good")
    ruined = train_islands(settled, prepared, device, tmp_path / "bad", spoil=in_bad_rounds(too_large))
    stream = prepared.train(settled.run.run.seed)

    assert loss_of(ruined.sessions["a"], stream) > 1.2 * loss_of(good.sessions["a"], stream)
