"""Many layouts at once, as arrays: what the cost formulas take."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from everyflop.spec.layout import Layout

SHARDINGS = ("none", "zero1", "zero2", "zero3")
RECOMPUTES = ("none", "selective", "full")


@dataclass(frozen=True, slots=True)
class Layouts:
    """Arrays of one length N, one entry for each layout."""

    tp: np.ndarray
    pp: np.ndarray
    vpp: np.ndarray
    cp: np.ndarray
    ep: np.ndarray
    etp: np.ndarray
    dp: np.ndarray
    sharding: np.ndarray
    """Index into SHARDINGS."""
    recompute: np.ndarray
    """Index into RECOMPUTES."""
    micro_batch: np.ndarray

    @classmethod
    def of(cls, layouts: Sequence[Layout]) -> "Layouts":
        """Gather layouts into arrays."""
        columns: dict[str, list[Any]] = {f.name: [getattr(layout, f.name) for layout in layouts] for f in fields(cls)}
        columns["sharding"] = [SHARDINGS.index(name) for name in columns["sharding"]]
        columns["recompute"] = [RECOMPUTES.index(name) for name in columns["recompute"]]
        return cls(**{name: np.asarray(column, dtype=np.int64) for name, column in columns.items()})

    def __len__(self) -> int:
        """Return the number of layouts."""
        return len(self.tp)

    def at(self, index: int) -> Layout:
        """Return one of them."""
        values: dict[str, Any] = {f.name: int(getattr(self, f.name)[index]) for f in fields(self)}
        values["sharding"] = SHARDINGS[values["sharding"]]
        values["recompute"] = RECOMPUTES[values["recompute"]]
        return Layout.model_validate(values)

    def take(self, indices: np.ndarray) -> "Layouts":
        """Return those at the indices, or where a mask is true."""
        return Layouts(**{f.name: getattr(self, f.name)[indices] for f in fields(self)})

    @property
    def devices(self) -> np.ndarray:
        """Devices of each island."""
        return self.tp * self.pp * self.cp * self.dp

    @property
    def edp(self) -> np.ndarray:
        """Replicas of each expert."""
        return np.maximum(self.tp * self.cp * self.dp // (self.ep * self.etp), 1)
