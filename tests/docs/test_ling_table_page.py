"""docs/ling_table.md shows what the planner says today. Run as a script, this writes the page's table anew."""

import re
from pathlib import Path

import pytest

from everyflop.base.units import percent
from everyflop.planner.plan.plan import plan
from everyflop.spec.plan import Choice, Plan, Spread

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs" / "ling_table.md"
TABLE = re.compile(r"(?<=<!-- predicted -->\n).*?(?=<!-- end -->)", re.DOTALL)

FLOPS_PER_RUN = 6 * 28.8e9 * 1e12
PRICES_AND_TFLOPS = {"A": (7.0, 370), "B": (4.5, 120), "C": (10.0, 312), "D": (27.5, 989), "E": (5.64, 147)}
"""Table 1 of the report."""


@pytest.fixture(scope="module")
def made() -> Plan:
    return make()


def make() -> Plan:
    return plan(ROOT / "recipes/fleets/ling_table.toml", model="ling-plus", tokens=10**12)


def predicted(made: Plan) -> str:
    lines = ["| choice | M CNY | days | MFU | break-even MFU | layout |", "|---|---|---|---|---|---|"]
    return "\n".join([*lines, *map(line, made.alternatives)]) + "\n"


def line(choice: Choice) -> str:
    islands = choice.islands
    layouts = [
        f"tp{i.layout.tp} pp{i.layout.pp} vpp{i.layout.vpp} ep{i.layout.ep} dp{i.layout.dp}, {i.layout.recompute}"
        for i in islands
    ]
    cells = (
        choice.name.upper().replace(" X ", " x "),
        money(choice.total.cost),
        f"{choice.total.days.p50:.1f}",
        ", ".join(f"{100 * i.mfu:.0f} %" for i in islands),
        ", ".join(f"{100 * i.break_even_mfu:.0f} %" if i.break_even_mfu else "-" for i in islands),
        layouts[0] if choice.kind == "single" else "",
    )
    return f"| {' | '.join(cells)} |"


def money(cost: Spread) -> str:
    return f"{cost.p50 / 1e6:.2f} ({cost.p10 / 1e6:.2f} to {cost.p90 / 1e6:.2f})"


def test_the_predictions_are_what_the_planner_says(made):
    shown = TABLE.search(FILE.read_text(encoding="utf-8"))

    assert shown is not None
    assert shown[0] == predicted(made)


def test_the_order_in_words_is_the_planners(made):
    singles = [choice.name for choice in made.alternatives if choice.kind == "single"]

    assert (singles[0], singles[1], singles[-1]) == ("a", "e", "d")
    assert made.recommended == "a"
    assert made.why.startswith("do not mix")
    assert {island.basis for choice in made.alternatives for island in choice.islands} == {"prior"}


def test_the_readme_shows_the_same_plan(made):
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    cost, days = made.total.cost, made.total.days

    assert f"{cost.p50 / 1e6:.2f} M CNY ({cost.p10 / 1e6:.2f} M to {cost.p90 / 1e6:.2f} M)" in readme
    assert f"{days.p50:.1f} days ({days.p10:.1f} to {days.p90:.1f})" in readme
    assert made.why in readme
    assert f"best single pool: {percent(made.mix_cheaper_probability)}" in readme


@pytest.mark.parametrize("device", PRICES_AND_TFLOPS)
def test_the_implied_figures_follow_from_the_bills(device):
    price, tflops = PRICES_AND_TFLOPS[device]
    bill = 6.35e6 if device == "D" else 5.08e6
    mfu = FLOPS_PER_RUN / (bill / price * 3600 * tflops * 1e12)
    equal = (price / tflops) / (27.5 / 989)
    row = next(row for row in FILE.read_text(encoding="utf-8").splitlines() if row.startswith(f"| {device} | "))
    cells = [cell.strip() for cell in row.strip("|").split("|")]

    assert cells[2:5] == [f"{bill / price:,.0f}", f"{100 * mfu:.1f} %", f"{equal:.2f}"]
    assert cells[5] == ("" if device == "D" else f"{equal * 6.35 / 5.08:.2f}")


if __name__ == "__main__":
    text = FILE.read_text(encoding="utf-8")
    FILE.write_text(TABLE.sub(lambda _: predicted(make()), text), encoding="utf-8")
