"""Train a run from its file to its summary: everything between the command line and the loop."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import torch

from everyflop.backend.device import Device, detect
from everyflop.backend.others import others_share, processor_use
from everyflop.base.errors import UsageError
from everyflop.base.files import write_json
from everyflop.base.progress import progress
from everyflop.data.prepare import prepare
from everyflop.data.prepared import Prepared
from everyflop.optim.batch import batch_tokens_at
from everyflop.spec.run import RunSpec
from everyflop.train.display import Display
from everyflop.train.finish import finish
from everyflop.train.first_screen import Forecast, first_screen, forecast, meter_of, show_lines
from everyflop.train.local_islands import train_local
from everyflop.train.loop import Loop
from everyflop.train.plan import Planned, follow, keep_plan
from everyflop.train.planned_devices import devices_here
from everyflop.train.predicted import plan_line
from everyflop.train.resume import Start, find_start, note_data, refuse_changes
from everyflop.train.run_dir import RunDir, claim
from everyflop.train.session import Session, build_run_model, build_session, keep_tokenizer, restore_session
from everyflop.train.telemetry import Telemetry


def train(
    run: RunSpec,
    *,
    resume: bool = False,
    allow_change: bool = False,
    plan: str | Path | None = None,
    replay: str | Path | None = None,
    stream: TextIO | None = None,
) -> dict[str, Any]:
    """Train a run and return its summary, the content of summary.json. Progress goes to `stream`, by default stderr.

    With `resume` the run goes on from its newest good checkpoint, bit for bit as if it had never stopped. A resume that
    would change what affects the weights raises UsageError unless `allow_change`, which is recorded as an event. With a
    `plan` (plan.json) the run takes its settings and its price; a resumed run keeps the plan that it had. Raises
    Interrupted after SIGINT or SIGTERM, with a checkpoint saved. A run with islands trains all of them on this machine;
    with `replay`, the round log of such a run, it does what was done there bit for bit.
    """
    if plan and replay:
        raise UsageError("--replay does what its log says, and --plan what a plan says: leave one of them out.")
    out: TextIO = stream or sys.stderr
    run, planned = follow(run, plan, resume=resume)
    devices = devices_here(planned) if planned else []
    if run.island:
        log = Path(replay) if replay else None
        return train_local(run, resume=resume, allow_change=allow_change, planned=planned, replay=log, stream=out)
    if replay:
        raise UsageError("--replay repeats the rounds of islands, and this run has no [[island]] tables.")
    device = devices[0] if devices else detect()
    with claim(run, resume=resume) as run_dir:
        telemetry = Telemetry(run_dir)
        start = find_start(run, run_dir, telemetry, device, progress=progress)
        if not allow_change:
            refuse_changes(start.changes)
        torch.set_num_threads(start.settled.threads)
        session, measured = _build(start, device, out, resume=resume, planned=planned)
        prepared = prepare(start.settled.run, progress=progress)
        note_data(start, prepared)
        if not allow_change:
            refuse_changes(start.changes)
        _open_run_dir(start, session, run_dir, telemetry, prepared)
        if planned:
            keep_plan(planned, run_dir, telemetry)
        loop = _loop(session, prepared, run_dir, telemetry, measured, out)
        began = processor_use() if device.type == "cpu" else None
        try:
            loop.run()
            return finish(
                session,
                prepared,
                run_dir,
                telemetry,
                device=device,
                cost=session.progress.cost,
                plan=planned and planned.plan,
                others_share=others_share(began, processor_use()),
            )
        finally:
            telemetry.close()


def _build(
    start: Start, device: Device, stream: TextIO, *, resume: bool, planned: Planned | None
) -> tuple[Session, Forecast]:
    run = start.settled.run
    model = build_run_model(start.settled, device, resumed=start.checkpoint is not None)
    measured = forecast(start.settled, model, device)
    session = build_session(start.settled, model, device)
    if start.checkpoint is not None:
        restore_session(session, start.checkpoint)
    lines = first_screen(start.settled, device, measured, run.train.tokens - session.progress.tokens)
    if planned is not None:
        lines.append(("plan", plan_line(planned)))
    if start.checkpoint is not None:
        lines.append(("resumes", f"after step {session.progress.step}, from {start.checkpoint.path}"))
    elif resume:
        lines.append(("resumes", "nothing: there is no usable checkpoint, so the run starts from the beginning"))
    show_lines(lines, stream)
    return session, measured


def _open_run_dir(start: Start, session: Session, run_dir: RunDir, telemetry: Telemetry, prepared: Prepared) -> None:
    """Write what describes the run, and cut its metrics back to where it goes on."""
    run_dir.write_run(start.settled.run)
    write_json(run_dir.data_manifest, prepared.manifest)
    keep_tokenizer(run_dir, start.settled.run.data, prepared)
    progress, lost = session.progress, telemetry.rewind(session.progress.step)
    ended = [json.loads(run_dir.summary.read_bytes())] if run_dir.summary.exists() else []
    for line in (*lost[-1:], *telemetry.starts(), *ended):  # what was paid stays paid
        progress.catch_up(line)
    if progress.tokens + batch_tokens_at(progress.tokens, start.settled.run.train) <= start.settled.run.train.tokens:
        run_dir.summary.unlink(missing_ok=True)  # of a run that was shorter: this one is not finished
    telemetry.event(
        "start" if start.checkpoint is None else "resume",
        step=progress.step,
        lost_steps=len(lost),
        seconds=progress.seconds,
        cost=progress.cost,
        changes=start.changes,
        environment=session.environment,
        kernels=[asdict(choice) for choice in session.kernels],
        data_fingerprint=prepared.fingerprint,
    )
    telemetry.open_board(progress.step)


def _loop(
    session: Session, prepared: Prepared, run_dir: RunDir, telemetry: Telemetry, measured: Forecast, stream: TextIO
) -> Loop:
    run = session.settled.run
    return Loop(
        session=session,
        stream=prepared.train(run.run.seed),
        prepared=prepared,
        run_dir=run_dir,
        telemetry=telemetry,
        meter=meter_of(session.settled, measured),
        display=Display(run.train.tokens, session.progress.tokens, run.money.currency, stream=stream),
    )
