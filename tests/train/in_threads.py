"""Islands as threads of one process, with real sockets between them."""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from everyflop.data.prepared import Prepared
from everyflop.islands.codec import Payload
from everyflop.islands.coordinator import Coordinator
from everyflop.islands.course import Course
from everyflop.islands.member import Member
from everyflop.islands.round_log import RoundLog
from everyflop.islands.wire import Header
from everyflop.model.build import build_model
from everyflop.optim.schedules import lr_at
from everyflop.spec.islands import IslandSpec
from everyflop.train.island import Island
from everyflop.train.local_steps import LocalSteps
from everyflop.train.replica import Replica
from everyflop.train.session import Session, build_session
from everyflop.train.settings import Settled
from everyflop.train.simulated_device import SimulatedDevice
from everyflop.train.state import RouterLogits
from everyflop.train.stop import StopRequest
from everyflop.train.update import attempt_step

Spoil = Callable[[str, Header, Payload], tuple[Header, Payload]]
Touch = Callable[[str, Island], None]

SECRET = b"a secret of tests"


class Listener:
    def __init__(self):
        self.events: list[dict] = []
        self.records: list[dict] = []

    def event(self, kind, **facts):
        self.events.append({"event": kind, **facts})

    def committed(self, record, steps):
        self.records.append(record)

    def rewound(self, number):
        pass


@dataclass
class Outcome:
    sessions: dict[str, Session]
    records: list[dict]
    events: list[dict]
    ended: dict[str, str]


def session_of(settled: Settled, device, dtype=torch.float64) -> Session:
    model = build_model(settled.model, seed=settled.run.run.seed, device=device.torch, compute_dtype=dtype).to(dtype)
    session = build_session(settled, model, device)
    session.logits = RouterLogits(session.logits.mean_L.to(dtype), session.logits.square_L.to(dtype))
    return session


class BadMember(Member):
    """One whose updates go through `spoil` on their way out."""

    spoil: Spoil

    def hand_in(self, header: Header, payload: Payload) -> Any:
        return super().hand_in(*self.spoil(self.island, header, payload))


def train_islands(
    settled: Settled,
    prepared: Prepared,
    device,
    folder,
    *,
    dtype=torch.float64,
    spoil: Spoil | None = None,
    touch: Touch = lambda name, island: None,
) -> Outcome:
    """Train a run's islands; `touch` may change each before it begins."""
    folder.mkdir(exist_ok=True)
    run, listener = settled.run, Listener()
    coordinator = Coordinator(Course(run.island, run.islands, RoundLog(folder / "rounds.jsonl"), listener))
    sessions = {spec.name: session_of(settled, device, dtype) for spec in run.island}
    ended: dict[str, str] = {}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"

        def island(spec: IslandSpec) -> None:
            replica = Replica(sessions[spec.name], run.islands)
            facts = {table: getattr(run, table).model_dump(mode="json") for table in ("train", "optim", "islands")}
            member = (BadMember if spoil else Member)(
                spec.name,
                address,
                SECRET,
                facts=facts,
                tokens_per_s=1000.0 / spec.slowdown,
                heartbeat_s=run.islands.heartbeat_s,
                give_state=replica.give,
            )
            member.spoil = spoil
            simulated = SimulatedDevice(spec.slowdown, spec.numerics, sleep=lambda seconds: None)
            stream = prepared.train(run.run.seed)
            steps = LocalSteps(spec, replica, stream, mfu=lambda tokens_per_s: 0.0, simulated=simulated)
            part = Island(run.islands, steps, member, after_commit=lambda record, leads: None)
            touch(spec.name, part)
            ended[spec.name] = part.run(StopRequest())[0]
            member.leave()

        threads = [threading.Thread(target=island, args=(spec,), daemon=True) for spec in run.island]
        for thread in threads:
            thread.start()
        coordinator.serve(listening, SECRET)
        for thread in threads:
            thread.join(timeout=30)
    return Outcome(sessions, listener.records, listener.events, ended)


def train_alone(settled: Settled, prepared: Prepared, device, *, steps: int) -> Session:
    session, stream, run = session_of(settled, device), prepared.train(settled.run.run.seed), settled.run
    batch = settled.batch_tokens
    for step in range(steps):
        n = batch // run.train.seq_len
        lr = lr_at(
            step * batch, batch_tokens=batch, optim=run.optim, peak_lr=settled.peak_lr, total_tokens=run.train.tokens
        )
        attempt_step(session, stream.batch(step * n, n), lr=lr)
        session.progress.step += 1
    return session


def farthest(one: Session, other: Session) -> float:
    """Return the largest difference of a parameter, relative to the largest value of its tensor."""
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    return max(((a - b).abs().max() / b.abs().max().clamp(min=1e-6)).item() for a, b in pairs)
