"""Train a run from its file to its summary: everything between the command line and the loop."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from everyflop.accounting.parameters import count_parameters
from everyflop.backend.device import Device, detect
from everyflop.backend.memory import peak_rss_gib
from everyflop.base.files import read_lines, write_atomic, write_json
from everyflop.base.progress import progress
from everyflop.checkpoint import list_checkpoints, weights_sha256
from everyflop.data.prepare import prepare
from everyflop.data.prepared import Prepared
from everyflop.infer.generate import generate
from everyflop.spec.run import RunSpec
from everyflop.train.display import Display
from everyflop.train.first_screen import Forecast, first_screen, forecast, meter_of
from everyflop.train.loop import Loop, validate_all
from everyflop.train.plan import Planned, apply_plan, kept_plan, open_plan
from everyflop.train.predicted import compare, plan_facts, plan_line
from everyflop.train.resume import Start, find_start, refuse_changes
from everyflop.train.run_dir import RunDir, claim
from everyflop.train.session import COMPANIONS, Session, build_run_model, build_session, kernel_choices, restore_session
from everyflop.train.summary import write_summary
from everyflop.train.telemetry import Telemetry

SAMPLE_PROMPT_TOKENS, SAMPLE_TOKENS = 32, 160


def train(
    run: RunSpec,
    *,
    resume: bool = False,
    allow_change: bool = False,
    plan: str | Path | None = None,
    stream: TextIO | None = None,
) -> dict[str, Any]:
    """Train a run and return its summary, the content of summary.json. Progress goes to `stream`, by default stderr.

    With `resume` the run goes on from its newest good checkpoint, bit for bit as if it had never stopped. A resume that
    would change what affects the weights raises UsageError unless `allow_change`, which is recorded as an event. With a
    `plan` (plan.json) the run takes its settings and its price; a resumed run keeps the plan that it had. Raises
    Interrupted after SIGINT or SIGTERM, with a checkpoint saved.
    """
    out: TextIO = stream or sys.stderr
    planned = open_plan(plan) if plan else kept_plan(RunDir(run.dir)) if resume else None
    if planned:
        run = apply_plan(run, planned)
    device = planned.device if planned else detect()
    with claim(run, resume=resume) as run_dir:
        telemetry = Telemetry(run_dir)
        start = find_start(run, run_dir, telemetry, device, progress=progress)
        if not allow_change:
            refuse_changes(start.changes)
        torch.set_num_threads(start.settled.threads)
        session, measured = _build(start, device, out, resume=resume, planned=planned)
        prepared = prepare(start.settled.run, progress=progress)
        if start.checkpoint and start.checkpoint.state["data_fingerprint"] != prepared.fingerprint:
            start.changes["data"] = [start.checkpoint.state["data_fingerprint"], prepared.fingerprint]
            if not allow_change:
                refuse_changes(start.changes)
        _open_run_dir(start, session, run_dir, telemetry, prepared)
        if planned:
            write_atomic(run_dir.plan, planned.content)
            telemetry.event("plan", **plan_facts(planned))
        try:
            _loop(session, prepared, run_dir, telemetry, measured, out).run()
            return _finish(session, prepared, run_dir, telemetry, device, measured, planned)
        finally:
            telemetry.close()


def _build(
    start: Start, device: Device, stream: TextIO, *, resume: bool, planned: Planned | None
) -> tuple[Session, Forecast]:
    run = start.settled.run
    model = build_run_model(start.settled, device)
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
    table = Table.grid(padding=(0, 2))
    for label, text in lines:
        table.add_row(f"[bold]{label}", Text(text))  # Text: a path such as data/[a-z]*.txt is no markup
    Console(file=stream, highlight=False).print(table)
    return session, measured


def _open_run_dir(start: Start, session: Session, run_dir: RunDir, telemetry: Telemetry, prepared: Prepared) -> None:
    """Write what describes the run, and cut its metrics back to where it goes on."""
    run_dir.write_run(start.settled.run)
    write_json(run_dir.data_manifest, prepared.manifest)
    write_atomic(run_dir.path / "tokenizer.json", prepared.tokenizer_path.read_bytes())
    given = Path(start.settled.run.data.tokenizer)
    for file in [(given if given.is_dir() else given.parent) / name for name in COMPANIONS if given.exists()]:
        if file.is_file():
            write_atomic(run_dir.path / file.name, file.read_bytes())
    lost = telemetry.rewind(session.progress.step)
    if lost:  # steps that will be done again were paid for all the same
        session.progress.seconds = max(session.progress.seconds, lost[-1].get("seconds", 0.0))
    telemetry.event(
        "start" if start.checkpoint is None else "resume",
        step=session.progress.step,
        lost_steps=len(lost),
        changes=start.changes,
        environment=session.environment,
        kernels=[asdict(choice) for choice in kernel_choices(start.settled)],
        data_fingerprint=prepared.fingerprint,
    )
    telemetry.open_board(session.progress.step)


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


def _finish(
    session: Session,
    prepared: Prepared,
    run_dir: RunDir,
    telemetry: Telemetry,
    device: Device,
    measured: Forecast,
    planned: Planned | None,
) -> dict[str, Any]:
    """Validate on everything held out, write the summary and its pictures."""
    settled, run, done = session.settled, session.settled.run, session.progress
    results = validate_all(session, prepared, progress)
    for name, result in results.items():
        telemetry.event("validation", step=done.step, set=name, loss=result.loss, bits_per_byte=result.bits_per_byte)
    count = count_parameters(settled.model)
    cost = meter_of(settled, measured).cost(done.seconds)
    facts = {
        "name": run.run.name,
        "validation": {name: asdict(result) for name, result in results.items()},
        "steps": done.step,
        "tokens": done.tokens,
        "samples": done.samples,
        "seconds": done.seconds,
        "tokens_per_s": done.tokens / done.seconds,
        "cost": cost,
        "currency": run.money.currency,
        "example_price": run.money.example,
        "parameters": count.total,
        "active_parameters": count.active,
        "device": device.name,
        "precision": settled.precision,
        "peak_rss_gib": peak_rss_gib(),
        "weights_sha256": weights_sha256(dict(session.model.named_parameters())),
        "skipped_batches": len(done.ledger),
        "checkpoint": str(list_checkpoints(run_dir.checkpoints)[-1]),
        "data": str(prepared.folder),
        "sample": _sample(session, prepared),
    }
    if planned is not None:
        facts["plan"] = compare(planned, read_lines(run_dir.metrics), cost=cost)
    return write_summary(run_dir, facts)


def _sample(session: Session, prepared: Prepared) -> dict[str, str]:
    """Continue the beginning of the first validation document."""
    windows = next(iter(prepared.validation.values()))
    prompt = windows.windows([0]).inputs_BT[0, :SAMPLE_PROMPT_TOKENS].tolist()
    room = session.model.spec.max_positions - len(prompt)
    drawn = generate(
        session.model,
        prompt,
        max_tokens=min(SAMPLE_TOKENS, room),
        temperature=0.7,
        top_p=0.9,
        seed=session.settled.run.run.seed,
        stop_id=prepared.eot_id,
    )
    given, text = prepared.tokenizer.decode([prompt, list(drawn)])
    return {"prompt": given, "text": text}
