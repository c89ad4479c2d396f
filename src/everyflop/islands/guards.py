"""Judge the updates of a round before they are merged.

What is not finite, or starts from another anchor, is rejected always. An update whose norm for each root of a step is
far above both the island's own earlier ones and those of the others in the round is rejected, a pseudo-gradient less
far above is clipped. When there is no sound update at all, nothing is merged: the round is rolled back.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

REJECT_ABOVE, CLIP_ABOVE = 5.0, 2.5
"""Times the median. Norms of sound updates of one island vary by some tenths from round to round after the first few;
a batch of another domain doubles them."""

REJECT_GRADIENTS_ABOVE = 30.0
"""Gradients vary far more, and the merged one is clipped as in any run: only what cannot be a gradient is rejected, so
that exchanging gradients stays the same as training alone."""

FEWEST_EARLIER = 4
"""Rounds of an island before its own history counts."""

REMEMBERED = 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one update."""

    accepted: bool
    scale: float
    """What the update is multiplied by; below 1 it is clipped."""
    why: str
    """Empty for an update that is taken as it is."""


def judge(
    rates: Mapping[str, float], earlier: Mapping[str, list[float]], *, gradients: bool = False, outliers: bool = True
) -> dict[str, Verdict]:
    """Return a verdict on each island's update.

    `rates` are norms over the root of the steps in this round, `earlier` those of the rounds before. An outlier must
    be one against its own past and, where others took part, against them too: a batch that is hard for all is no fault.
    """
    verdicts = {name: Verdict(False, 0.0, "not finite") for name, rate in rates.items() if not math.isfinite(rate)}
    sound = {name: rate for name, rate in rates.items() if name not in verdicts}
    for name, rate in sound.items():
        times = _times_usual(name, rate, sound, earlier) if outliers else 1.0
        usual = f"{times:.3g} times the usual norm"
        if times > (REJECT_GRADIENTS_ABOVE if gradients else REJECT_ABOVE):
            verdicts[name] = Verdict(False, 0.0, usual)
        elif times > CLIP_ABOVE and not gradients:
            verdicts[name] = Verdict(True, CLIP_ABOVE / times, f"{usual}, clipped to {CLIP_ABOVE:g}")
        else:
            verdicts[name] = Verdict(True, 1.0, "")
    return verdicts


def _times_usual(name: str, rate: float, rates: Mapping[str, float], earlier: Mapping[str, list[float]]) -> float:
    """Return the smaller of: times the island's own median, times the median of the others in this round."""
    own = _times_own(name, rate, earlier)
    others = [other for peer, other in rates.items() if peer != name]
    median = statistics.median(others) if others else 0.0
    theirs = rate / median if median > 0 else None
    if own is None and len(others) == 1:
        [peer] = rates.keys() - {name}
        past = _times_own(peer, rates[peer], earlier)
        if past is None or past > CLIP_ABOVE:
            return 1.0  # neither island's past says which of the two is odd
    return min((times for times in (own, theirs) if times is not None), default=1.0)


def _times_own(name: str, rate: float, earlier: Mapping[str, list[float]]) -> float | None:
    """Return times the median of an island's own past; None where it has none."""
    own = earlier.get(name, [])
    median = statistics.median(own) if len(own) >= FEWEST_EARLIER else 0.0
    return rate / median if median > 0 else None
