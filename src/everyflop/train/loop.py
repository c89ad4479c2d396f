"""The training loop. The order of a step is the order of the lines.

next batch > forward and backward > judge > apply (these three are update.py), or put on the ledger > record, charge
> (due?) validate, save
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from everyflop.base.errors import Interrupted
from everyflop.base.progress import OpenProgress
from everyflop.data.prepared import Prepared
from everyflop.data.stream import TrainStream
from everyflop.model.moe.balance import relative_load
from everyflop.optim.batch import batch_tokens_at
from everyflop.optim.schedules import lr_at
from everyflop.train.display import Display
from everyflop.train.judge import refuse_divergence
from everyflop.train.meter import Meter
from everyflop.train.run_dir import RunDir
from everyflop.train.session import Session, save_session
from everyflop.train.step import StepSums
from everyflop.train.stop import StopRequest
from everyflop.train.telemetry import Telemetry
from everyflop.train.update import StepTooLarge, attempt_step
from everyflop.train.validate import Validation, validate


@dataclass(slots=True)
class Loop:
    """One run's session with everything that watches it."""

    session: Session
    stream: TrainStream
    prepared: Prepared
    run_dir: RunDir
    telemetry: Telemetry
    meter: Meter
    display: Display
    now_s: Callable[[], float] = time.monotonic
    expert_load: list[list[float]] = field(default_factory=list)
    """Of the last step: for each router, each expert's tokens over the mean."""
    saved_step: int | None = None
    charged_s: float = 0.0
    """Until when time is charged."""

    def run(self) -> None:
        """Train until the run's tokens are used up. Raises Interrupted after saving, when a signal asked for it."""
        run, progress = self.session.settled.run, self.session.progress
        train = run.train
        self.charged_s = self.now_s()
        with StopRequest() as stop, self.display:
            while stop.signal is None and (batch_tokens := self._next_batch_tokens()):
                began_s = self.now_s()
                record = self._step_or_save(batch_tokens)
                self._charge()
                self._record(record, batch_tokens, step_s=self.now_s() - began_s)
                refuse_divergence(progress)
                if _due(progress.step, train.validate_every_steps):
                    self._validate_some()
                if _due(progress.step, run.checkpoint.every_steps):
                    self._save("due")
            self._charge()
            self._save("end of training" if stop.signal is None else "stopped by a signal")
        if stop.signal is not None:
            raise Interrupted(stop.signal, f"Stopped after step {progress.step}; everything is saved.")

    def _charge(self) -> None:
        now_s = self.now_s()
        self.session.progress.charge(now_s - self.charged_s, self.meter.money.price_per_device_hour)
        self.charged_s = now_s

    def _next_batch_tokens(self) -> int:
        """Return the tokens of the next step; 0 when the run's tokens are used up."""
        train, done = self.session.settled.run.train, self.session.progress.tokens
        batch_tokens = batch_tokens_at(done, train)
        return batch_tokens if done + batch_tokens <= train.tokens else 0

    def _step_or_save(self, batch_tokens: int) -> dict[str, float]:
        """Do a step; where its gradients need too much memory, save what was done before."""
        try:
            return self._step(batch_tokens)
        except StepTooLarge:
            if self.session.progress.step:
                self._save("out of memory")
            raise

    def _step(self, batch_tokens: int) -> dict[str, float]:
        """Do one optimizer step, or skip it; return its metrics."""
        session, progress = self.session, self.session.progress
        settled, run = session.settled, session.settled.run
        n_samples = batch_tokens // run.train.seq_len
        lr = lr_at(
            progress.tokens,
            batch_tokens=batch_tokens,
            optim=run.optim,
            peak_lr=settled.peak_lr,
            total_tokens=run.train.tokens,
        )
        attempt = attempt_step(session, self.stream.batch(progress.samples, n_samples), lr=lr)
        if attempt.fault is None:
            progress.skipped_in_a_row = 0
        else:
            self._skip(n_samples, attempt.fault)
        sums = attempt.sums
        self.expert_load = [relative_load(stats.counts_E).tolist() for stats in sums.routers]
        progress.step += 1
        progress.tokens += batch_tokens
        progress.samples += n_samples
        return {"loss": attempt.loss, "grad_norm": attempt.grad_norm, "lr": lr, **_router_metrics(sums)}

    def _skip(self, n_samples: int, cause: str) -> None:
        progress = self.session.progress
        entry = {"step": progress.step + 1, "first_sample": progress.samples, "samples": n_samples, "cause": cause}
        progress.ledger.append(entry)
        progress.skipped_in_a_row += 1
        self.telemetry.event("skip", **entry)

    def _record(self, record: dict[str, float], batch_tokens: int, *, step_s: float) -> None:
        progress = self.session.progress
        tokens_per_s = batch_tokens / step_s
        line = {
            "step": progress.step,
            "tokens": progress.tokens,
            **record,
            "tokens_per_s": tokens_per_s,
            "step_s": step_s,
            "mfu": self.meter.mfu(tokens_per_s),
            "seconds": progress.seconds,
            "cost": progress.cost,
            "island": "main",
        }
        self.telemetry.step(line)
        self.display.step(line)

    def _validate_some(self) -> None:
        limit = self.session.settled.run.train.validate_windows
        for name, windows in self.prepared.validation.items():
            result = validate(self.session.model, windows, self.session.step.device, limit=limit)
            facts = {"set": name, "loss": result.loss, "bits_per_byte": result.bits_per_byte}
            self.telemetry.event(
                "validation", step=self.session.progress.step, windows=min(limit, len(windows)), **facts
            )
            self.display.note(f"validation {name}: loss {result.loss:.3f}, {result.bits_per_byte:.3f} bits per byte")

    def _save(self, why: str) -> None:
        if self.saved_step == self.session.progress.step:
            return
        self.telemetry.sync()
        path = save_session(self.session, self.run_dir, self.prepared)
        step, load = self.session.progress.step, [[round(share, 3) for share in router] for router in self.expert_load]
        self.telemetry.event("save", step=step, path=str(path), why=why, expert_load=load)
        self.saved_step = step


def validate_all(session: Session, prepared: Prepared, open_progress: OpenProgress) -> dict[str, Validation]:
    """Measure the model on every window of every validation set."""
    results = {}
    for name, windows in prepared.validation.items():
        with open_progress(f"Validating on {name}", total=len(windows), unit="windows") as bar:
            results[name] = validate(session.model, windows, session.step.device, advance=bar.advance)
    return results


def _router_metrics(sums: StepSums) -> dict[str, float]:
    """Return the mean over routers of balance loss, z-loss and worst overload, and the MTP loss if there is any."""
    if not sums.routers:
        return {}
    n = len(sums.routers) * sums.positions
    metrics = {
        "balance_loss": sum(stats.balance.item() for stats in sums.routers) / n,
        "router_z": sum(stats.z.item() for stats in sums.routers) / n,
        "max_violation": max(relative_load(stats.counts_E).max().item() - 1 for stats in sums.routers),
    }
    return metrics | ({"mtp_loss": (sums.mtp_ce / sums.mtp_tokens).item()} if sums.mtp_tokens else {})


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
