"""Put the figures and the picture of bench/planner_accuracy.py into docs/accuracy.md.

    python bench/planner_accuracy.py TABLE.csv --details DETAILS.csv > LINE.json
    python bench/accuracy_page.py LINE.json DETAILS.csv

replaces what stands between the page's markers, and docs/images/accuracy.png.
"""

import csv
import json
import re
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

DOCS = Path(__file__).resolve().parent.parent / "docs"
TARGETS = {"known": (0.08, 0.20), "new source": (0.12, 0.35), "new chip": (0.20, 0.50), "calibrated": (0.10, 0.25)}
TARGETS["asked for"] = TARGETS["calibrated"]
NAMES = {
    "known": "known chip and software",
    "new source": "known chip, new source",
    "new chip": "new chip",
    "calibrated": "new chip, one row known: any",
    "asked for": "new chip, one row known: the one asked for",
}
Detail = dict[str, str]


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def splits_table(line: dict) -> list[str]:
    rows = [
        "| held out | rows | median, target | 90th percentile, target | median over sources "
        "| of constant MFU | 80 % interval holds |"
    ]
    rows.append("|---|---|---|---|---|---|---|")
    for name, (median, p90) in TARGETS.items():
        f = line[name]
        rows.append(
            f"| {NAMES[name]} | {f['n']} | {percent(f['median'])}, {median:.0%} | {percent(f['p90'])}, {p90:.0%} | "
            f"{percent(f['median_over_sources'])} | {f['of_constant_mfu']:.2f} | {percent(f['coverage_80'])} |"
        )
    return rows


def other_table(line: dict, key: str) -> list[str]:
    rows = [
        "| held out | rows | median | 90th percentile | of constant MFU | 80 % interval holds |",
        "|---|---|---|---|---|---|",
    ]
    for name in TARGETS:
        f = line[key][name]
        if f["n"]:
            rows.append(
                f"| {NAMES[name]} | {f['n']} | {percent(f['median'])} | {percent(f['p90'])} | "
                f"{f['of_constant_mfu']:.2f} | {percent(f['coverage_80'])} |"
            )
    return rows


def log_error(row: Detail) -> float:
    return float(np.log(float(row["predicted"]) / float(row["measured"])))


def groups_table(details: list[Detail]) -> list[str]:
    rows = ["| vendor | kind | dtype | rows | known | new source | new chip |", "|---|---|---|---|---|---|---|"]
    for key in sorted({(d["vendor"], d["kind"], d["dtype"]) for d in details}):
        like = [d for d in details if (d["vendor"], d["kind"], d["dtype"]) == key]
        cells = [
            median_and_p90([d for d in like if d["split"] == split]) for split in ("known", "new source", "new chip")
        ]
        count = sum(d["split"] == "known" for d in like)
        rows.append(f"| {' | '.join(key)} | {count} | {' | '.join(cells)} |")
    return rows


def median_and_p90(details: list[Detail]) -> str:
    errors = np.abs([log_error(d) for d in details])
    return f"{percent(np.median(errors))}, {percent(np.quantile(errors, 0.9))}" if len(errors) else "none"


def picture(details: list[Detail], path: Path) -> None:
    colours = {"bf16": "#0072B2", "fp16": "#009E73", "fp8": "#D55E00"}
    titles = {"known": "chip and software known", "new source": "from a new source", "new chip": "on a new chip"}
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.4), sharex=True, sharey=True, layout="constrained")
    for ax, (split, title) in zip(axes, titles.items(), strict=True):
        part = [d for d in details if d["split"] == split]
        for d in part:
            marker = "^" if d["kind"] == "moe" else "o"
            ax.scatter(
                float(d["measured"]),
                float(d["predicted"]),
                s=22,
                marker=marker,
                color=colours[d["dtype"]],
                alpha=0.7,
                linewidths=0,
            )
        ends = np.array([50, 80_000])
        ax.plot(ends, ends, color="#555555", linewidth=1)
        ax.fill_between(ends, ends * 0.8, ends * 1.25, color="#999999", alpha=0.2, linewidth=0)
        ax.set(
            xscale="log",
            yscale="log",
            xlim=ends,
            ylim=ends,
            title=f"{title} ({len(part)} rows)",
            xlabel="measured, tokens/s per device",
        )
    axes[0].set_ylabel("predicted, tokens/s per device")
    handles = [plt.Line2D([], [], color=c, marker="s", linestyle="", label=name) for name, c in colours.items()]
    handles += [
        plt.Line2D([], [], color="#555555", marker=m, linestyle="", label=name)
        for m, name in (("^", "MoE"), ("o", "dense"))
    ]
    axes[0].legend(handles=handles, frameon=False, loc="upper left", fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> int:
    line = json.loads(Path(sys.argv[1]).read_text())
    with Path(sys.argv[2]).open() as file:
        details = [d for d in csv.DictReader(file) if d["judged"] == "yes"]
    page = (DOCS / "accuracy.md").read_text()
    parts = {
        "splits": splits_table(line),
        "moe": other_table(line, "moe"),
        "converted": other_table(line, "mfu_only"),
        "groups": groups_table(details),
    }
    for name, rows in parts.items():
        page = re.sub(
            rf"(<!-- {name} -->\n).*?(\n<!-- end -->)",
            lambda m, rows=rows: m[1] + "\n".join(rows) + m[2],
            page,
            flags=re.DOTALL,
        )
    (DOCS / "accuracy.md").write_text(page)
    picture(details, DOCS / "images" / "accuracy.png")
    worst = sorted((d for d in details if d["split"] == "known"), key=lambda d: -abs(log_error(d)))[:10]
    for d in worst:
        print(d["id"], d["model"], d["accelerator"], d["dtype"], f"{log_error(d):+.2f}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
