"""Draw a report's pictures as PNGs: loss, speed, time line, traffic.

Colours are those of Okabe and Ito, which every colour vision keeps apart (jfly.uni-koeln.de/color); what goes on and
what waits differ in lightness too, and marks in shape.
"""

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from everyflop.base.units import GIB, MIB, SECONDS_PER_DAY, SECONDS_PER_HOUR
from everyflop.train.png import png
from everyflop.train.report import Report
from everyflop.train.report_clock import Lane
from everyflop.train.report_curves import Floats, merge_steps, smooth, smooth_over, validations

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

DPI = 110
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
TRAINING, WAITING, WHOLE, SOFT = "#0072B2", "#F0C48A", "#000000", "#5A6370"
SHAPES = {
    "joined": ("^", "#009E73"),
    "left": ("v", "#5A6370"),
    "lost": ("X", "#D55E00"),
    "restarted": ("D", "#CC79A7"),
    "went back": ("<", "#D55E00"),
    "guards": ("s", "#E69F00"),
    "saved": ("|", "#000000"),
}
"""Marks of the time line: shape and colour."""

MOST_POINTS = 5000
"""Of one drawn line; of more only every so manyth is drawn."""

MANY = 500
"""Steps of an island, from which on its line is paler: it would hide others."""

LANE_BINS = 1000
"""Over the width of the time line."""

Pictures = dict[str, bytes]


def draw(report: Report) -> Pictures:
    """Return every picture as a PNG, by its name."""
    drawers: dict[str, Callable[[Report], Figure]] = {
        "loss": loss_figure,
        "speed": speed_figure,
        "timeline": timeline_figure,
        "traffic": traffic_figure,
    }
    if not report.run.island:
        del drawers["traffic"]
    return {name: png(figure_of(report)) for name, figure_of in drawers.items()}


def loss_figure(report: Report) -> "Figure":
    """Draw loss against tokens, time and money: each step by island, all of them smoothed, validations."""
    whole, alone = merge_steps(report.steps), not report.run.island
    seconds = time_unit(report.seconds)
    panels: list[tuple[str, str, float]] = [
        ("tokens", "tokens of the run", 1.0),
        ("seconds", f"time with a device ({seconds[1]})", seconds[0]),
        ("cost", f"cost ({report.run.money.currency}{', example prices' * report.run.money.example})", 1.0),
    ]
    checked = validations(report.files, {commit.round: commit.busy_s for commit in report.commits})
    figure, axes = _figure(12.0, 3.9, columns=3, sharey=True)
    for number, (axis, (key, label, size)) in enumerate(zip(axes, panels, strict=True)):
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
        if key == "cost" and report.cost is None and whole.loss:
            _say(axis, "no price given")
            axis.set_xticks([])
            continue
        for name, colour in _colours(report).items():
            steps = report.steps.get(name)
            if steps is not None:
                x, y = _finite(getattr(steps, key), steps.loss)
                axis.plot(
                    *_thin(x / size, y),
                    lw=0.7,
                    alpha=0.75,
                    color=colour,
                    label="each step" if alone else _label(report, name),
                )
        x, y = smooth_over(getattr(whole, key), whole.loss, whole.own_tokens)
        if len(x):
            axis.plot(*_thin(x / size, y), lw=1.8, color=WHOLE, label="all steps, smoothed")
        for (name, points), shape in zip(checked.items(), cycle("ods^v"), strict=False):
            x, y = _finite([point[number] for point in points], [point[3] for point in points])
            axis.plot(x / size, y, shape, ms=5, mfc="white", mec=WHOLE, label=f"validation, {name}")
    axes[0].set_ylabel("loss (nats a token)")
    _in_thousands(axes[0].xaxis)
    _legend(axes[0])
    for axis in axes:
        axis.locator_params(axis="x", nbins=6)
        _explain_empty(axis, whole.loss)
    return figure


def speed_figure(report: Report) -> "Figure":
    """Draw tokens/s over time: each island while it trains, and all together with what they wait for."""
    size, unit = time_unit(report.seconds)
    figure, (axis,) = _figure(12.0, 3.6)
    colours, tops = _colours(report), []
    for name, steps in report.steps.items():
        colour = colours.get(name, SOFT)
        x, y = np.array(steps.seconds) / size, np.array(steps.tokens_per_s)
        tops += [max(smooth(y)), np.quantile(y, 0.98)]  # one odd step does not squeeze all others
        axis.plot(*_thin(x, y), ".", ms=2, alpha=0.35, color=colour)
        what = f"{_label(report, name)}, while it trains" if report.run.island else "while it trains"
        axis.plot(*_thin(x, smooth(y)), lw=1.6, color=colour, label=what)
    x, y = np.array([0.0, *report.speed[0]]) / size, np.array([*report.speed[1][:1], *report.speed[1]])
    together = "all islands, exchange and waiting included" if report.run.island else "saving and validation included"
    axis.plot(x[: len(y)], y, drawstyle="steps-pre", lw=1.2, color=WHOLE, label=together)
    axis.set_ylim(0, 1.1 * max([*tops, *y, 1.0]))
    _in_thousands(axis.yaxis)
    axis.set_xlabel(f"time with a device ({unit})")
    axis.set_ylabel("tokens/s")
    axis.grid(alpha=0.3)
    _legend(axis)
    _explain_empty(axis, report.steps)
    return figure


def timeline_figure(report: Report) -> "Figure":
    """Draw a lane for each island: when it trained, when it waited, and what happened."""
    lanes = report.lanes
    ends = [end for lane in lanes for _, end in [*lane.training, *lane.waiting]]
    last_s = max([*ends, *(at for lane in lanes for at, _ in lane.marks), 1e-9])
    size, unit = time_unit(last_s)
    names = [_label(report, lane.name) for lane in lanes]
    figure, (axis,) = _figure(12.0, max(1.9, 0.9 + 0.62 * len(lanes)), names=names)
    edges = np.linspace(0.0, last_s, LANE_BINS + 1)
    for number, lane in enumerate(lanes):
        trains, waits = shares(lane.training, edges), shares(lane.waiting, edges)
        bottom = np.full(LANE_BINS, -number - 0.32)
        for share, colour, what in ((trains, TRAINING, "trains"), (waits, WAITING, "held, and does not train")):
            top = bottom + 0.64 * share
            axis.fill_between(edges[1:] / size, bottom, top, step="pre", lw=0, color=colour, label=what * (not number))
            bottom = top
        _draw_marks(axis, lane, -number + 0.4, size, {kind for other in lanes[:number] for _, kind in other.marks})
    axis.set_yticks([-n for n in range(len(lanes))], names)
    axis.set_ylim(-len(lanes) + 0.45, 0.6)
    axis.set_xlim(-0.01 * last_s / size, 1.01 * last_s / size)
    axis.set_xlabel(f"time since the run began ({unit})")
    axis.grid(alpha=0.3, axis="x")
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
    return figure


def traffic_figure(report: Report) -> "Figure":
    """Draw what each island sent and received, beside what exact exchange at every step would have sent."""
    islands = report.islands
    bound = report.all_reduce_bytes
    accounts = [island.account for island in islands]
    largest = max([one.sent_bytes for one in accounts] + [one.received_bytes for one in accounts] + [bound or 0, 1])
    size, unit = bytes_unit(largest)
    names = [_label(report, island.name) for island in islands]
    figure, (axis,) = _figure(12.0, 0.9 + 0.75 * len(islands), names=names)
    place = -np.arange(len(islands), dtype=np.float64)
    for shift, colour, what, key in (
        (0.19, COLOURS[0], "sent", "sent_bytes"),
        (-0.19, COLOURS[5], "received", "received_bytes"),
    ):
        sizes = [getattr(one, key) / size for one in accounts]
        bars = axis.barh(place + shift, sizes, height=0.34, color=colour, label=what)
        axis.bar_label(bars, [f"{value:.3g}" for value in sizes], padding=3, fontsize=8)
    if bound:
        axis.axvline(bound / size, color=COLOURS[1], lw=2, ls="--", label="fp32 all-reduce each step: sent")
    axis.set_yticks(place, names)
    axis.set_xlabel(unit)
    axis.set_xlim(0, 1.08 * largest / size)
    axis.grid(alpha=0.3, axis="x")
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
    return figure


def shares(spans: Sequence[tuple[float, float]], edges: Floats) -> Floats:
    """Return which share of each bin the spans cover; the spans are in order and do not overlap."""
    if not spans:
        return np.zeros(len(edges) - 1)
    ends = np.maximum.accumulate(np.array(spans, dtype=np.float64).ravel())
    lengths = np.maximum(ends[1::2] - ends[::2], 0.0)
    done = np.cumsum(lengths)
    covered = np.column_stack([done - lengths, done]).ravel()
    inside = np.diff(np.interp(edges, ends, covered))
    return np.clip(inside / np.diff(edges), 0.0, 1.0)


def time_unit(seconds: float) -> tuple[float, str]:
    """Return the unit of an axis of time: its seconds and its name."""
    units = ((3 * SECONDS_PER_DAY, SECONDS_PER_DAY, "days"), (3 * SECONDS_PER_HOUR, SECONDS_PER_HOUR, "h"))
    return next(((size, name) for least, size, name in (*units, (180.0, 60.0, "min")) if seconds >= least), (1.0, "s"))


def bytes_unit(n_bytes: float) -> tuple[float, str]:
    """Return the unit of an axis of bytes: its bytes and its name."""
    return (float(GIB), "GiB") if n_bytes >= GIB else (float(MIB), "MiB")


def _draw_marks(axis: "Axes", lane: Lane, y: float, size: float, named: set[str]) -> None:
    """Draw what happened to an island; marks that an earlier lane has are in the legend already."""
    for kind, (shape, colour) in SHAPES.items():
        times = [at / size for at, of in lane.marks if of == kind]
        if times:
            edge: dict[str, Any] = {"mew": 1.0} if shape == "|" else {"mec": "white", "mew": 0.6}
            label = None if kind in named else kind
            axis.plot(times, [y] * len(times), shape, ms=7, color=colour, label=label, clip_on=False, **edge)


def _colours(report: Report) -> dict[str, str]:
    names = [island.name for island in report.islands]
    return dict(zip(names, islice(cycle(COLOURS), len(names)), strict=True))


def _label(report: Report, name: str) -> str:
    return f"{name} (simulated)" if name in report.simulated else name


def _finite(x: Sequence[float | None], y: Sequence[float | None]) -> tuple[Floats, Floats]:
    """Return the points that have both coordinates."""
    points = np.array([p for p in zip(x, y, strict=True) if None not in p], dtype=np.float64).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def _thin(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    every = len(x) // MOST_POINTS + 1
    return x[::every], y[::every]


def _figure(
    width: float, height: float, *, columns: int = 1, sharey: bool = False, names: Sequence[str] = ()
) -> "tuple[Figure, list[Axes]]":
    """Return a figure of a size in inches and its axes; lanes with names leave room for them, and for a legend beside.

    Margins are given: matplotlib's own search for them takes as long as all the rest.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    left, right = (0.35 + 0.085 * max(map(len, names)), 2.6) if names else (0.75, 0.15)
    figure.subplots_adjust(left / width, 0.55 / height, 1 - right / width, 1 - 0.12 / height, wspace=0.07)
    axes = [*figure.subplots(1, columns, sharey=sharey, squeeze=False)[0]]
    for axis in axes:
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=9)
    return figure, axes


def _in_thousands(axis: "Axis") -> None:
    from matplotlib.ticker import EngFormatter

    axis.set_major_formatter(EngFormatter())


def _legend(axis: "Axes") -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)


def _say(axis: "Axes", words: str) -> None:
    axis.text(0.5, 0.5, words, transform=axis.transAxes, ha="center", va="center", color=SOFT)


def _explain_empty(axis: "Axes", lines: object) -> None:
    if not lines:
        _say(axis, "no step yet")
        axis.set_xticks([])
        axis.set_yticks([])
