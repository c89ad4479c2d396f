"""docs/islands_learning.md shows the runs on record. Run as a script, this writes its table anew."""

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docs" / "islands_learning.md"
TABLE = re.compile(r"(?<=<!-- measured -->\n).*?(?=<!-- end -->)", re.DOTALL)
TARGETS = {"h8-start": "5 %", "h24-start": "10 %", "never": "must fail"}
TITLES = {
    "h2": "H = 2",
    "h4": "H = 4",
    "h4-int4": "H = 4, int4",
    "h8": "H = 8",
    "h8-int4": "H = 8, int4",
    "h8-lr1": "H = 8, learning rate 4e-3",
    "h8-start": "H = 8 after a start, learning rate 4e-3",
    "h8-start-lr0.7": "H = 8 after a start",
    "h24": "H = 24",
    "h24-start": "H = 24 after a start",
    "h2-m4": "four islands, H = 2",
    "h4-m4": "four islands, H = 4",
    "h8-m4": "four islands, H = 8",
    "never": "two islands that never exchange, the control",
}


def test_the_page_shows_the_runs_on_record(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    shown = TABLE.search(FILE.read_text(encoding="utf-8"))

    assert shown is not None
    assert shown[0] == table()


def table() -> str:
    import islands_quality

    curves = islands_quality.curves()
    head = [
        "| islands | target | exchanges | extra tokens | 95 % bounds | seeds | final loss | of one process |",
        "|---|---|---|---|---|---|---|---|",
    ]
    found = {name: islands_quality.penalties(name, curves) for name in TITLES}
    return "\n".join([*head, *(row(name, each) for name, each in found.items() if each)]) + "\n"


def row(name: str, each: list[dict[str, Any]]) -> str:
    import islands_quality

    mean, bounds = islands_quality.bounds([one["penalty"] for one in each])
    between = f"{bounds[0]:.1%} to {bounds[1]:.1%}" if bounds else ""
    beyond = sum(one["beyond"] for one in each)
    seeds = f"{len(each)}, beyond the end in {beyond}" if beyond else str(len(each))
    loss, sync = (sum(one[key] for one in each) / len(each) for key in ("loss", "sync"))
    cells = [TITLES[name], TARGETS.get(name, ""), exchanges(name), f"**{mean:.1%}**", between, seeds]
    return f"| {' | '.join([*cells, f'{loss:.4f}', f'{sync:.4f}'])} |"


def exchanges(name: str) -> str:
    import islands_quality

    if not islands_quality.ARMS[name]["exchange"]:
        return "0"
    lines, settings = islands_quality.read_lines(islands_quality.RESULTS), islands_quality.settings_of(name)
    counts = {one["exchanges"] for one in lines if one["arm"] == name and one["settings"] == settings}
    assert len(counts) == 1
    return str(*counts)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "bench"))
    text = FILE.read_text(encoding="utf-8")
    FILE.write_text(TABLE.sub(lambda _: table(), text), encoding="utf-8")
