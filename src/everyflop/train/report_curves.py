"""The lines of a report's pictures: loss and speed of every step, on the axes of tokens, time and money."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from everyflop.train.report_clock import Commit
from everyflop.train.report_files import Line, RunFiles

Floats = NDArray[np.float64]

SMOOTH_PARTS, SMOOTH_FROM = 30, 10
"""A smoothed line is a mean over this part of all steps, once there are so many."""

SPEED_POINTS = 50
"""The speed of all islands together is a mean over such a part of the run."""


@dataclass(slots=True)
class Steps:
    """Steps of one island in their order."""

    tokens: list[float] = field(default_factory=list)
    """Of the whole run, after the step."""
    seconds: list[float] = field(default_factory=list)
    cost: list[float | None] = field(default_factory=list)
    loss: list[float | None] = field(default_factory=list)
    own_tokens: list[float] = field(default_factory=list)
    """Of this island, in the step."""
    tokens_per_s: list[float] = field(default_factory=list)


def place_steps(metrics: list[Line], busy_s: Mapping[int, float]) -> dict[str, Steps]:
    """Return each island's steps, by name.

    Steps of a round are written when it is committed, all with its time and cost: here they are spread evenly over it.
    `busy_s` is the time of each round's commit; without one, a line's own time counts.
    """
    found: dict[str, Steps] = defaultdict(Steps)
    before = Moment(0.0, 0.0)
    for number, lines in groupby(enumerate(metrics), key=_round_of):
        group = [line for _, line in lines]
        now = Moment(busy_s.get(number, group[-1]["seconds"]), group[-1].get("cost"))
        counts = Counter(line["island"] for line in group)
        seen: Counter[str] = Counter()
        for line in group:
            seen[line["island"]] += 1
            part = seen[line["island"]] / counts[line["island"]]
            _add(found[line["island"]], line, before.towards(now, part))
        before = now
    return dict(found)


@dataclass(frozen=True, slots=True)
class Moment:
    """Where the axes of time and money stand."""

    seconds: float
    cost: float | None

    def towards(self, other: "Moment", part: float) -> "Moment":
        """Return what lies this part of the way towards another moment."""
        seconds = self.seconds + part * (other.seconds - self.seconds)
        if other.cost is None:
            return Moment(seconds, None)
        before = self.cost or 0.0
        return Moment(seconds, before + part * (other.cost - before))


def _round_of(numbered: tuple[int, Line]) -> int:
    """Return a line's round; one without any stands alone, under a number that no round has."""
    number, line = numbered
    return line.get("round", -1 - number)


def _add(steps: Steps, line: Line, at: Moment) -> None:
    steps.tokens.append(line["tokens"])
    steps.seconds.append(at.seconds)
    steps.cost.append(at.cost)
    steps.loss.append(line["loss"])
    steps.own_tokens.append(line["tokens_per_s"] * line["step_s"])
    steps.tokens_per_s.append(line["tokens_per_s"])


def merge_steps(steps: Mapping[str, Steps]) -> Steps:
    """Return the steps of all islands, one island after the other."""
    whole = Steps()
    for one in steps.values():
        for field_name in ("tokens", "seconds", "cost", "loss", "own_tokens", "tokens_per_s"):
            getattr(whole, field_name).extend(getattr(one, field_name))
    return whole


def smooth(values: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Return the weighted mean of each value and its neighbours.

    At the beginning there are as many on either side as there are before, so that a steep one is not flattened.
    """
    x = np.asarray(values, dtype=np.float64)
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=np.float64)
    n = len(x)
    place = np.arange(n)
    reach = np.minimum(n // SMOOTH_PARTS // 2 + 1 if n >= SMOOTH_FROM else 0, place)
    sums, totals = (np.concatenate([[0.0], np.cumsum(part)]) for part in (x * w, w))
    first, last = place - reach, np.minimum(place + reach + 1, n)
    return (sums[last] - sums[first]) / (totals[last] - totals[first])


def smooth_over(x: Sequence[float | None], y: Sequence[float | None], weights: ArrayLike) -> tuple[Floats, Floats]:
    """Return x in order, each once, and the smoothed y there; points without either coordinate are left out."""
    rows = [row for row in zip(x, y, np.asarray(weights), strict=True) if None not in row[:2]]
    points = np.array(rows, dtype=np.float64).reshape(-1, 3)
    places, which = np.unique(points[:, 0], return_inverse=True)
    weight = np.bincount(which, points[:, 2], len(places))
    mean = np.bincount(which, points[:, 1] * points[:, 2], len(places)) / weight
    return places, smooth(mean, weight)


def whole_speed(files: RunFiles, commits: list[Commit]) -> tuple[list[float], list[float]]:
    """Return the speed of all islands together over the run, what they wait for included: seconds, tokens/s."""
    if files.run.island:
        points = [(commit.busy_s, line["tokens"]) for commit, line in zip(commits, files.rounds, strict=True)]
    else:
        points = [(line["seconds"], line["tokens"]) for line in files.metrics]
    every = max(1, len(points) // SPEED_POINTS)
    pairs = [(a, b) for a, b in pairwise([(0.0, 0), *points[every - 1 :: every]]) if b[0] > a[0]]
    return [b[0] for _, b in pairs], [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs]


def validations(
    files: RunFiles, busy_s: Mapping[int, float]
) -> dict[str, list[tuple[float, float, float | None, float]]]:
    """Return what was validated on the way, by set: tokens, seconds, cost, loss. What was done again counts last."""
    at: dict[int, tuple[float, float, float | None]] = {}
    for line in files.metrics:
        at[line["step"]] = (line["tokens"], busy_s.get(line.get("round", -1), line["seconds"]), line.get("cost"))
    found: dict[str, dict[int, tuple[float, float, float | None, float]]] = defaultdict(dict)
    for event in files.events:
        if event["event"] == "validation" and event.get("step") in at and event.get("loss") is not None:
            found[str(event.get("set"))][event["step"]] = (*at[event["step"]], event["loss"])
    return {name: [points[step] for step in sorted(points)] for name, points in found.items()}
