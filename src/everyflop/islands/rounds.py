"""What the islands do in a round: how many steps of which batch, for how long, and with which share of it. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from everyflop.islands.merge import reach
from everyflop.islands.shares import batch_shares
from everyflop.islands.stretch import stretch
from everyflop.optim.batch import batch_tokens_at
from everyflop.spec.frontier import FRONTIER, FRONTIER_STEPS, measured_extra_tokens
from everyflop.spec.islands import IslandsSpec
from everyflop.spec.train import OptimSpec, TrainSpec

RESERVE = 1.3
"""Samples that an island holds in a round by the clock, over what it is expected to use."""

WORTH_JOINING = 0.2
"""Share of a round that must be left for an island to join it; otherwise it waits for the next one."""

LONGEST = 24
"""Mean steps of the longest rounds whose cost in learning was measured with and without a synchronous start."""

FOUR_OVER_TWO = FRONTIER[0.2][4][8] / FRONTIER[0.2][2][8]
"""What twice as many islands multiply that by."""

Exchange = Literal["gradients", "weights"]


@dataclass(frozen=True, slots=True)
class Round:
    """The plan of one round."""

    exchange: Exchange
    """Gradients at every step, or pseudo-gradients at the end of the round."""
    steps: int
    seconds: float | None
    """When the bell rings, after the round's start; None where steps are counted and not time."""
    sequences: int
    """In a step of all islands together."""
    shares: dict[str, int]
    """Each island's sequences of it."""
    ahead: int = 0
    """Steps that islands may train ahead of the next round while their updates travel."""

    def to_json(self) -> dict[str, Any]:
        """Return what a commit says of the plan, as plain JSON."""
        sizes = {"planned_steps": self.steps, "sequences": self.sequences, "ahead": self.ahead}
        return {"exchange": self.exchange, **sizes}

    def holdings(self, available: int) -> dict[str, int]:
        """Return how many samples each island should hold in the round, of those that are available to all.

        By the clock it is more than is expected of them; where there are too few for that, all of what there is, by
        shares: nobody runs out before the others, and the last round uses everything.
        """
        exact = {name: (self.steps + self.ahead) * share for name, share in self.shares.items()}
        if self.seconds is None:
            return exact
        reserved = {
            name: math.ceil(RESERVE * self.steps * share) + (1 + self.ahead) * share
            for name, share in self.shares.items()
        }
        if sum(reserved.values()) <= available:
            return reserved
        taking_part = {name: float(share) for name, share in self.shares.items() if share}
        return {**dict.fromkeys(self.shares, 0), **batch_shares(taking_part, available)}

    def reach(self, sequences: int) -> float:
        """Return how long steps on so many sequences are among the islands that began the round; see merge.py."""
        return reach(sequences / self.sequences, sum(share > 0 for share in self.shares.values()))

    def late_part(self, gone_s: float, speed_share: float) -> tuple[int, int]:
        """Return sequences and steps for an island that joins a round gone_s after its start.

        Nothing is left for it in a round by steps, and near the end of one by the clock.
        """
        left = 0.0 if self.seconds is None else 1 - gone_s / self.seconds
        if left < WORTH_JOINING:
            return 0, 0
        return max(1, round(self.sequences * speed_share)), max(1, int(left * self.steps))


def plan_round(
    speeds: Mapping[str, float],
    train: TrainSpec,
    optim: OptimSpec,
    islands: IslandsSpec,
    *,
    tokens_done: int,
    samples_left: int,
    last: Mapping[str, Any] | None = None,
) -> Round:
    """Plan the round that begins after tokens_done tokens for islands of these speeds, in tokens/s.

    `last` is the commit before it. The last round of a run is as short as what is left; the last step of all may be
    smaller than a batch.
    """
    sequences = min(batch_tokens_at(tokens_done, train) // train.seq_len, samples_left)
    exchange: Exchange = "gradients" if is_synchronous(tokens_done, train, islands) else "weights"
    batch_tokens = sequences * train.seq_len
    step_s = batch_tokens / sum(speeds.values())
    by_clock = exchange == "weights" and islands.rounds == "clock"
    steps = 1
    if exchange == "weights":
        if by_clock and islands.round_s is not None:
            steps = max(1, round(islands.round_s / step_s))
        elif islands.steps == "auto":
            penalty = penalty_of_rounds(len(speeds), islands.sync_share)
            mean = best_steps(lost_s(last), step_s, train.tokens / batch_tokens, penalty)
            steps = stretched_steps(mean, tokens_done, train, optim, islands)
        else:
            steps = stretched_steps(islands.steps, tokens_done, train, optim, islands)
    steps = min(steps, max(1, round(samples_left / sequences)))
    seconds = min(islands.round_s or math.inf, steps * step_s) if by_clock else None
    in_round = steps * sequences
    may_go_ahead = islands.overlap and exchange == "weights" and samples_left >= 3 * in_round
    ahead = max(1, steps // 2) if may_go_ahead else 0  # none at the end, where all samples must be used
    shares = batch_shares(speeds, sequences)
    return Round(exchange, steps, seconds, sequences, shares, ahead)


def stretched_steps(mean_steps: int, tokens_done: int, train: TrainSpec, optim: OptimSpec, islands: IslandsSpec) -> int:
    """Return the steps of a round where rounds have that many on average."""
    return max(1, round(mean_steps * stretch(tokens_done, train, optim, sync_share=islands.sync_share)))


def best_steps(exchange_s: float, step_s: float, run_steps: float, penalty: float) -> int:
    """Return the steps H of a round that lose least, where an exchange takes exchange_s and a step step_s.

    exchange_s / (H step_s) of the time is lost to exchange, and penalty * H / run_steps of the tokens to learning
    apart; their sum is least where both are the same.
    """
    return max(2, round(math.sqrt(exchange_s / step_s * run_steps / penalty)))


def penalty_of_rounds(islands: int, sync_share: float) -> float:
    """Return the extra tokens for each share of the run's steps that a round has, after such a start.

    That of two islands is by the longest rounds that were measured. Each doubling multiplies it as the one that was
    measured did; one that is left alone goes on as if it were two.
    """
    of_two = measured_extra_tokens(LONGEST, sync_share)[2] / (LONGEST / FRONTIER_STEPS)
    return of_two * FOUR_OVER_TWO ** (math.log2(max(islands, 2)) - 1)


def lost_s(last: Mapping[str, Any] | None) -> float:
    """Return what an exchange took, by the commit before: the least time that an island spent without training.

    Islands that validate or save spend more, and not on the exchange; one that has just joined has none behind it, so
    that its round is all its time.
    """
    members = last["members"].values() if last else ()
    before = [m for m in members if m["steps"] and m["lost_s"] + m["train_s"] > m["round_s"] + 1e-6]
    return min((member["lost_s"] for member in before), default=0.0)


def is_synchronous(tokens_done: int, train: TrainSpec, islands: IslandsSpec) -> bool:
    """Whether gradients are exchanged at every step at this point of a run."""
    return islands.steps == 1 or tokens_done < islands.sync_share * train.tokens


def total_samples(train: TrainSpec) -> int:
    """Return how many samples a run uses: whole batches, as one process alone would."""
    done = 0
    while done < train.batch_warmup_tokens and done + batch_tokens_at(done, train) <= train.tokens:
        done += batch_tokens_at(done, train)
    full = batch_tokens_at(max(done, train.batch_warmup_tokens), train)
    if done >= train.batch_warmup_tokens:
        done += (train.tokens - done) // full * full
    return done // train.seq_len
