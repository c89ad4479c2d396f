"""Run what a plan says: hold the run against it, and take its settings. Needs no torch: coordinators do so too."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everyflop.base.errors import ExpectedNo, UsageError
from everyflop.base.files import write_atomic
from everyflop.spec.islands import IslandSpec
from everyflop.spec.model import SHAPELESS, ModelSpec
from everyflop.spec.plan import Plan, PlannedIsland
from everyflop.spec.plan_file import read_plan
from everyflop.spec.run import RunSpec
from everyflop.train.predicted import plan_facts
from everyflop.train.run_dir import RunDir
from everyflop.train.telemetry import Telemetry

SET_BY_PLAN = (
    *("train.micro_batch", "train.recompute", "money."),
    *("islands.steps", "islands.sync_share", "islands.round_s", "islands.compress"),
)
"""Keys of a run file that a plan decides, whatever the file says."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan that this process can run."""

    path: Path
    content: bytes
    """Of the file, to be kept beside the run."""
    plan: Plan


def follow(
    run: RunSpec, path: str | Path | None, *, resume: bool = False, files: bool = True
) -> tuple[RunSpec, Planned | None]:
    """Return a run with what a plan sets, and that plan; without a path that of the run that is resumed, if it has one.

    With `files` false the model that a run starts from is not looked at, which may be on other machines alone. Raises
    UsageError or InvalidFile for a file that is no plan or one for another run, ExpectedNo for what cannot be run yet.
    """
    kept = RunDir(run.dir).plan
    if path is None and not (resume and kept.exists()):
        return run, None
    planned = open_plan(path or kept)
    return apply_plan(run, planned, files=files), planned


def open_plan(path: str | Path) -> Planned:
    """Read a plan. Raises UsageError or InvalidFile for a file that is none, ExpectedNo for what cannot be run yet."""
    plan = read_plan(path)
    _refuse_what_is_not_built(plan)
    return Planned(Path(path), Path(path).read_bytes(), plan)


def keep_plan(planned: Planned, run_dir: RunDir, telemetry: Telemetry) -> None:
    """Keep a plan beside the run that follows it, and note what it predicts."""
    write_atomic(run_dir.plan, planned.content)
    telemetry.event("plan", **plan_facts(planned.plan))


def _refuse_what_is_not_built(plan: Plan) -> None:
    wanted = [f"{island.devices} x {island.device}" for island in plan.islands]
    if any(island.devices != 1 for island in plan.islands):
        raise ExpectedNo(
            f"the plan needs {' and '.join(wanted)}, and an island of more than one device is not built yet. "
            "Make a plan with one device for each island: a fleet whose pools have count = 1."
        )
    if plan.workload.precision == "fp8":
        raise ExpectedNo("the plan computes in fp8, which training cannot yet. Make a plan with --precision bf16.")


def refuse_overrides(run: RunSpec, overrides: Iterable[str], *, plan: Path | None, resume: bool) -> None:
    """Raise UsageError where the command line sets what a plan decides, or the one that a resumed run follows."""
    if plan is None and not (resume and RunDir(run.dir).plan.exists()):
        return
    keys = [override.partition("=")[0].strip() for override in overrides]
    if clash := [key for key in keys if key.startswith(SET_BY_PLAN)]:
        raise UsageError(
            f"{', '.join(clash)} cannot be set beside the plan that the run follows, which decides it. Leave it "
            "out, or start a run without --plan."
        )


def apply_plan(run: RunSpec, planned: Planned, *, files: bool = True) -> RunSpec:
    """Return the run with the plan's tokens, batch, micro-batch, recompute, prices, islands and their exchanges.

    Raises UsageError with every value that differs from the plan's.
    """
    plan = planned.plan
    model = run.model or (_model_to_start_from(run) if files else None)
    if different := [*_differences(run, model, plan), *_other_islands(run, plan)]:
        raise UsageError(
            f"the plan {planned.path} is not for the run '{run.run.name}':\n"
            + "\n".join(f"  - {line}" for line in different)
            + "\nMake the plan again for this run, or give the run the plan's values."
        )
    train = {
        "tokens": plan.trained_tokens,
        "batch_tokens": plan.workload.batch_tokens,
        "micro_batch": _micro_batch(plan),
        "recompute": max((_RECOMPUTE[island.layout.recompute] for island in plan.islands), key=_LEAST_MEMORY.index),
    }
    price = {
        "currency": plan.currency,
        "price_per_device_hour": plan.islands[0].price_per_device_hour,
        "example": any(island.example_price for island in plan.islands),
    }
    update: dict[str, Any] = {
        "train": run.train.model_copy(update=train),
        "money": run.money.model_copy(update=price),
    }
    if run.island or len(plan.islands) > 1:
        exchange = {
            "steps": plan.exchange.steps_between,
            "sync_share": plan.exchange.sync_share,
            "round_s": None,
            "compress": plan.compress,
        }
        update["islands"] = run.islands.model_copy(update=exchange)
        update["island"] = tuple(_island(run, island) for island in plan.islands)
    changed = run.model_copy(update=update)
    if misfits := changed.all_misfits():
        listed = "; ".join(f"{key} {what}" for key, what in misfits)
        raise UsageError(f"with the settings of the plan {planned.path}, {listed}.")
    return changed


def _model_to_start_from(run: RunSpec) -> ModelSpec:
    from everyflop.infer.load import read_spec

    return read_spec(Path(run.init_from or ""))


def _island(run: RunSpec, planned: PlannedIsland) -> IslandSpec:
    """Return a planned island; the run's table of that name adds what no plan says, such as what it simulates."""
    tables = {table.name: table for table in run.island}
    table = tables.get(planned.name, IslandSpec(name=planned.name))
    facts = {
        "devices": planned.devices,
        "device": planned.torch_device or table.device,
        "price_per_device_hour": planned.price_per_device_hour,
    }
    return table.model_copy(update=facts)


def _micro_batch(plan: Plan) -> int:
    """Return one micro-batch for all islands: the smallest of those that are not an island's whole part of a batch.

    A run's micro-batch divides its batch, which that of an island's part need not: 8 of 12 sequences, where the other
    island trains 4.
    """
    kept_small = [island.micro_batch for island in plan.islands if island.micro_batch < island.batch_seqs]
    chosen = min(kept_small, default=max(island.micro_batch for island in plan.islands))
    return math.gcd(chosen, plan.workload.batch_tokens // plan.workload.seq_len)


_RECOMPUTE = {"none": "none", "selective": "none", "full": "layer"}
"""Attention keeps nothing of its inner part here, so what "selective" saves is saved always."""

_LEAST_MEMORY = ("none", "layer")
"""Policies, the one that needs the least memory last."""


def _differences(run: RunSpec, model: ModelSpec | None, plan: Plan) -> list[str]:
    workload, train = plan.workload, run.train
    applied = train.tokens == plan.trained_tokens  # as in the run.toml of a run that followed the plan
    of_model = _different_keys(model, workload.model) if model else {}
    pairs = {
        **{f"model.{key}": value for key, value in of_model.items()},
        "train.tokens": (train.tokens, train.tokens if applied else workload.tokens),
        "train.seq_len": (train.seq_len, workload.seq_len),
        "train.batch_tokens": (train.batch_tokens or workload.batch_tokens, workload.batch_tokens),
    }
    return [
        f"{key}: {_text(here)} in the run, {_text(there)} in the plan"
        for key, (here, there) in pairs.items()
        if here != there
    ]


def _other_islands(run: RunSpec, plan: Plan) -> list[str]:
    """Return what the run's tables of islands have otherwise; a run without any takes the plan's islands."""
    tables, names = {table.name: table for table in run.island}, [island.name for island in plan.islands]
    if tables and not tables.keys() >= {*names}:
        both = f"{' and '.join(tables)} in the run, {' and '.join(names)} in the plan"
        return [f"[[island]] tables: {both}; the plan's need one each, or leave all out"]
    return [
        f"island.{island.name}.device: {tables[island.name].device} in the run, {island.torch_device} in the plan"
        for island in plan.islands
        if tables and island.torch_device and tables[island.name].device not in ("", island.torch_device)
    ]


def _different_keys(here: ModelSpec, there: ModelSpec) -> dict[str, tuple[Any, Any]]:
    mine, planned = here.model_dump(exclude=SHAPELESS), there.model_dump(exclude=SHAPELESS)
    return {key: (mine[key], planned[key]) for key in mine if mine[key] != planned[key]}


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
