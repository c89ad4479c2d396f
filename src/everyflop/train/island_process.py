"""One island's process: build the model, find where it stands, take part, save."""

import contextlib
import json
import os
import shutil
import ssl
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from everyflop.backend.device import Device, detect
from everyflop.base.errors import DamagedFile, ExpectedNo, Interrupted, UsageError
from everyflop.base.files import append_line, locked, read_lines, write_atomic, write_json
from everyflop.base.progress import progress
from everyflop.checkpoint import Checkpoint, list_checkpoints, open_checkpoint
from everyflop.data.prepare import prepare
from everyflop.islands.admission import NOT_SHARED
from everyflop.islands.endings import refuse_failure
from everyflop.islands.link import Link
from everyflop.islands.member import Member, is_under_way
from everyflop.islands.round_log import newest_speed
from everyflop.model.transformer import CausalLM
from everyflop.spec.islands import IslandSpec
from everyflop.spec.plan_file import read_plan
from everyflop.spec.run import RunSpec
from everyflop.train.bill import bill, total
from everyflop.train.finish import finish
from everyflop.train.first_screen import Forecast, forecast, meter_of
from everyflop.train.island import Island
from everyflop.train.local_steps import LocalSteps
from everyflop.train.plan import Planned
from everyflop.train.replica import Replica
from everyflop.train.resume import Start, find_start, note_data, refuse_changes, settle_as_before
from everyflop.train.run_dir import LOCK_NAME, RunDir
from everyflop.train.session import build_run_model, build_session, keep_tokenizer, restore_session, save_session
from everyflop.train.simulated_device import SimulatedDevice
from everyflop.train.stop import StopRequest
from everyflop.train.telemetry import Telemetry
from everyflop.train.update import StepTooLarge
from everyflop.train.validate import validate

GIVEN_UP = "given-up-"
"""Before the name of a checkpoint that a run has gone back from."""

OWN = (*NOT_SHARED, "environment.", "run.threads")
"""What another island than the one that saved may do otherwise."""


def train_island(
    run: RunSpec,
    name: str,
    coordinator: str,
    secret: bytes,
    *,
    tls: ssl.SSLContext | None = None,
    allow_change: bool = False,
    planned: Planned | None = None,
) -> dict[str, Any] | None:
    """Train as one island of a run until it ends; return the summary on the island that wrote it, None elsewhere.

    `planned` is the plan that the run has taken its settings from, if there is one and nobody has kept it here yet.
    Raises UsageError when the coordinator refuses the island or cannot be reached, and when the checkpoint here is of
    other settings, unless `allow_change`; Interrupted after a signal.
    """
    spec = island_of(run, name)
    device = detect(processor=spec.device == "cpu")
    if spec.device not in ("", device.type):
        raise UsageError(f"the island '{name}' is of device '{spec.device}', and here is '{device.type}'.")
    own = RunDir(run.dir / "islands" / name)
    with locked(own.path / LOCK_NAME, busy=f"the island '{name}' of this run is in use by another process."):
        process = _Process(run, spec, device, own, allow_change=allow_change)
        if planned:
            keep_plan_of_run(planned, process.shared)
        return process.train(coordinator, secret, tls)


def island_of(run: RunSpec, name: str) -> IslandSpec:
    """Return an island of a run by its name. Raises UsageError."""
    found = {island.name: island for island in run.island}
    if name not in found:
        has = f"it has {', '.join(found)}" if found else "it has none: add [[island]] tables, or a --plan of several"
        raise UsageError(f"the run has no island '{name}'; {has}.")
    return found[name]


def keep_plan_of_run(planned: Planned, shared: RunDir) -> None:
    """Keep a plan beside the run. Raises UsageError where the run follows another one here."""
    if shared.plan.exists() and shared.plan.read_bytes() != planned.content:
        raise UsageError(
            f"the run '{shared.path.name}' follows another plan here, {shared.plan}, than {planned.path}. Give it that "
            "one, or start a run under another run.name."
        )
    write_atomic(shared.plan, planned.content)


def threads_of(run: RunSpec, spec: IslandSpec) -> int:
    """Return an island's threads: its own, the run's, or an equal share of the cores."""
    return spec.threads or run.run.threads or max(1, len(os.sched_getaffinity(0)) // len(run.island))


class _Process:
    """What train_island holds together."""

    def __init__(self, run: RunSpec, spec: IslandSpec, device: Device, own: RunDir, *, allow_change: bool):
        threads = threads_of(run, spec)
        self.run = run.model_copy(update={"run": run.run.model_copy(update={"threads": threads})})
        self.spec, self.device, self.own = spec, device, own
        self.worked_s = time.thread_time if device.type == "cpu" else time.monotonic
        """A clock of what this island does: a simulated device is slowed by a multiple of that."""
        self.shared, self.rounds = RunDir(run.dir), own.path / "rounds.jsonl"
        self.telemetry = Telemetry(self.shared)
        self.allow_change = allow_change
        """Whether it goes on from a checkpoint of other settings."""
        self.leads = False
        """Whether this island saves, validates and finishes for all."""
        self.last_step = 0
        self.saved: tuple[dict[str, Any] | None, Path] | None = None
        """The commit that was saved last, and in which folder."""

    def train(self, coordinator: str, secret: bytes, tls: ssl.SSLContext | None) -> dict[str, Any] | None:
        under_way = is_under_way(coordinator, secret, tls=tls)
        start = self._find_start(under_way=under_way)
        settled = self.settled = start.settled
        torch.set_num_threads(settled.threads)
        model = build_run_model(settled, self.device, resumed=start.checkpoint is not None)
        self.measured = self._forecast(model, under_way=under_way)
        self.tokens_per_s = self.measured.tokens_per_s / self.spec.slowdown
        if under_way:  # what was measured before the run began knew nothing of its neighbours
            self.tokens_per_s = newest_speed(self.rounds, self.spec.name) or self.tokens_per_s
        self.session = build_session(settled, model, self.device)
        self.prepared = prepare(settled.run, progress=progress)
        self.replica = Replica(self.session, self.run.islands)
        if under_way and not is_under_way(coordinator, secret, tls=tls):  # those who trained a moment ago have left
            start = self._find_start(under_way=False)
        self._refuse_changes(start)
        if start.checkpoint is not None:
            self._restore(start.checkpoint)
        self._open_dirs()
        member = self._member(coordinator, secret, tls)
        stream, meter = self.prepared.train(settled.run.run.seed), meter_of(settled, self.measured)
        simulated = SimulatedDevice(self.spec.slowdown, self.spec.numerics, worked_s=self.worked_s)
        steps = LocalSteps(self.spec, self.replica, stream, mfu=meter.mfu, simulated=simulated)
        island = Island(
            self.run.islands,
            steps,
            member,
            after_commit=self._after_commit,
            look_again=lambda: self._look_again(under_way=is_under_way(coordinator, secret, tls=tls)),
        )
        with StopRequest() as stop:
            try:
                how, self.leads = self._take_part(island, stop)
                refuse_failure(how)
                if how == "finished":
                    return self._finish() if self.leads else self._save("end of training")
                self._save("the island left" if how == "left" else "stopped")
                if stop.signal is not None:
                    raise Interrupted(stop.signal, f"The island {self.spec.name} left; everything is saved.")
                return None
            finally:
                member.leave()

    def _take_part(self, island: Island, stop: StopRequest) -> tuple[str, bool]:
        try:
            return island.run(stop)
        except (UsageError, StepTooLarge):
            with self.replica.lock:
                self.replica.go_back()  # to what was committed
            self.leads = False  # others may go on without this island, and save where the run's checkpoints are
            self._save("it cannot go on")
            raise

    def _find_start(self, *, under_way: bool) -> Start:
        """Settle the run and find the newest checkpoint of the run or of this island.

        While others train there are none to be read: the leader removes old ones, and a new island gets its state.
        """
        if under_way:
            return settle_as_before(self.run, self.shared, self.device)
        mine = self.own.checkpoints
        return find_start(self.run, self.shared, self.telemetry, self.device, also=mine, progress=progress)

    def _refuse_changes(self, start: Start) -> None:
        """Raise UsageError where the checkpoint here is of another run than this: its own or that of another island."""
        note_data(start, self.prepared)
        changes = {key: change for key, change in start.changes.items() if not key.startswith(OWN)}
        if not self.allow_change:
            refuse_changes(changes)
        if changes:
            self.telemetry.event("changed", changes=changes, island=self.spec.name)

    def _look_again(self, *, under_way: bool) -> None:
        """Take the newest checkpoint after all, where those who were to give this island their state have gone."""
        if under_way or (start := self._find_start(under_way=False)).checkpoint is None:
            return
        self._refuse_changes(start)
        with self.replica.lock:
            self._restore(start.checkpoint)

    def _forecast(self, model: CausalLM, *, under_way: bool) -> Forecast:
        """Measure this island's speed, or take what its last process measured: others wait while it comes back."""
        kept = self.own.path / "forecast.json"
        if under_way and kept.exists():
            return Forecast(**json.loads(kept.read_text()))
        clock = self.worked_s if self.spec.slowdown > 1 else time.perf_counter
        measured = forecast(self.settled, model, self.device, now_s=clock)
        write_json(kept, asdict(measured))
        return measured

    def _restore(self, checkpoint: Checkpoint) -> None:
        restore_session(self.session, checkpoint)
        noted = checkpoint.state.get("island")
        if noted is None:
            raise ExpectedNo(
                f"{checkpoint.path} is of a run without islands. Start a run from its weights with model.init_from."
            )
        self.replica.round, self.replica.record, self.replica.part = noted["round"], noted["record"], noted["part"]
        outer = checkpoint.load([name for name in checkpoint.tensors if name.startswith("outer.")])
        if "outer.momentum" in outer:
            self.replica.outer.buffer = outer["outer.momentum"].numpy()
        self.replica.settle()
        self.replica.anchor_now()
        self.replica.squares = outer["outer.squares"].numpy()
        self.saved, self.last_step = (self.replica.record, checkpoint.path.parent), checkpoint.step

    def _open_dirs(self) -> None:
        """Write what describes the run where checkpoints are saved."""
        for run_dir in (self.shared, self.own):
            run_dir.path.mkdir(parents=True, exist_ok=True)
            keep_tokenizer(run_dir, self.settled.run.data, self.prepared)
        self.shared.write_run(self.settled.run)
        write_json(self.shared.data_manifest, self.prepared.manifest)

    def _member(self, coordinator: str, secret: bytes, tls: ssl.SSLContext | None) -> Member:
        run, spec = self.settled.run, self.spec
        facts = {
            "model": self.settled.model.model_dump(mode="json"),
            "train": run.train.model_dump(mode="json"),
            "optim": run.optim.model_dump(mode="json"),
            "router": run.router.model_dump(mode="json"),
            "islands": run.islands.model_dump(mode="json"),
            "seed": run.run.seed,
            "data": self.prepared.fingerprint,
        }
        return Member(
            spec.name,
            coordinator,
            secret,
            facts=facts,
            tokens_per_s=self.tokens_per_s,
            heartbeat_s=run.islands.heartbeat_s,
            give_state=self.replica.give,
            link=Link(spec.link_gbit_per_s, spec.link_latency_ms) if spec.thin_link else None,
            tls=tls,
        )

    def _after_commit(self, record: dict[str, Any], leads: bool) -> None:
        """Keep the commit; validate and save when it is time."""
        self.leads = leads
        append_line(self.rounds, record)
        before, self.last_step = self.last_step, record["step"]
        train, every = self.settled.run.train, self.settled.run.checkpoint.every_steps
        if leads and _crossed(before, record["step"], train.validate_every_steps):
            self._validate(train.validate_windows, record["step"])
        if _crossed(before, record["step"], every):
            self._save("due")

    def _validate(self, limit: int, step: int) -> None:
        for name, windows in self.prepared.validation.items():
            with self.replica.at_anchor():
                result = validate(self.session.model, windows, self.device.torch, limit=limit)
            facts = {"set": name, "loss": result.loss, "bits_per_byte": result.bits_per_byte}
            self.telemetry.event("validation", step=step, windows=min(limit, len(windows)), **facts)

    def _save(self, why: str) -> None:
        step = self.session.progress.step
        run_dir = self.shared if self.leads else self.own
        if self.replica.record is None or self.saved == (self.replica.record, run_dir.checkpoints):
            return
        for folder in {self.own.checkpoints, run_dir.checkpoints}:
            put_other_pasts_aside(folder, step, self.replica.record)
        replica, buffer = self.replica, self.replica.outer.buffer
        noted = {"name": self.spec.name, "round": replica.round, "record": replica.record, "part": replica.part}
        outer = {"squares": torch.from_numpy(replica.squares_now())}
        if buffer is not None:
            outer["momentum"] = torch.from_numpy(buffer)
        with self.replica.at_anchor():
            path = save_session(self.session, run_dir, self.prepared, island=noted, outer=outer)
        self.telemetry.event("save", step=step, path=str(path), why=why, island=self.spec.name)
        self.saved = self.replica.record, run_dir.checkpoints

    def _finish(self) -> dict[str, Any]:
        self._save("end of training")
        record = self.replica.record
        assert record is not None
        bills = bill(record, self.run)
        simulated = [island.name for island in self.run.island if island.simulated]
        islands = {name: {**record["accounts"].get(name, {}), "cost": amount} for name, amount in bills.items()}
        rejected = sum(account["rejected"] for account in record["accounts"].values())  # the round log has which
        return finish(
            self.session,
            self.prepared,
            self.shared,
            self.telemetry,
            device=self.device,
            cost=total(bills),
            costs=bills,
            speeds=self._speeds(),
            plan=read_plan(self.shared.plan) if self.shared.plan.exists() else None,
            more={
                "islands": islands,
                "rounds": record["round"] + 1,
                "simulated": simulated,
                "skipped_batches": rejected,
            },
        )

    def _speeds(self) -> list[dict[str, Any]]:
        """Return each island's tokens/s in each round: steps' own are kept beside the coordinator."""
        members = [pair for record in read_lines(self.rounds) for pair in record["members"].items()]
        return [{"island": name, "tokens_per_s": m["tokens"] / m["train_s"]} for name, m in members if m["train_s"]]


def put_other_pasts_aside(folder: Path, step: int, record: dict[str, Any]) -> None:
    """Rename checkpoints that a run has gone back from: of this step or later ones, and of another commit than this.

    No resume finds them under the new name, and the newest of them is kept for people.
    """
    for path in list_checkpoints(folder):
        with contextlib.suppress(DamagedFile, UsageError):
            found = open_checkpoint(path, verify=False)
            if found.step >= step and found.state.get("island", {}).get("record") != record:
                for older in folder.glob(f"{GIVEN_UP}*"):
                    shutil.rmtree(older)
                path.rename(path.with_name(f"{GIVEN_UP}{path.name}"))


def _crossed(before: int, after: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, after]."""
    return every > 0 and before // every != after // every
