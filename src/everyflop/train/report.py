"""Add up what a run did, island by island: tokens, time, money, bytes, and what the guards decided.

report_files.py reads, report_clock.py says when, report_curves.py has the lines of the pictures. What was measured
on an island that stands in for another device is simulated, and marked so.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from everyflop.accounting.parameters import count_parameters
from everyflop.islands.roster import Account
from everyflop.spec.islands import IslandSpec
from everyflop.spec.run import RunSpec
from everyflop.train.bill import bill, price_of, total
from everyflop.train.predicted import compare
from everyflop.train.report_clock import ALONE, Commit, Lane, commits_of, lanes_of
from everyflop.train.report_curves import Steps, place_steps, whole_speed
from everyflop.train.report_files import ACCOUNT, Line, RunFiles

FP32_BYTES = 4


@dataclass(frozen=True, slots=True)
class IslandSums:
    """What one island did and cost."""

    name: str
    simulated: bool
    devices: int
    price_per_device_hour: float | None
    account: Account = field(default_factory=Account)
    cost: float | None = None

    @property
    def waiting_share(self) -> float | None:
        """Share of the time held in which it did not train."""
        return max(0.0, 1 - self.account.train_s / self.account.held_s) if self.account.held_s else None


@dataclass(frozen=True, slots=True)
class Decision:
    """What a guard decided about an update or a step."""

    where: str
    island: str
    verdict: str
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report shows."""

    files: RunFiles
    islands: list[IslandSums]
    commits: list[Commit]
    lanes: list[Lane]
    steps: dict[str, Steps]
    speed: tuple[list[float], list[float]]
    """Of all islands together, what they wait for included: seconds, tokens/s."""
    decisions: list[Decision]
    plan: dict[str, Any] | None

    @property
    def run(self) -> RunSpec:
        """The run, settled."""
        return self.files.run

    @property
    def cost(self) -> float | None:
        """What the run has cost; None without a price."""
        return total({island.name: island.cost for island in self.islands})

    @property
    def seconds(self) -> float:
        """Time in which the run had a device: with islands, at least one of them."""
        return self.commits[-1].busy_s if self.commits else max((i.account.held_s for i in self.islands), default=0.0)

    @property
    def simulated(self) -> list[str]:
        """Islands that stand in for other devices."""
        return [island.name for island in self.islands if island.simulated]

    @property
    def waiting_share(self) -> float | None:
        """Share of all devices' time in which they did not train."""
        held_s = sum(island.devices * island.account.held_s for island in self.islands)
        train_s = sum(island.devices * island.account.train_s for island in self.islands)
        return max(0.0, 1 - train_s / held_s) if held_s else None

    @property
    def parameters(self) -> int | None:
        """Parameters whose gradients an exchange would carry; None where nothing says them yet."""
        return parameters_of(self.files)

    @property
    def all_reduce_bytes(self) -> float | None:
        """What each island would have sent if all had exchanged fp32 gradients at every step."""
        n = self.parameters
        return None if n is None else all_reduce_bytes(n, islands=len(self.run.island) or 1, steps=self.files.steps)


def build_report(files: RunFiles) -> Report:
    """Return the report of a run."""
    commits = commits_of(files.rounds, files.events)
    islands = island_sums(files)
    return Report(
        files=files,
        islands=islands,
        commits=commits,
        lanes=lanes_of(files, commits),
        steps=place_steps(files.metrics, {commit.round: commit.busy_s for commit in commits}),
        speed=whole_speed(files, commits),
        decisions=decisions_of(files),
        plan=_against_plan(files, islands, seconds=commits[-1].busy_s if commits else None),
    )


def island_sums(files: RunFiles) -> list[IslandSums]:
    """Return each island's sums up to the newest commit; of a run without islands, those of the one process."""
    run = files.run
    if not run.island:
        return [_alone(files)]
    accounts: dict[str, Line] = files.rounds[-1]["accounts"] if files.rounds else {}
    if not accounts and files.summary:  # the commits are with the coordinator, on another machine
        accounts = files.summary.get("islands", {})
    bills = bill({"accounts": accounts}, run)
    gone = accounts.keys() - {island.name for island in run.island}
    return [
        *(_sums(island, run, accounts.get(island.name, {}), bills[island.name]) for island in run.island),
        *(
            replace(_sums(IslandSpec(name=n), run, accounts[n], bills[n]), price_per_device_hour=None)
            for n in sorted(gone)
        ),
    ]


def _sums(island: IslandSpec, run: RunSpec, account: Line, amount: float | None) -> IslandSums:
    facts = {key: account[key] for key in ACCOUNT if key in account}
    return IslandSums(island.name, island.simulated, island.devices, price_of(island, run), Account(**facts), amount)


def _alone(files: RunFiles) -> IslandSums:
    price, lines = files.run.money.price_per_device_hour, files.metrics
    seconds = files.summary["seconds"] if files.summary else lines[-1]["seconds"] if lines else 0.0
    trained_s = sum(line["step_s"] for line in lines)
    account = Account(held_s=seconds, train_s=trained_s, tokens=files.tokens, steps=files.steps)
    newest = files.summary or (lines[-1] if lines else {"cost": None if price is None else 0.0})
    return IslandSums(ALONE, False, 1, price, account, newest["cost"])


def parameters_of(files: RunFiles) -> int | None:
    """Return how many parameters are trained, MTP layers included."""
    if files.run.model is not None:
        count = count_parameters(files.run.model)
        return count.total + (count.mtp if files.run.model.mtp_loss_weight > 0 else 0)
    return files.summary["parameters"] if files.summary else None


def all_reduce_bytes(parameters: int, *, islands: int, steps: int) -> float:
    """Return what each of M islands sends when all sum their fp32 gradients at every step: 2 (M-1)/M times their size.

    That is the least that an all-reduce can send (Patarasuk and Yuan 2009, doi:10.1016/j.jpdc.2008.09.002).
    """
    return parameters * FP32_BYTES * 2 * (islands - 1) / islands * steps


def decisions_of(files: RunFiles) -> list[Decision]:
    """Return what guards decided: updates rejected or clipped, rounds rolled back, steps skipped."""
    found: list[tuple[int, Decision]] = []
    for record in files.rounds:
        where = f"round {record['round']}"
        for name, one in record["members"].items():
            if one["why"] or not one["accepted"]:
                verdict = "clipped" if one["accepted"] else "rejected"
                found.append((record["step"], Decision(where, name, verdict, one["why"])))
        if not record["applied"]:
            why = "no island had a sound update to merge"
            found.append((record["step"], Decision(where, "all", "rolled back", why)))
    for line in files.metrics:
        if fault := line.get("fault"):
            found.append((line["step"], Decision(f"step {line['step']}", line["island"], "step skipped", str(fault))))
    for event in files.events:
        if event["event"] == "skip":
            step, why = event.get("step", 0), str(event.get("cause", ""))
            found.append((step, Decision(f"step {step}", ALONE, "batch skipped", why)))
    return [decision for _, decision in sorted(found, key=lambda one: one[0])]


def _against_plan(files: RunFiles, islands: list[IslandSums], *, seconds: float | None) -> dict[str, Any] | None:
    """Return the plan with what was measured beside it, so far or at the end; None without a plan."""
    if files.summary and "plan" in files.summary:
        return files.summary["plan"]
    if files.plan is None:
        return None
    costs = {island.name: island.cost for island in islands}
    facts = {"tokens": files.tokens, "seconds": seconds, "cost": total(costs), "costs": costs}
    simulated = [island.name for island in islands if island.simulated]
    return compare(files.plan, files.metrics, **facts, simulated=simulated)
