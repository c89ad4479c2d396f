"""docs/islands.md says which links large models need. Run as a script, this writes its table anew."""

import re
from collections.abc import Iterator
from pathlib import Path

from everyflop.accounting.dims import dims_of
from everyflop.base.units import short_time
from everyflop.islands.codec import encoded_bytes
from everyflop.planner.choose.goodput import WAYS
from everyflop.planner.plan.plan import plan
from everyflop.spec.fleet import Fleet
from everyflop.spec.plan import Plan

FILE = Path(__file__).resolve().parents[2] / "docs" / "islands.md"
TABLE = re.compile(r"(?<=<!-- links -->\n).*?(?=<!-- end -->)", re.DOTALL)
FORMS = ("fp32", "bf16", "int8", "int4")
LOST_SHARE, HIDDEN_SHARE = 0.03, 0.5
"""Of a round: what exchanges may cost where they are in the open, and what islands train ahead while updates travel."""


def test_the_links_are_those_of_the_planners_speeds():
    shown = TABLE.search(FILE.read_text(encoding="utf-8"))

    assert shown is not None
    assert shown[0] == table()


def table() -> str:
    head = [f"| two islands of | H | a round | {' | '.join(FORMS)} |", f"|---|---|---|{'---|' * len(FORMS)}"]
    return "\n".join([*head, *rows("ling-lite", "Ling-Lite", 64), *rows("ling-plus", "Ling-Plus", 1024)]) + "\n"


def rows(model: str, title: str, devices: int) -> Iterator[str]:
    made = one_island(model, devices)
    (island,) = made.islands
    batch_s = made.workload.batch_tokens / (2 * island.tokens_per_s.p50 * island.goodput_share)
    parameters = int(dims_of(made.workload.model).total_parameters)
    for steps in (1, 8, 24, 100):
        share = HIDDEN_SHARE if steps > 1 else LOST_SHARE
        speeds = [WAYS * encoded_bytes(parameters, form) * 8e-9 / (share * steps * batch_s) for form in FORMS]
        links = [f"{speed:.3g}" if speed < 100 else f"{speed:,.0f}" for speed in speeds]
        yield f"| {devices:,} A, {title} | {steps} | {short_time(steps * batch_s)} | {' | '.join(links)} |"


def one_island(model: str, devices: int) -> Plan:
    pool = {"name": "a", "device": "ling-a", "count": devices, "devices_per_node": 8, "price_per_device_hour": 7.0}
    fleet = Fleet.model_validate({"name": "links", "money": {"currency": "CNY"}, "pool": [pool]})
    return plan(fleet, model=model, tokens=10**12)


if __name__ == "__main__":
    text = FILE.read_text(encoding="utf-8")
    FILE.write_text(TABLE.sub(lambda _: table(), text), encoding="utf-8")
