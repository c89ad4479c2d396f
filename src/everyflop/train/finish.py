"""What a run leaves when all its tokens are trained: validation, summary, pictures, a sample of text."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from everyflop.accounting.parameters import count_parameters
from everyflop.backend.device import Device
from everyflop.backend.memory import peak_rss_gib
from everyflop.base.errors import ExpectedNo
from everyflop.base.files import read_lines
from everyflop.base.progress import progress
from everyflop.checkpoint import list_checkpoints, weights_sha256
from everyflop.data.prepared import Prepared
from everyflop.infer.generate import generate
from everyflop.spec.plan import Plan
from everyflop.train.loop import validate_all
from everyflop.train.predicted import compare
from everyflop.train.run_dir import RunDir
from everyflop.train.session import Session
from everyflop.train.summary import write_summary
from everyflop.train.telemetry import Telemetry
from everyflop.train.validate import Validation

SAMPLE_PROMPT_TOKENS, SAMPLE_TOKENS = 32, 160


def finish(
    session: Session,
    prepared: Prepared,
    run_dir: RunDir,
    telemetry: Telemetry,
    *,
    device: Device,
    cost: float | None,
    costs: Mapping[str, float | None] | None = None,
    plan: Plan | None = None,
    others_share: float | None = None,
    speeds: Sequence[Mapping[str, Any]] = (),
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Validate a trained model on everything held out, write the run's summary and its pictures, return the summary.

    `costs` are those of islands, others_share is what other processes used of the processor meanwhile, `speeds` are
    lines with an island and its tokens_per_s for where no metrics are kept, and `more` are facts to add.
    """
    settled, run, done = session.settled, session.settled.run, session.progress
    results = validate_all(session, prepared, progress)
    _refuse_nan(results)
    for name, result in results.items():
        telemetry.event("validation", step=done.step, set=name, loss=result.loss, bits_per_byte=result.bits_per_byte)
    count = count_parameters(settled.model)
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
        **(more or {}),
    }
    if plan is not None:
        simulated = [island.name for island in run.island if island.simulated]
        done_so_far = {"tokens": done.tokens, "seconds": done.seconds, "cost": cost, "costs": costs or {}}
        facts["plan"] = compare(
            plan, read_lines(run_dir.metrics) or speeds, **done_so_far, others_share=others_share, simulated=simulated
        )
    return write_summary(run_dir, facts)


def _refuse_nan(results: Mapping[str, Validation]) -> None:
    if bad := sorted(name for name, result in results.items() if not math.isfinite(result.loss)):
        raise ExpectedNo(
            f"the loss on {', '.join(bad)} is not finite at the end of training: the weights have diverged. Train "
            "again with a lower optim.lr or optim.clip; `everyflop checkpoint list` shows the checkpoints before."
        )


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
        stop_ids={prepared.eot_id},
    )
    given, text = prepared.tokenizer.decode([prompt, list(drawn)])
    return {"prompt": given, "text": text}
