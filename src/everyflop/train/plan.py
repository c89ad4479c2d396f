"""Run what a plan says: find its device here, hold the run against it, take its settings."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everyflop.backend.device import Device, detect
from everyflop.base.errors import ExpectedNo, UsageError
from everyflop.infer.load import read_spec
from everyflop.spec.model import ModelSpec
from everyflop.spec.plan import Plan, PlannedIsland
from everyflop.spec.plan_file import read_plan
from everyflop.spec.run import RunSpec
from everyflop.train.run_dir import RunDir
from everyflop.train.session import SHAPELESS

SET_BY_PLAN = ("train.micro_batch", "train.recompute", "money.")
"""Keys of a run file that a plan decides, whatever the file says."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan that this process can run."""

    path: Path
    content: bytes
    """Of the file, to be kept beside the run."""
    plan: Plan
    device: Device

    @property
    def island(self) -> PlannedIsland:
        """Where all of the run happens."""
        return self.plan.islands[0]


def open_plan(path: str | Path) -> Planned:
    """Read a plan and find its device here.

    Raises UsageError or InvalidFile for a file that is none, ExpectedNo for a plan that cannot be run yet or here.
    """
    plan = read_plan(path)
    _refuse_what_is_not_built(plan)
    island = plan.islands[0]
    device = detect(processor=island.torch_device == "cpu")
    if island.torch_device not in ("", device.type):
        raise ExpectedNo(
            f"the plan {path} needs {island.device}, which is torch device '{island.torch_device}', and here is "
            f"'{device.type}' ({device.name}). Run it there, or make a plan for this device."
        )
    return Planned(Path(path), Path(path).read_bytes(), plan, device)


def kept_plan(run_dir: RunDir) -> Planned | None:
    """Return the plan that an earlier process of a run followed, if there was one."""
    return open_plan(run_dir.plan) if run_dir.plan.exists() else None


def _refuse_what_is_not_built(plan: Plan) -> None:
    wanted = [f"{island.devices} x {island.device}" for island in plan.islands]
    if sum(island.devices for island in plan.islands) != 1:
        raise ExpectedNo(
            f"the plan needs {' and '.join(wanted)}, and training on more than one device is not built yet. "
            "Make a plan for one device: a fleet with one pool of count = 1."
        )
    if plan.workload.precision == "fp8":
        raise ExpectedNo("the plan computes in fp8, which training cannot yet. Make a plan with --precision bf16.")


def refuse_overrides(overrides: Iterable[str]) -> None:
    """Raise UsageError where the command line sets what a plan decides."""
    keys = [override.partition("=")[0].strip() for override in overrides]
    if clash := [key for key in keys if key.startswith(SET_BY_PLAN)]:
        raise UsageError(
            f"{', '.join(clash)} cannot be set beside --plan, which decides it. Leave it out, or train without --plan."
        )


def apply_plan(run: RunSpec, planned: Planned) -> RunSpec:
    """Return the run with the plan's batch, micro-batch, recompute and price.

    Raises UsageError with every value that differs from the plan's.
    """
    plan, island = planned.plan, planned.island
    model = run.model or read_spec(Path(run.init_from or ""))
    if different := _differences(run, model, plan):
        raise UsageError(
            f"the plan {planned.path} is not for the run '{run.run.name}':\n"
            + "\n".join(f"  - {line}" for line in different)
            + "\nMake the plan again for this run, or give the run the plan's values."
        )
    train = {
        "batch_tokens": plan.workload.batch_tokens,
        "micro_batch": island.micro_batch,
        "recompute": _RECOMPUTE[island.layout.recompute],
    }
    price = {
        "currency": plan.currency,
        "price_per_device_hour": island.price_per_device_hour,
        "example": island.example_price,
    }
    changed = run.model_copy(
        update={"train": run.train.model_copy(update=train), "money": run.money.model_copy(update=price)}
    )
    if misfits := changed.all_misfits():
        listed = "; ".join(f"{key} {what}" for key, what in misfits)
        raise UsageError(f"with the settings of the plan {planned.path}, {listed}.")
    return changed


_RECOMPUTE = {"none": "none", "selective": "none", "full": "layer"}
"""Attention keeps nothing of its inner part here, so what "selective" saves is saved always."""


def _differences(run: RunSpec, model: ModelSpec, plan: Plan) -> list[str]:
    workload, train = plan.workload, run.train
    pairs = {
        **{f"model.{key}": value for key, value in _different_keys(model, workload.model).items()},
        "train.tokens": (train.tokens, workload.tokens),
        "train.seq_len": (train.seq_len, workload.seq_len),
        "train.batch_tokens": (train.batch_tokens or workload.batch_tokens, workload.batch_tokens),
    }
    return [
        f"{key}: {_text(here)} in the run, {_text(there)} in the plan"
        for key, (here, there) in pairs.items()
        if here != there
    ]


def _different_keys(here: ModelSpec, there: ModelSpec) -> dict[str, tuple[Any, Any]]:
    mine, planned = here.model_dump(exclude=SHAPELESS), there.model_dump(exclude=SHAPELESS)
    return {key: (mine[key], planned[key]) for key in mine if mine[key] != planned[key]}


def _text(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
