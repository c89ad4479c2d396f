"""An island's replica between rounds: anchor, outer step and moments, and how they go to an island that joins.

The anchor is what all islands agreed on. It is a copy while weights move on from it; while gradients are exchanged at
every step the weights themselves are the anchor. Unlike devices round the optimizer's step differently then, so the
anchor is known by the hash of what was agreed, and by that of its own numbers from the first round apart on.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from everyflop.backend.device import arithmetic
from everyflop.islands.checksum import checksum
from everyflop.islands.codec import Flat, bytes_of
from everyflop.islands.flat import flatten, moved_from, unflatten_into
from everyflop.islands.member import Standing, State
from everyflop.islands.merge import OuterStep
from everyflop.islands.wire import Header
from everyflop.optim.optimizer import MOMENTS, optimizer_steps, optimizer_tensors, restore_optimizer
from everyflop.optim.part import Rows, row_squares, scale_momentum, scale_row_squares
from everyflop.spec.islands import IslandsSpec
from everyflop.train.router_vector import Vector, routers_from_vector, routers_to_vector
from everyflop.train.session import Session


class Replica:
    """One island's weights and what they were at the last commit. `lock` is held while they change."""

    def __init__(self, session: Session, how: IslandsSpec):
        self.session = session
        self.parameters = [p for p in session.model.parameters() if p.requires_grad]
        self.arithmetic = arithmetic(self.parameters[0].device)
        self.outer = OuterStep(how.outer_lr, how.outer_momentum)
        self.lock = threading.Lock()
        self.round = 0
        self.record: dict[str, Any] | None = None
        self.anchor: Flat | None = None
        self.residual: dict[str, Flat] = {}
        """What rounding to integers left out so far, by the kind of exchange that the last one was."""
        self.routers: Vector = routers_to_vector(session)
        self.part = 1.0
        """Share of the whole batch that the momentum is of."""
        self.reach = 1.0
        """How long steps are, over the schedule's."""
        self.squares = self.row_squares()
        """Mean squares by rows at the anchor, which all islands agreed on."""
        self.own_squares: Rows | None = None
        """This island's own mean squares by rows when it handed in; None between rounds."""
        self.own_routers: Vector | None = None
        """The same of the routers' state."""
        self.hash = self.weights = ""
        """Of the anchor: by what was agreed, and by its own numbers."""
        self.settle()

    @property
    def standing(self) -> Standing:
        """Where the island stands, as the coordinator asks."""
        return Standing(self.round, self.hash, self.record, self.arithmetic)

    def settle(self, agreed: str = "") -> None:
        """Take the weights as they are for the anchor, known by `agreed`, or else by its own numbers.

        The lock is held, or nobody else knows this replica yet.
        """
        self.anchor = None
        self.routers = routers_to_vector(self.session)
        self.weights = _hash(flatten(self.parameters), self.routers)
        self.hash = agreed or self.weights

    def anchor_now(self) -> Flat:
        """Return the anchor; from now on weights may move away from it."""
        if self.anchor is None:
            self.anchor, self.squares = flatten(self.parameters), self.row_squares()
        return self.anchor

    def part_from_others(self) -> None:
        """Begin to train apart from the others: from the anchor, which must be the same in every bit from now on."""
        self.anchor_now()
        self.hash = self.weights

    def train_on(self, part: float, reach: float) -> None:
        """Train on this share of the whole batch from now on, with steps of this length over the schedule's.

        Momentum becomes that share of the whole batch's, and steps done ahead of the round as long as it has them.
        """
        with self.lock:
            scale_momentum(self.session.optimizer, part / self.part)
            if self.anchor is not None and reach != self.reach:
                ahead = moved_from(self.anchor, self.parameters)
                ahead *= reach / self.reach
                unflatten_into(self.anchor - ahead, self.parameters)
            self.part, self.reach = part, reach

    def hand_in(self, steps: int) -> tuple[Flat, Flat]:
        """Return what to hand in after so many steps of a round: how far the weights moved, and statistics.

        Statistics are the routers' state, and the mean squares by rows that the whole batch would have if the other
        islands' gradients were like this one's: the mean of that over islands, weighted by their parts, is the whole
        batch's. They are as wide as the weights: what is fp32 in memory needs no more on the way.
        """
        moved = moved_from(self.anchor_now(), self.parameters)
        own, self.own_routers = self.row_squares(), routers_to_vector(self.session)
        self.own_squares = own
        kept = np.minimum(self.squares * self._decay(steps), own)
        statistics = np.concatenate([self.own_routers, kept + (own - kept) / self.part])
        return moved, statistics.astype(moved.dtype)

    def move_to(self, anchor: Flat, statistics: Flat, *, ahead: int = 0) -> None:
        """Agree on another anchor, with statistics as in `hand_in`, which was `ahead` steps ago. The lock is held."""
        routers, squares = np.split(statistics.astype(np.float64), [self.routers.size])
        late = None if self.own_routers is None else routers_to_vector(self.session) - self.own_routers
        self._place(anchor, routers)
        if ahead and late is not None:
            routers_from_vector(self.session, self.routers + late)
        now = self.row_squares()
        own = now if self.own_squares is None else self.own_squares
        agreed = np.maximum(now + (squares - own) * self._decay(ahead), 0)
        scale_row_squares(self.session.optimizer, self.parameters, now, agreed)
        self.squares, self.own_squares, self.own_routers = squares, None, None

    def go_back(self) -> None:
        """Go back to the anchor: what was trained since is lost. The lock is held."""
        if self.anchor is not None:
            agreed = self.hash
            self._place(self.anchor, self.routers)
            self.hash = agreed
            self._raise_squares()
        self.own_squares = self.own_routers = None
        self.note_progress()

    def squares_now(self) -> Rows:
        """Return the mean squares by rows at the anchor."""
        return self.row_squares() if self.anchor is None else self.squares

    def row_squares(self) -> Rows:
        """Return the optimizer's mean squares by rows."""
        return row_squares(self.session.optimizer, self.parameters)

    def _decay(self, steps: int) -> float:
        return self.session.settled.run.optim.betas[1] ** steps

    def _raise_squares(self) -> None:
        """Bring mean squares up to those agreed on, and never down: momentum is of later steps, and would burst."""
        now = self.row_squares()
        scale_row_squares(self.session.optimizer, self.parameters, now, np.maximum(now, self.squares))

    def _place(self, anchor: Flat, routers: Vector) -> None:
        unflatten_into(anchor, self.parameters)
        routers_from_vector(self.session, routers, before=self.routers)
        self.anchor, self.routers = anchor, routers_to_vector(self.session)
        self.hash = self.weights = _hash(anchor, self.routers)

    @contextlib.contextmanager
    def at_anchor(self) -> Iterator[None]:
        """Be at the anchor while the block runs: weights that were trained ahead of a round are put back after it."""
        weights, routers = flatten(self.parameters), routers_to_vector(self.session)
        if self.anchor is not None:
            unflatten_into(self.anchor, self.parameters)
            routers_from_vector(self.session, self.routers)
        yield
        if self.anchor is not None:
            unflatten_into(weights, self.parameters)
            routers_from_vector(self.session, routers)

    def give(self) -> State:
        """Return anchor, outer momentum and inner moments for an island that joins. Called from another thread."""
        with self.lock:
            moments = optimizer_tensors(self.session.optimizer)
            anchor = self.anchor if self.anchor is not None else flatten(self.parameters)
            parts = {"anchor": anchor, "routers": self.routers, "squares": self.squares_now()}
            if self.outer.buffer is not None:
                parts["outer"] = self.outer.buffer
            for moment in MOMENTS if moments else ():
                parts[moment] = flatten([tensor for name, tensor in moments.items() if name.startswith(f"{moment}.")])
            header = {
                "round": self.round,
                "record": self.record,
                "hash": self.hash,
                "optimizer_steps": optimizer_steps(self.session.optimizer),
                "part": self.part,
                "parts": {name: [part.size, part.dtype.name] for name, part in parts.items()},
            }
        return header, b"".join(part.tobytes() for part in parts.values())

    def take(self, header: Header, payload: memoryview) -> None:
        """Become the island whose state this is. Raises ValueError when the state is not of this model."""
        parts: dict[str, Flat] = {}
        for name, (size, dtype) in header["parts"].items():
            n_bytes = size * np.dtype(dtype).itemsize
            parts[name] = np.frombuffer(payload[:n_bytes], dtype=dtype).copy()
            payload = payload[n_bytes:]
        with self.lock:
            unflatten_into(parts["anchor"], self.parameters)
            routers_from_vector(self.session, parts["routers"].astype(np.float64))
            self.outer.buffer = parts.get("outer")
            if header["optimizer_steps"]:
                self._take_moments(parts, header["optimizer_steps"])
            self.round, self.record, self.residual = header["round"], header["record"], {}
            self.part = header["part"]
            self.settle(header["hash"])
            self.anchor_now()
            self.squares = parts["squares"].astype(np.float64, copy=False)
            self._raise_squares()
            self.note_progress()

    def _take_moments(self, parts: dict[str, Flat], steps: int) -> None:
        groups = self.session.optimizer.param_groups
        named = [pair for group in groups for pair in zip(group["param_names"], group["params"], strict=True)]
        tensors = {f"{moment}.{name}": p.detach().new_empty(p.shape) for moment in MOMENTS for name, p in named}
        for moment in MOMENTS:
            unflatten_into(parts[moment], [t for name, t in tensors.items() if name.startswith(f"{moment}.")])
        restore_optimizer(self.session.optimizer, tensors, steps=steps)

    def note_progress(self) -> None:
        """Bring the session's counters to the last commit."""
        if self.record is not None:
            progress = self.session.progress
            progress.step, progress.tokens = self.record["step"], self.record["tokens"]
            progress.samples, progress.seconds = self.record["samples"], self.record["busy_s"]


def _hash(anchor: Flat, routers: Vector) -> str:
    return checksum(bytes_of(anchor), bytes_of(routers))
