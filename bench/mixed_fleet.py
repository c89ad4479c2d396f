"""The bill to reach a fixed loss: one premium island, one cheaper pool, a mix of three, and mixes that should lose.

    python bench/islands_quality.py train sync mix mix-without-slowest mix-never --seeds 0 1 2 3 4
    python bench/mixed_fleet.py [--png docs/images/mixed_fleet.png]

Losses are of real training (bench/islands.toml), by islands in turn in one process. Prices and peaks are those of the
Ling report's devices; speeds are *simulated*: the peak times D's implied 21 % MFU, and for the others `relative` times
that. Counts are made up: few of the premium device, more of the cheaper ones. A bill is that for the loss which the
premium island reaches with 10**12 tokens, at 6 x 28.8e9 FLOPs a token:

    10**12 x (tokens of the arm / tokens of one process, to the same loss) / speed of all x price of all / (1 - lost)

with `lost` the share of time that islands do not train (2.6 % by islands_efficiency.py in rounds of 12 steps of 3 s; of
other models and links it is another), and each pool's speed less by what failures take: DLRover's 0.0027 a device and
day, each of which stops the device's whole pool for half an hour; one that trains alone and one in a mix alike, so that
islands' smaller losses are not counted. P1 is the premium island alone, S the best cheaper pool alone, M the mix, M-
the mix without its slowest, X the mix whose islands never exchange: it must lose, or the script fails.
One JSON line: bills and days with Student's bounds over seeds, bills against relative MFU and price, and break-evens.
"""

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from islands_quality import BATCH_TOKENS, STEPS, bounds, curves, loss_at, pairs, tokens_to
from matplotlib.figure import Figure

from everyflop.train.report_pictures import COLOURS

FLOPS_A_TOKEN, TOKENS, PREMIUM_MFU = 6 * 28.8e9, 1e12, 0.21
FAILURES_A_DEVICE_DAY, RESTART_H = 0.0027, 0.5
RELATIVE, PRICES = [0.68, 0.76, 0.85, 0.92, 1.0], [0.7, 1.0, 1.3]


@dataclass(frozen=True, slots=True)
class Pool:
    """Devices of one kind."""

    name: str
    count: int
    peak_tflops: float
    price: float
    """CNY for a device and hour."""
    relative: float = 1.0
    """MFU over the premium device's."""

    @property
    def tokens_per_hour(self) -> float:
        """Simulated speed of all, over time that includes failures."""
        up = 1 - self.count * FAILURES_A_DEVICE_DAY * RESTART_H / 24
        return up * self.count * self.peak_tflops * 1e12 * PREMIUM_MFU * self.relative / FLOPS_A_TOKEN * 3600

    @property
    def per_hour(self) -> float:
        """Price of all, in CNY."""
        return self.count * self.price


def fleet(relative: float = 0.85, price: float = 1.0) -> dict[str, Pool]:
    """Return the pools: MFU of the cheaper ones over the premium's, and a factor on their prices."""
    d, a, e = Pool("D", 16, 989, 27.5), Pool("A", 96, 370, 7.0), Pool("E", 32, 147, 5.64)
    return {"D": d, **{p.name: replace(p, relative=relative, price=p.price * price) for p in (a, e)}}


ARMS = {"P1": ("sync", "D"), "S": ("sync", "A"), "M": ("mix", "ADE"), "M-": ("mix-without-slowest", "AD")}
ARMS["X"] = ("mix-never", "ADE")


def extra_tokens(arm: str) -> dict[int, tuple[float, bool]]:
    """Return for each seed the arm's tokens over one process's to the same loss, and whether that is beyond its end."""
    goal = 0.9 * STEPS * BATCH_TOKENS
    reached = {seed: tokens_to(mine, loss_at(sync, goal)) for seed, (mine, sync) in pairs(arm, curves()).items()}
    return {seed: (tokens / goal, beyond) for seed, (tokens, beyond) in reached.items()}


def bill(pools: list[Pool], tokens_ratio: float, lost: float) -> tuple[float, float]:
    """Return M CNY and days; one pool alone loses nothing to exchanges."""
    kept = 1 - lost if len(pools) > 1 else 1.0
    hours = TOKENS * tokens_ratio / sum(pool.tokens_per_hour for pool in pools) / kept
    return hours * sum(pool.per_hour for pool in pools) / 1e6, hours / 24


def break_even(names: str, ratio: float, lost: float) -> float | None:
    """Return the relative MFU at which these pools cost what the premium does; None if none up to 2 does."""
    premium = bill([fleet()["D"]], 1.0, lost)[0]
    for relative in np.linspace(0.3, 2.0, 1701):
        pools = fleet(float(relative))
        if bill([pools[name] for name in names], ratio, lost)[0] <= premium:
            return float(relative)
    return None


def draw(line: dict[str, Any], path: Path) -> None:
    """Draw bills against days, and against the relative MFU of the cheaper pools."""
    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    by_days, by_mfu = figure.subplots(1, 2, sharey=True)
    for (name, found), colour in zip(line.items(), COLOURS, strict=False):
        low, high = found["bounds"] or [found["m_cny"]] * 2
        error = [[found["m_cny"] - low], [high - found["m_cny"]]]
        by_days.errorbar(found["days"], found["m_cny"], yerr=error, fmt="o", capsize=3, color=colour)
        by_days.annotate(name, (found["days"], found["m_cny"]), xytext=(7, 4), textcoords="offset points")
        by_mfu.plot([*found["by_relative_mfu"]], [*found["by_relative_mfu"].values()], color=colour, label=name)
    by_days.set(xlabel="days", ylabel="M CNY to the same loss", xlim=(0, 700))
    by_mfu.set(xlabel="MFU of the cheaper pools over the premium's")
    by_mfu.legend()
    figure.suptitle("Real losses at simulated prices and speeds", fontsize="medium")
    figure.savefig(path, dpi=110)


def main() -> int:
    """Print the table; 1 when an arm lacks seeds or the control does not lose."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lost", type=float, default=0.026, help="share of time that islands do not train")
    parser.add_argument("--png", type=Path, help="draw bills against days and relative MFU")
    asked = parser.parse_args()
    lost, line = asked.lost, {}
    for name, (arm, pools) in ARMS.items():
        ratios = extra_tokens(arm)
        if not ratios:
            print(f"{name}: no run of '{arm}' yet", file=sys.stderr)
            continue
        chosen = [fleet()[pool] for pool in pools]
        each = [bill(chosen, ratio, lost) for ratio, _ in ratios.values()]
        cost, between = bounds([money for money, _ in each])
        days, ratio = (float(np.mean(values)) for values in ([d for _, d in each], [r for r, _ in ratios.values()]))
        beyond = sum(beyond for _, beyond in ratios.values())
        found: dict[str, Any] = {"seeds": len(each), "m_cny": cost, "bounds": between, "days": days, "beyond": beyond}
        found |= {"tokens_ratio": ratio}
        found |= {"break_even_relative_mfu": break_even(pools, ratio, lost)} if pools != "D" else {}
        found["by_relative_mfu"] = {r: bill([fleet(r)[p] for p in pools], ratio, lost)[0] for r in RELATIVE}
        found["by_price"] = {f: bill([fleet(price=f)[p] for p in pools], ratio, lost)[0] for f in PRICES}
        line[name] = found
        shown = f" [{between[0]:.2f}, {between[1]:.2f}]" if between else ""
        text = f"{name:3} {len(each)} seeds {cost:6.2f} M CNY{shown} {days:6.1f} days, {ratio - 1:+.1%} tokens"
        print(text + (f", beyond the end in {beyond}" if beyond else ""), file=sys.stderr)
    print(json.dumps({"simulated": "prices and speeds", "lost": lost, **line}))
    if asked.png:
        draw(line, asked.png)
    return int(set(line) != set(ARMS) or line["X"]["m_cny"] <= line["M"]["m_cny"])


if __name__ == "__main__":
    sys.exit(main())
