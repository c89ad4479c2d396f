"""docs/islands_learning.md shows the runs on record. Run as a script, this writes its tables anew."""

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs" / "islands_learning.md"
TABLE = re.compile(r"(?<=<!-- measured -->\n).*?(?=<!-- end -->)", re.DOTALL)
TARGETS = {f"h8-{end}": "5 %" for end in ("start", "start-4k", "start-lr1-1k", "int4-start15")}
TARGETS |= {f"h24-start{end}": "10 %" for end in ("", "-4k", "-1k")}
TARGETS |= {f"never{end}": "must fail" for end in ("", "-1k")}
TITLES = {
    "h2": "H = 2",
    "h2-start": "H = 2 after a start",
    "h4": "H = 4",
    "h4-start": "H = 4 after a start",
    "h8": "H = 8",
    "h8-start": "H = 8 after a start",
    "h8-start-lr1": "the same, learning rate 4e-3",
    "h8-int8-start": "H = 8 after a start, int8",
    "h8-int4-start": "H = 8 after a start, int4",
    "h8-int4-start15": "H = 8 after a start of 15 %, int4",
    "h24": "H = 24",
    "h24-start": "H = 24 after a start",
    "h24-start-lr1": "the same, learning rate 4e-3",
    "h24-int8-start": "H = 24 after a start, int8",
    "h24-int4-start": "H = 24 after a start, int4",
    "h24-int4-start15": "H = 24 after a start of 15 %, int4",
    "h24-even": "H = 24 after a start, rounds all alike",
    "h24-unequal": "the same, of equal batches one island does 36 steps and one 12",
    "h24-unequal-tokens": "the same, merged by tokens alone",
    "h24-nesterov": "H = 24 after a start, outer step of Nesterov, 0.7 and 0.5",
    "h24-overlap": "H = 24 after a start, training ahead of every update for half a round",
    "h100": "H = 100",
    "h100-start": "H = 100 after a start",
    "h4-m4": "four islands, H = 4",
    "h8-m4": "four islands, H = 8",
    "h8-m4-start": "four islands, H = 8 after a start",
    "h24-m4-start": "four islands, H = 24 after a start",
    "mix-without-slowest": "islands of 11 and 5 sixteenths, H = 8 after a start",
    "mix": "islands of 10, 5 and 1 sixteenths, H = 8 after a start",
    "mix-never": "the same three, never exchanging",
    "never": "two islands that never exchange, the control",
}
LARGE_BATCH = {
    "h8-4k": "H = 8",
    "h8-start5-4k": "H = 8 after a start of 5 %",
    "h8-grow-4k": "H = 8, and rounds of 3 % of the steps done at most",
    "h8-start-4k": "H = 8 after a start",
    "h24-start-4k": "H = 24 after a start",
    "h24-start-lr1-4k": "the same, learning rate 4e-3",
}
FEWER_STEPS = {
    "h4-1k": "H = 4",
    "h4-int4-1k": "H = 4, int4",
    "h8-1k": "H = 8",
    "h8-lr1-1k": "H = 8, learning rate 4e-3",
    "h8-start-lr1-1k": "H = 8 after a start, learning rate 4e-3",
    "h8-start-1k": "H = 8 after a start",
    "h24-1k": "H = 24",
    "h24-start-1k": "H = 24 after a start",
    "h4-m4-1k": "four islands, H = 4",
    "h8-m4-1k": "four islands, H = 8",
    "never-1k": "two islands that never exchange, the control",
}
TABLES = (TITLES, LARGE_BATCH, FEWER_STEPS)


def test_the_page_shows_the_runs_on_record(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    shown = TABLE.findall(FILE.read_text(encoding="utf-8"))

    assert shown == [table(titles) for titles in TABLES]


def table(titles: dict[str, str]) -> str:
    import islands_quality

    curves = islands_quality.curves()
    head = [
        "| islands | target | exchanges | extra tokens | 95 % bounds | seeds | final loss | of one process |",
        "|---|---|---|---|---|---|---|---|",
    ]
    found = {name: islands_quality.penalties(name, curves) for name in titles}
    return "\n".join([*head, *(row(name, titles[name], each) for name, each in found.items() if each)]) + "\n"


def row(name: str, title: str, each: list[dict[str, Any]]) -> str:
    import islands_quality

    mean, bounds = islands_quality.bounds([one["penalty"] for one in each])
    between = f"{bounds[0]:.1%} to {bounds[1]:.1%}" if bounds else ""
    beyond = sum(one["beyond"] for one in each)
    seeds = f"{len(each)}, beyond the end in {beyond}" if beyond else str(len(each))
    loss, sync = (sum(one[key] for one in each) / len(each) for key in ("loss", "sync"))
    cells = [
        title,
        TARGETS.get(name, ""),
        exchanges(name),
        f"**{mean:.1%}**",
        between,
        seeds,
    ]
    return f"| {' | '.join([*cells, f'{loss:.4f}', f'{sync:.4f}'])} |"


def exchanges(name: str) -> str:
    import islands_quality

    if not islands_quality.ARMS[name]["exchange"]:
        return "0"
    lines, settings = islands_quality.read_lines(islands_quality.RESULTS), islands_quality.settings_of(name)
    counts = {one["exchanges"] for one in lines if one.get("settings") == settings}
    assert len(counts) == 1
    return str(*counts)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "bench"))
    text = FILE.read_text(encoding="utf-8")
    anew = map(table, TABLES)
    FILE.write_text(TABLE.sub(lambda _: next(anew), text), encoding="utf-8")
