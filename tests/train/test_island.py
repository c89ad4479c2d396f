"""Islands as threads of this process, with real sockets between them: what they train, bit by bit."""

import numpy as np
import pytest
import torch

from everyflop.data.prepare import prepare
from everyflop.data.stream import TrainStream
from everyflop.islands.codec import encoded_bytes
from everyflop.islands.flat import moved_from
from everyflop.islands.samples import numbers
from everyflop.optim.part import step_on_part
from everyflop.optim.schedules import lr_at
from everyflop.spec.islands import IslandSpec
from everyflop.train.local_steps import LocalSteps
from everyflop.train.replica import Replica
from everyflop.train.router_vector import routers_to_vector
from everyflop.train.session import Session
from everyflop.train.simulated_device import SimulatedDevice
from everyflop.train.update import compute, conclude
from everyflop.train.validate import validate

from .in_threads import farthest, session_of, train_alone, train_islands


def test_exchanging_gradients_at_every_step_is_training_alone_on_the_whole_batch(islands_run, device, tmp_path):
    settled = islands_run("a", "b", "c", slow=3.0)
    prepared = prepare(settled.run)

    outcome = train_islands(settled, prepared, device, tmp_path)
    alone = train_alone(settled, prepared, device, steps=50)

    assert len(outcome.records) == 50
    assert {len(record["members"]) for record in outcome.records} == {3}
    assert farthest(outcome.sessions["a"], alone) < 1e-9
    assert farthest(outcome.sessions["a"], outcome.sessions["b"]) == 0.0


@pytest.mark.parametrize(("compress", "size"), [("int8", 0.25), ("int4", 0.125)])
def test_gradients_travel_as_integers_and_lead_nearly_as_far(islands_run, device, tmp_path, compress: str, size: float):
    whole, rounded = islands_run("a", "b"), islands_run("a", "b", compress=compress)
    prepared = prepare(whole.run)
    (held_out,) = prepared.validation.values()

    outcomes = [
        train_islands(settled, prepared, device, tmp_path / settled.run.islands.compress, dtype=torch.float32)
        for settled in (whole, rounded)
    ]
    sent, less = (outcome.records[0]["members"]["a"]["sent_bytes"] for outcome in outcomes)
    loss, near = (validate(one.sessions["a"].model, held_out, device.torch).loss for one in outcomes)

    assert less / sent == pytest.approx(size, rel=0.02)
    assert near == pytest.approx(loss, rel=0.1)  # from 5.8; int4 ends 7 % lower
    assert farthest(outcomes[1].sessions["a"], outcomes[1].sessions["b"]) == 0.0


def test_islands_that_train_more_steps_alone_end_elsewhere(islands_run, device, tmp_path):
    settled = islands_run("a", "b", steps=5, sync_share=0.0, rounds="steps")
    prepared = prepare(settled.run)

    outcome = train_islands(settled, prepared, device, tmp_path)

    assert farthest(outcome.sessions["a"], train_alone(settled, prepared, device, steps=50)) > 1e-3
    assert farthest(outcome.sessions["a"], outcome.sessions["b"]) == 0.0


def test_every_sample_is_used_once_and_the_run_ends_with_the_last(islands_run, device, tmp_path):
    settled = islands_run("a", "b", steps=4, slow=2.0, sync_share=0.2)
    prepared = prepare(settled.run)

    outcome = train_islands(settled, prepared, device, tmp_path)
    used = [n for r in outcome.records for m in r["members"].values() for n in numbers(m["ranges"])]

    assert sorted(used) == list(range(256 * 50 // 32))
    assert set(outcome.ended.values()) == {"finished"}
    assert {record["exchange"] for record in outcome.records} == {"gradients", "weights"}


def test_after_a_commit_islands_have_the_mean_squares_of_the_whole_batch(islands_run, device, tmp_path):
    settled = islands_run("a", "b", steps=2, rounds="steps", sync_share=0.5, slow=3.0, tokens=4 * 256, clip=1e3)
    prepared = prepare(settled.run)

    outcome = train_islands(settled, prepared, device, tmp_path)
    sessions = {**outcome.sessions, "alone": train_alone(settled, prepared, device, steps=4)}
    a, b, alone = (Replica(sessions[name], settled.run.islands).row_squares() for name in ("a", "b", "alone"))

    times = np.median(a[alone > 0] / alone[alone > 0])

    assert a == pytest.approx(b, rel=1e-6)  # the same but for rounding
    assert outcome.records[-1]["members"]["b"]["sequences"] == 2  # of 8
    # The product of the two's gradients is left out: 2 p (1 - p) of the whole where they are all signal, as in this
    # small model, and nothing where they are noise.
    assert 1 - 2 * 0.25 * 0.75 - 0.03 < times < 1.05


def test_rounds_by_steps_repeat_bit_for_bit(islands_run, device, tmp_path):
    settled = islands_run("a", "b", steps=3, slow=3.0, rounds="steps", outer_momentum=0.5, outer_lr=0.7)
    prepared = prepare(settled.run)
    first, second = (train_islands(settled, prepared, device, tmp_path / str(n), dtype=torch.float32) for n in (1, 2))

    assert farthest(first.sessions["a"], second.sessions["b"]) == 0.0


def test_an_island_may_compute_as_another_device_and_the_run_is_as_good(islands_run, device, tmp_path):
    ends, losses = [], []
    for numerics in ("own", "split"):
        settled = islands_run("a", "b", steps=5, rounds="steps", sync_share=0.2, numerics=numerics)
        prepared = prepare(settled.run)
        outcome = train_islands(settled, prepared, device, tmp_path / numerics, dtype=torch.float32)
        assert farthest(outcome.sessions["a"], outcome.sessions["b"]) == 0.0
        ends.append(outcome.sessions["a"])
        (held_out,) = prepared.validation.values()
        losses.append(validate(ends[-1].model, held_out, device.torch).loss)

    assert farthest(*ends) > 0
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)  # weights part as roundings grow; what they know does not


@pytest.mark.parametrize("compress", ["bf16", "int8", "int4"])
def test_compressed_updates_leave_all_islands_with_the_same_weights(compress, islands_run, device, tmp_path):
    settled = islands_run("a", "b", steps=5, rounds="steps", sync_share=0.1, compress=compress)
    prepared = prepare(settled.run)

    outcome = train_islands(settled, prepared, device, tmp_path, dtype=torch.float32)
    replica = Replica(outcome.sessions["a"], settled.run.islands)
    n_weights, n_statistics = (len(array) for array in replica.hand_in(5))
    sent = {m["sent_bytes"] for r in outcome.records if r["exchange"] == "weights" for m in r["members"].values()}

    assert farthest(outcome.sessions["a"], outcome.sessions["b"]) == 0.0
    assert sent == {encoded_bytes(n_weights, compress) + 4 * n_statistics}
    assert not [event for event in outcome.events if event["event"] == "guard"]


@pytest.mark.parametrize("rounds", ["steps", "clock"])
def test_islands_that_train_ahead_of_an_exchange_use_every_sample_once(rounds, islands_run, device, tmp_path):
    settled = islands_run("a", "b", steps=4, slow=2.0, sync_share=0.1, overlap=True, rounds=rounds, outer_momentum=0.3)
    prepared = prepare(settled.run)

    outcome = train_islands(settled, prepared, device, tmp_path, dtype=torch.float32)
    used = [n for r in outcome.records for m in r["members"].values() for n in numbers(m["ranges"])]

    assert sorted(used) == list(range(256 * 50 // 32))
    assert farthest(outcome.sessions["a"], outcome.sessions["b"]) == 0.0
    assert not [event for event in outcome.events if event["event"] in ("guard", "fetch", "lost")]


def test_a_replica_given_to_another_is_the_same_there(islands_run, device, tmp_path):
    settled = islands_run("a", "b", steps=5, rounds="steps", outer_momentum=0.5)
    prepared = prepare(settled.run)
    trained = train_islands(settled, prepared, device, tmp_path, dtype=torch.float32).sessions["a"]
    giver, taker = (Replica(s, settled.run.islands) for s in (trained, session_of(settled, device, torch.float32)))
    giver.outer.buffer = np.ones(3, dtype=np.float32)

    header, payload = giver.give()
    taker.take(header, memoryview(payload))

    assert taker.hash == giver.hash
    assert taker.part == giver.part
    assert taker.row_squares() == pytest.approx(giver.row_squares(), rel=1e-6)
    assert farthest(taker.session, giver.session) == 0.0
    for mine, theirs in zip(taker.parameters, giver.parameters, strict=True):
        for moment in ("exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(
                taker.session.optimizer.state[mine][moment], giver.session.optimizer.state[theirs][moment]
            )
    assert taker.outer.buffer is not None
    assert taker.outer.buffer.tolist() == [1, 1, 1]


def test_what_an_island_trained_since_the_last_commit_is_lost_when_it_goes_back(islands_run, device, tmp_path):
    settled = islands_run("a", "b", steps=5, rounds="steps", sync_share=0.2)
    prepared = prepare(settled.run)
    session = train_islands(settled, prepared, device, tmp_path).sessions["a"]
    replica, stream = Replica(session, settled.run.islands), prepared.train(settled.run.run.seed)
    replica.train_on(0.5, 1.0)
    anchor, squares, before = replica.anchor_now(), replica.squares_now(), replica.hash
    for first in (0, 4):
        attempt = conclude(session, compute(session, stream.batch(first, 4)), lr=1e-2, part=0.5)
        assert attempt.fault is None

    away = replica.row_squares()
    replica.go_back()

    assert np.abs(away / np.where(squares > 0, squares, 1) - 1).max() > 0.01
    assert np.array_equal(replica.anchor_now(), anchor)
    assert replica.hash == before
    assert (replica.row_squares() >= squares * (1 - 1e-6)).all()


def on_half_of_a_batch(islands_run, device) -> tuple[Session, Replica, TrainStream]:
    settled = islands_run("a", "b", steps=5, rounds="steps", sync_share=0.2)
    session = session_of(settled, device)
    replica = Replica(session, settled.run.islands)
    replica.train_on(0.5, 1.0)
    replica.anchor_now()
    return session, replica, prepare(settled.run).train(settled.run.run.seed)


def test_rows_first_seen_in_a_round_that_is_lost_do_not_burst_afterwards(islands_run, device):
    session, replica, stream = on_half_of_a_batch(islands_run, device)
    conclude(session, compute(session, stream.batch(0, 4)), lr=1e-3, part=0.5)
    replica.go_back()
    for parameter in replica.parameters:
        parameter.grad = torch.zeros_like(parameter)

    step_on_part(session.optimizer, 0.5, lr=1e-3)

    moved = np.abs(moved_from(replica.anchor_now(), replica.parameters)).max()
    assert 1e-4 < moved < 1e-2


def test_steps_done_ahead_of_a_commit_keep_their_mean_squares(islands_run, device):
    session, replica, stream = on_half_of_a_batch(islands_run, device)
    conclude(session, compute(session, stream.batch(0, 1)), lr=1e-3, part=0.5)
    _, statistics = replica.hand_in(1)
    own = replica.row_squares()
    conclude(session, compute(session, stream.batch(1, 7)), lr=1e-3, part=0.5)
    ahead = replica.row_squares()

    replica.move_to(replica.anchor_now(), statistics, ahead=1)

    # What others add to a row decays in the step ahead; what this island found in it stays as it is.
    added = 0.95 * (statistics[-len(own) :] - own)
    assert (own == 0).any()
    assert replica.row_squares() == pytest.approx(ahead + added, rel=1e-6)


def test_steps_done_ahead_of_a_round_are_as_long_as_its_own(islands_run, device):
    session, replica, stream = on_half_of_a_batch(islands_run, device)
    conclude(session, compute(session, stream.batch(0, 4)), lr=1e-3, part=0.5)
    ahead = moved_from(replica.anchor_now(), replica.parameters)

    replica.train_on(0.1, 0.25)

    assert moved_from(replica.anchor_now(), replica.parameters) == pytest.approx(ahead / 4, rel=1e-6, abs=1e-12)


def test_steps_done_ahead_of_a_commit_keep_what_they_did_to_the_routers(islands_run, device):
    session, replica, stream = on_half_of_a_batch(islands_run, device)
    conclude(session, compute(session, stream.batch(0, 4)), lr=1e-3, part=0.5)
    _, statistics = replica.hand_in(1)
    conclude(session, compute(session, stream.batch(4, 4)), lr=1e-3, part=0.5)
    ahead = routers_to_vector(session)

    replica.move_to(replica.anchor_now(), statistics, ahead=1)

    assert np.abs(ahead - statistics[: len(ahead)]).max() > 1e-4
    assert routers_to_vector(session) == pytest.approx(ahead, abs=1e-6)


def test_steps_done_ahead_of_a_round_follow_the_schedule_from_where_the_round_before_ended(islands_run, device):
    session, replica, stream = on_half_of_a_batch(islands_run, device)
    simulated = SimulatedDevice(1.0)
    steps = LocalSteps(IslandSpec(name="a"), replica, stream, mfu=lambda _: 0.0, simulated=simulated)
    batch, total = 256, session.settled.run.train.tokens
    begin = {"sequences": 4, "part": 0.5, "reach": 1.0, "step": 0, "tokens": total // 2, "batch_tokens": batch}
    steps.start({**begin, "ranges": [[0, 16]]})
    steps.step(4)
    steps.step(4)
    steps.forget()  # they are handed in

    steps.step(4)
    ahead = steps.lines[-1]["lr"]
    steps.start({**begin, "step": 2, "tokens": total // 2 + 2 * batch, "ranges": [[8, 8]]})
    steps.step(4)

    optim, peak_lr = session.settled.run.optim, session.settled.peak_lr
    due = [
        lr_at(total // 2 + n * batch, batch_tokens=batch, optim=optim, peak_lr=peak_lr, total_tokens=total)
        for n in range(4)
    ]
    assert due[2] < due[0]
    assert [ahead, steps.lines[-1]["lr"]] == due[2:]
