"""Turn the updates of a round into one: check, judge, weigh, sum, and encode it for the way back."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from everyflop.islands.codec import Flat, Payload, behind, decode, encode_keeping, encoded_bytes
from everyflop.islands.guards import Verdict, judge
from everyflop.islands.merge import Work, coefficients, mean_steps, norm, token_shares, weighted_sum
from everyflop.islands.rounds import Round
from everyflop.spec.islands import IslandsSpec

NOTED = ("hash", "weights", "sequences", "reach", "sizes", "train_s", "round_s", "lost_s")
"""What a commit says of an update as the island said it."""

STATISTICS = "statistics of "
"""Before a kind of exchange: what the norms of statistics are remembered as."""


@dataclass(frozen=True, slots=True)
class Update:
    """What an island handed in. The payload is the encoded array and then the statistics."""

    island: str
    header: dict[str, Any]
    payload: memoryview
    whole: bool
    """Whether the payload arrived as it was sent."""

    @property
    def steps(self) -> int:
        """Optimizer steps behind it; 0 from an island that joined too late to train."""
        return self.header["steps"]

    @property
    def tokens(self) -> int:
        """Tokens behind it."""
        return self.header["tokens"]

    @property
    def samples(self) -> int:
        """Samples used up, in the order in which they were held."""
        return self.header["samples"]

    def array(self) -> Flat:
        """Return the update's numbers. Raises ValueError when the payload has another size."""
        facts = self.header
        size = len(self.payload) - encoded_bytes(facts["n_stats"], "fp32", facts["stats_dtype"])
        return decode(self.payload[:size], facts["compress"], facts["n"], facts["dtype"])

    def statistics(self) -> Flat:
        """Return what is agreed on beside: the sums of a step, or routers' statistics and mean squares by rows."""
        return behind(self.payload, self.header["n_stats"], self.header["stats_dtype"])


@dataclass(frozen=True, slots=True)
class Merged:
    """What a round comes to."""

    payload: Payload
    form: dict[str, Any]
    """What a payload is read with: how its array is compressed, how many statistics are behind it, and their dtype."""
    steps: int
    """By how many steps the run is further: the token-weighted mean of the islands'."""
    applied: bool
    """False when no update was sound: the anchor stays as it was."""
    verdicts: dict[str, Verdict]
    weights: dict[str, float]
    rates: dict[str, float]
    """Norms of the updates, over what they grow with; the same of the statistics beside them."""
    statistics_rates: dict[str, float]
    must_rejoin: dict[str, str]
    """Islands whose state is in doubt -> why: they take the others'."""
    residual: Mapping[str, Flat]
    """What rounding to integers left over, by the kind of exchange."""

    def rates_of(self, name: str, exchange: str) -> dict[str, float]:
        """Return an island's rates by what they are remembered as."""
        kinds = {exchange: self.rates, f"{STATISTICS}{exchange}": self.statistics_rates}
        return {f"{kind}/{name}": rates[name] for kind, rates in kinds.items()}

    def entry(self, update: Update) -> dict[str, Any]:
        """Return what a commit says of one island's update, apart from its samples."""
        name, facts = update.island, update.header
        verdict, rate = self.verdicts[name], self.rates.get(name)
        return {
            **{key: facts[key] for key in NOTED},
            **{"steps": update.steps, "tokens": update.tokens, "weight": self.weights.get(name, 0.0)},
            **{"rate": rate if rate is not None and math.isfinite(rate) else None},
            **{"accepted": verdict.accepted, "why": verdict.why},
            **{"sent_bytes": len(update.payload), "received_bytes": len(self.payload)},
        }


def merge_updates(
    updates: Mapping[str, Update],
    plan: Round,
    how: IslandsSpec,
    *,
    rates: Mapping[str, list[float]],
    residual: Mapping[str, Flat],
) -> Merged:
    """Merge the updates of one round; `rates` are of earlier rounds, `residual` is that of the last one merged."""
    trained = {name: updates[name] for name in sorted(updates) if updates[name].steps > 0}
    verdicts = {name: Verdict(True, 1.0, "") for name in updates if name not in trained}
    arrays, must_rejoin = _read(updates, trained)
    verdicts |= {name: Verdict(False, 0.0, why) for name, why in must_rejoin.items()}
    sums = plan.exchange == "gradients"
    sizes = {name: _size(trained[name], plan) for name in arrays}
    now = {name: norm(array) / sizes[name] for name, array in arrays.items()}
    beside = {name: norm(trained[name].statistics()) / (sizes[name] if sums else 1) for name in arrays}
    verdicts |= judge(now, _earlier(plan.exchange, now, rates), gradients=sums, outliers=how.guards)
    odd = judge(beside, _earlier(f"{STATISTICS}{plan.exchange}", now, rates), gradients=True, outliers=how.guards)
    verdicts |= {n: Verdict(False, 0.0, f"its statistics are {v.why}") for n, v in odd.items() if not v.accepted}
    must_rejoin |= {name: verdict.why for name, verdict in verdicts.items() if not verdict.accepted}
    sound = {name: arrays[name] for name in arrays if verdicts[name].accepted}
    if not sound:
        doubtful = must_rejoin if len(must_rejoin) < len(updates) else {}
        return Merged(b"", _form("fp32", np.zeros(0)), 0, False, verdicts, {}, now, beside, doubtful, residual)
    work = {name: Work(trained[name].tokens, trained[name].steps, trained[name].header["reach"]) for name in sound}
    # Gradients are parts of the whole batch's already; those of a lost part are made up for by the others.
    part = plan.sequences / sum(trained[name].samples for name in sound) if sums else 1.0
    factors = dict.fromkeys(sound, part) if sums else coefficients(work, how.merge)
    total = weighted_sum([(factors[name] * verdicts[name].scale, array) for name, array in sound.items()])
    shares = {name: 1.0 for name in sound} if sums else token_shares(work)
    each = [shares[name] * trained[name].statistics().astype(np.float64) for name in sound]
    stats = np.sum(each, axis=0).astype(trained[next(iter(sound))].header["stats_dtype"])
    payload, left = encode_keeping(total, how.compress, stats, residual=residual.get(plan.exchange))
    kept = {} if left is None else {plan.exchange: left}
    steps = max(1, round(mean_steps(work)))
    return Merged(payload, _form(how.compress, stats), steps, True, verdicts, factors, now, beside, must_rejoin, kept)


def _read(updates: Mapping[str, Update], trained: Mapping[str, Update]) -> tuple[dict[str, Flat], dict[str, str]]:
    """Return the numbers of those updates that can be merged, and why the others cannot."""
    agreed, alike = most_common([update.header["hash"] for update in updates.values()]), _weights_alike(updates)
    shapes = Counter(_shape(update) for update in trained.values())
    agreed_shape = max(sorted(shapes), key=lambda shape: shapes[shape], default=None)
    arrays: dict[str, Flat] = {}
    whys: dict[str, str] = {}
    for name, update in sorted(updates.items()):  # in one order everywhere: sums depend on it
        if update.header["hash"] != agreed:
            whys[name] = "its anchor is not that of the others"
        elif update.header["weights"] != alike[update.header["arithmetic"]]:
            whys[name] = "its weights are not those of others that round alike"
        elif name in trained and _shape(update) != agreed_shape:
            whys[name] = "its numbers are those of another model"
        elif not update.whole:
            whys[name] = "damaged on the way"
        elif name in trained and update.header["skipped"] == update.steps:
            whys[name] = "no loss or gradient of its steps was finite"
        elif name in trained:
            try:
                arrays[name] = update.array()
            except ValueError as error:
                whys[name] = str(error)
    return arrays, whys


def _weights_alike(updates: Mapping[str, Update]) -> dict[str, str]:
    """Return, for each way of rounding, the hash of the weights that most islands with it have."""
    found: dict[str, list[str]] = {}
    for update in updates.values():
        found.setdefault(update.header["arithmetic"], []).append(update.header["weights"])
    return {arithmetic: most_common(hashes) for arithmetic, hashes in found.items()}


def _earlier(kind: str, names: Iterable[str], rates: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {name: rates.get(f"{kind}/{name}", []) for name in names}


def _form(compress: str, stats: Flat) -> dict[str, Any]:
    return {"compress": compress, "n_stats": stats.size, "stats_dtype": stats.dtype.name}


def _size(update: Update, plan: Round) -> float:
    """Return what an update's norm grows with: its part of the batch, or the length of its steps and, as noise does,
    the root of their number over that part."""
    batches = update.samples / plan.sequences
    apart = update.steps * update.header["reach"]
    return batches if plan.exchange == "gradients" else apart / math.sqrt(batches)


def most_common(hashes: list[str]) -> str:
    """Return the hash that most islands have; among equals the first by name, so that everybody picks the same."""
    counts = Counter(hashes)
    return max(sorted(counts), key=lambda digest: counts[digest])


def _shape(update: Update) -> tuple[int, str, int, str]:
    facts = update.header
    return facts["n"], facts["dtype"], facts["n_stats"], facts["stats_dtype"]
