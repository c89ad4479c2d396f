"""A run beside a control: what it cost the loss to move to other islands on the way.

The control is the same run that did not move: same seed, data and schedule. Differences are signed, this run minus the
control, at the same numbers of tokens.
"""

from dataclasses import dataclass

import numpy as np

from everyflop.base.errors import UsageError
from everyflop.base.units import short_count
from everyflop.spec.dotted import dotted
from everyflop.train.report_curves import Floats, merge_steps, place_steps, smooth_over, validations
from everyflop.train.report_files import Line, RunFiles
from everyflop.train.report_html import paragraph, section, table

POINTS = 12
"""At which the two training losses are compared, evenly over the tokens that both have."""

COMPARED = ("model", "train", "optim", "router", "data", "run.seed")
"""What a control should have in common with a run."""


@dataclass(frozen=True, slots=True)
class Move:
    """A round with islands that had not taken part before."""

    tokens: int
    """Of the run, before that round."""
    came: list[str]
    went: list[str]
    """Islands that take no part any more from there on."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Two losses after the same tokens."""

    what: str
    tokens: float
    here: float
    there: float

    @property
    def signed(self) -> float:
        """This run's loss minus the control's."""
        return self.here - self.there


@dataclass(frozen=True, slots=True)
class Comparison:
    """A run beside a control."""

    control: str
    moves: list[Move]
    differences: list[Difference]
    other_settings: list[str]
    """Keys in which the two differ and should not."""

    def mean(self, *, after: bool) -> float | None:
        """Return the mean signed difference of the training loss after the last move, or before the first one."""
        if not self.moves:
            return None
        first, last = self.moves[0].tokens, self.moves[-1].tokens
        found = [
            one.signed
            for one in self.differences
            if one.what == TRAINING and (one.tokens > last if after else one.tokens <= first)
        ]
        return float(np.mean(found)) if found else None


TRAINING = "training, smoothed"


def moves_of(rounds: list[Line]) -> list[Move]:
    """Return where islands took part that had not before."""
    found: list[Move] = []
    seen = set(rounds[0]["members"]) if rounds else set()
    for number, line in enumerate(rounds):
        if came := set(line["members"]) - seen:
            later = {name for one in rounds[number:] for name in one["members"]}
            found.append(Move(rounds[number - 1]["tokens"], sorted(came), sorted(seen - later)))
            seen |= came
    return found


def compare(files: RunFiles, control: RunFiles, name: str) -> Comparison:
    """Return a run beside a control. Raises UsageError when there are no tokens that both have trained."""
    (here_x, here), (there_x, there) = _training(files), _training(control)
    if not len(here_x) or not len(there_x) or min(here_x[-1], there_x[-1]) <= max(here_x[0], there_x[0]):
        raise UsageError(f"this run and {name} have no steps after the same numbers of tokens to compare.")
    differences = [
        Difference(TRAINING, float(at), float(np.interp(at, here_x, here)), float(np.interp(at, there_x, there)))
        for at in np.linspace(max(here_x[0], there_x[0]), min(here_x[-1], there_x[-1]), POINTS)
    ]
    theirs = validations(control, {})
    for what, points in validations(files, {}).items():
        known = {tokens: loss for tokens, _, _, loss in theirs.get(what, [])}
        differences += [
            Difference(what, tokens, loss, known[tokens]) for tokens, _, _, loss in points if tokens in known
        ]
    return Comparison(name, moves_of(files.rounds), differences, _other_settings(files, control))


def _training(files: RunFiles) -> tuple[Floats, Floats]:
    whole = merge_steps(place_steps(files.metrics, {}))
    return smooth_over(whole.tokens, whole.loss, whole.own_tokens)


def _other_settings(files: RunFiles, control: RunFiles) -> list[str]:
    one, other = (dotted(each.run.model_dump(mode="json")) for each in (files, control))
    differ = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
    return [key for key in differ if key.startswith(COMPARED)]


def against_section(comparison: Comparison) -> str:
    """Return the page's part on a comparison."""
    parts = [paragraph(f"Signed differences: this run minus {comparison.control}, after the same tokens.")]
    if comparison.other_settings:
        listed = ", ".join(comparison.other_settings)
        parts.append(paragraph(f"The two also differ in {listed}, so this is no comparison of devices alone."))
    for move in comparison.moves:
        went = f" in place of {', '.join(move.went)}" if move.went else ""
        parts.append(paragraph(f"After {short_count(move.tokens)} tokens it moved to {', '.join(move.came)}{went}."))
    before, after = comparison.mean(after=False), comparison.mean(after=True)
    if before is not None and after is not None:
        parts.append(paragraph(f"Mean difference of the training loss: {before:+.4f} before, {after:+.4f} after."))
    rows = [
        (one.what, f"{one.tokens:,.0f}", f"{one.here:.4f}", f"{one.there:.4f}", f"{one.signed:+.4f}")
        for one in comparison.differences
    ]
    headings = ("loss", "tokens", "this run", "the control", "difference")
    return section(f"Against {comparison.control}", *parts, table(headings, rows))
