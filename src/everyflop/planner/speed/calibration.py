"""Correct the formulas by what was measured, and say how sure the result is.

log(measured / formula) is a Gaussian process: every component of a step may be off by a little everywhere, by more for
one architecture, one chip, one software, or a software on an architecture; and runs of like sizes share what is left.
So a measurement of a chip corrects its other predictions, most where their time goes into the same components, and a
chip that nobody measured gets a wider interval. Nothing here knows where a row was published.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

OUTLIER_SDS, ROBUST_ROUNDS = 2.0, 3
"""A measurement farther than this from what all others say of it is trusted less, until it no longer is."""

OFFSET_SDS = 3.0
"""A user's measurement farther than this from what was expected says that its chip as a whole is another."""

LEVELS = ("everything", "architecture", "chip", "stack", "software", "architecture and software")


@dataclass(frozen=True, slots=True)
class Tags:
    """What a case belongs to; arrays of str with one entry for each case, or one for all."""

    chip: np.ndarray
    architecture: np.ndarray
    software: np.ndarray
    stack: np.ndarray
    kind: np.ndarray
    """moe or dense."""

    @classmethod
    def one(cls, chip: str, architecture: str, software: str, stack: str, kind: str) -> "Tags":
        """Return the tags of one case. A chip without an architecture is one of its own."""
        return cls(*(np.array([text]) for text in (chip, architecture or chip, software, stack, kind)))

    @classmethod
    def stack_up(cls, tags: Sequence["Tags"]) -> "Tags":
        """Put tags one after the other."""
        return cls(*(np.concatenate([getattr(t, f.name) for t in tags]) for f in fields(cls)))

    def take(self, indices: np.ndarray) -> "Tags":
        """Return those at the indices."""
        return Tags(*(getattr(self, f.name)[indices] for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Deviations:
    """Standard deviations of log speed: for each of LEVELS overall and of a component's whole time, and of the rest."""

    overall: tuple[float, ...]
    component: tuple[float, ...]
    alike: float
    """Shared by cases of like sizes on the same stack."""
    alike_distance: float
    """Distance in sizes over which that fades."""
    noise: float
    """Between two measurements of the same thing."""
    moe_noise: float
    """The same for models with experts: routing, dispatch and versions of both vary more."""

    def noise_of(self, tags: Tags) -> np.ndarray:
        """Return the standard deviation of a measurement of each case."""
        return np.where(tags.kind == "moe", self.moe_noise, self.noise)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Cases as the calibration sees them."""

    tags: Tags
    shares: np.ndarray
    sizes: np.ndarray

    @classmethod
    def stack_up(cls, parts: Sequence["Evidence"]) -> "Evidence":
        """Put evidence one after the other."""
        return cls(
            Tags.stack_up([part.tags for part in parts]),
            np.concatenate([part.shares for part in parts]),
            np.concatenate([part.sizes for part in parts]),
        )

    def take(self, indices: np.ndarray) -> "Evidence":
        """Return the cases at the indices."""
        return Evidence(self.tags.take(indices), self.shares[indices], self.sizes[indices])


def covariance(a: Evidence, b: Evidence, d: Deviations) -> np.ndarray:
    """Return the prior covariance (A, B) of log(measured / formula), without noise."""
    overall, component, kin = _by_tags(a.tags, b.tags, d)
    total = _by_sizes(a.sizes, b.sizes, d)
    total *= kin
    total += component * (a.shares @ b.shares.T)
    return total + overall


def _by_tags(a: Tags, b: Tags, d: Deviations) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the covariance of whole steps and of a component's whole time, and whether sizes matter too."""
    levels = list(zip(_same(a, b), d.overall, d.component, strict=True))
    overall = sum((same * overall**2 for same, overall, _ in levels), np.zeros((1, 1)))
    component = sum((same * component**2 for same, _, component in levels), np.zeros((1, 1)))
    return overall, component, (a.stack[:, None] == b.stack) & (a.kind[:, None] == b.kind)


def _by_sizes(a: np.ndarray, b: np.ndarray, d: Deviations) -> np.ndarray:
    return np.exp(_square_distance(a, b) / (-2 * d.alike_distance**2)) * d.alike**2


def _same(a: Tags, b: Tags) -> list[np.ndarray]:
    """Return for each of LEVELS where a and b belong to the same."""
    architecture = a.architecture[:, None] == b.architecture
    software = a.software[:, None] == b.software
    everything = np.ones((1, 1), dtype=bool)
    chip = a.chip[:, None] == b.chip
    return [everything, architecture, chip, a.stack[:, None] == b.stack, software, architecture & software]


def _square_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    square = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.maximum(square, 0.0)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Measurements, and what they say of other cases."""

    deviations: Deviations
    measured: Evidence
    residual: np.ndarray
    """log(measured / formula) of each measurement."""
    noise: np.ndarray
    """Standard deviation of each measurement."""
    inverse: np.ndarray
    """Of the measurements' covariance."""
    offsets: Mapping[str, float] = field(default_factory=dict)
    """Chip -> standard deviation of what it may be off by as a whole, beyond the deviations: of chips that a user
    measured far from where they were expected."""

    @classmethod
    def fit(
        cls, deviations: Deviations, measured: Evidence, residual: np.ndarray, noise: np.ndarray | None = None
    ) -> "Calibration":
        """Condition on measurements; noise adds to that of every measurement, such as what blank cells leave open."""
        prior = covariance(measured, measured, deviations)
        variance = deviations.noise_of(measured.tags) ** 2 + (0 if noise is None else noise**2)
        inverse = np.linalg.inv(prior + np.diag(variance))
        for _ in range(ROBUST_ROUNDS):
            alone = 1 / np.diag(inverse)  # variance of a row given all others, and below, how far off it is
            surprise = (inverse @ residual * alone) ** 2 / OUTLIER_SDS**2 - alone
            variance = variance + np.maximum(surprise, 0.0)
            inverse = np.linalg.inv(prior + np.diag(variance))
        return cls(deviations, measured, residual, np.sqrt(variance), inverse)

    def also(self, measured: Evidence, residual: np.ndarray) -> "Calibration":
        """Return a calibration that knows a user's measurements too.

        Their noise is that of a repeat. A measurement beyond OFFSET_SDS of what was expected is believed all the same:
        its chip as a whole may be off by that much, and says little of others then.
        """
        everything = Evidence.stack_up([self.measured, measured])
        variance = np.concatenate([self.noise, np.full(len(residual), self.deviations.noise)]) ** 2
        offsets = {**self.offsets, **self._surprises(measured, residual)}
        residuals = np.concatenate([self.residual, residual])
        known = replace(self, measured=everything, residual=residuals, noise=np.sqrt(variance), offsets=offsets)
        return replace(known, inverse=np.linalg.inv(known.covariance(everything, everything) + np.diag(variance)))

    def _surprises(self, measured: Evidence, residual: np.ndarray) -> dict[str, float]:
        mean, sd = self.correct(measured)
        far = np.abs(residual - mean)
        chips = measured.tags.chip
        return {
            str(chip): float(far[chips == chip].max())
            for chip in np.unique(chips)
            if (far > OFFSET_SDS * sd)[chips == chip].any()
        }

    def covariance(self, a: Evidence, b: Evidence) -> np.ndarray:
        """Return the prior covariance (A, B), with what single chips may be off by."""
        same_chip = a.tags.chip[:, None] == b.tags.chip
        return covariance(a, b, self.deviations) + self._offset_variance(a)[:, None] * same_chip

    def _offset_variance(self, cases: Evidence) -> np.ndarray:
        return np.array([self.offsets.get(str(chip), 0.0) ** 2 for chip in cases.tags.chip])

    def correct(self, cases: Evidence) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of log(actual / formula) of each case."""
        mean, explained = (self._of_one_kind if len(cases.tags.chip) == 1 else self._of_any)(cases)
        prior = self._own_variance(cases)
        return mean, np.sqrt(np.maximum(prior - explained, 0.0) + self.deviations.noise_of(cases.tags) ** 2)

    def _of_any(self, cases: Evidence) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean of each case, and the variance that measurements explain."""
        known = self.covariance(cases, self.measured)
        return known @ (self.inverse @ self.residual), np.einsum("ij,ij->i", known @ self.inverse, known)

    def _of_one_kind(self, cases: Evidence) -> tuple[np.ndarray, np.ndarray]:
        """Return the same for cases with the same tags, such as all layouts of a pool, far sooner.

        Their covariance with measurements is their shares times what is the same for all (P), and what goes by sizes,
        which is nothing but for measurements of the same stack and kind.
        """
        overall, component, kin = _by_tags(cases.tags, self.measured.tags, self.deviations)
        same_chip = cases.tags.chip[:, None] == self.measured.tags.chip
        P = np.vstack([overall + self._offset_variance(cases) * same_chip, component * self.measured.shares.T])
        shares, near = np.column_stack([np.ones(len(cases.shares)), cases.shares]), np.flatnonzero(kin[0])
        sizes = _by_sizes(cases.sizes, self.measured.sizes[near], self.deviations)
        inverse, weights = self.inverse, self.inverse @ self.residual
        by_shares = shares @ (P @ inverse @ P.T) + 2 * sizes @ (inverse[near] @ P.T)
        by_sizes = sizes @ inverse[np.ix_(near, near)]
        explained = np.einsum("ij,ij->i", by_shares, shares) + np.einsum("ij,ij->i", by_sizes, sizes)
        return shares @ (P @ weights) + sizes @ weights[near], explained

    def joint(self, cases: Evidence) -> np.ndarray:
        """Return the posterior covariance (N, N) of log(actual / formula) among cases: errors that they share."""
        known = self.covariance(cases, self.measured)
        return self.covariance(cases, cases) - known @ self.inverse @ known.T

    def knows(self, chip: str) -> bool:
        """Whether the chip itself was measured."""
        return bool((self.measured.tags.chip == chip).any())

    def _own_variance(self, cases: Evidence) -> np.ndarray:
        d = self.deviations
        overall = sum(value**2 for value in d.overall) + d.alike**2
        components = sum(value**2 for value in d.component) * (cases.shares**2).sum(1)
        return overall + components + self._offset_variance(cases)
