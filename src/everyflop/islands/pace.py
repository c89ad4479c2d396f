"""How many sequences an island's next step takes, so that whole steps fill its time until the bell. Pure."""

FORGET = 0.9
"""Weight of what was known of step times before, at each new one."""

DOUBT = 0.2
"""How firmly a step's time is taken to be proportional to its sequences, until steps of several sizes say otherwise:
as steps that differ by this share of their size. Times of equal steps differ by a fifth on a shared machine, and say
nothing of sizes then."""

LEAST_SLOPE = 0.5
"""Of a step's time, at least so much is proportional to its sequences: the last step would grow without bound."""


class StepTime:
    """The time of a step as a + b n for n sequences, fitted to the steps done; older ones count less."""

    def __init__(self) -> None:
        self._sums = [0.0] * 5
        """Of 1, n, s, n n and n s over the steps, by their weights."""

    @property
    def known(self) -> bool:
        """Whether any step was noted."""
        return self._sums[0] > 0

    def note(self, sequences: int, seconds: float) -> None:
        """Take in a step."""
        new = (1.0, sequences, seconds, sequences**2, sequences * seconds)
        self._sums = [FORGET * old + value for old, value in zip(self._sums, new, strict=True)]

    def seconds(self, sequences: float) -> float:
        """Return how long a step of so many sequences takes."""
        n, s, b = self._line()
        return s + b * (sequences - n)

    def sequences(self, seconds: float) -> float:
        """Return how many sequences a step of that length takes; it may be below 1, and below 0."""
        n, s, b = self._line()
        return n + (seconds - s) / b

    def _line(self) -> tuple[float, float, float]:
        """Return the mean size, the mean time and b: ridge regression towards a = 0, and never above that."""
        n, s, nn, ns = (total / self._sums[0] for total in self._sums[1:])
        proportional, doubt = s / n, (DOUBT * n) ** 2
        spread, slope = nn - n * n, ns - n * s
        b = (slope + doubt * proportional) / (spread + doubt)
        return n, s, min(max(b, LEAST_SLOPE * proportional), proportional)


def next_sequences(step_time: StepTime, left_s: float, share: int, *, unit: int = 1, last_unit: int = 1) -> int:
    """Return the size of the next step with left_s until the bell; 0: no step ends near enough to it.

    The time that is left is cut into whole steps of about `share` sequences each, and their size is what fills it: in
    whole units, of which the last step of a round has smaller ones.
    """
    steps = round(left_s / step_time.seconds(share))
    if steps < 1:
        return 0
    unit = unit if steps > 1 else last_unit
    return max(1, round(step_time.sequences(left_s / steps) / unit)) * unit
