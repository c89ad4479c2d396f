"""How one replica of a model lies on devices: the parallel degrees and what trades memory for time."""

from typing import Literal

from pydantic import Field

from everyflop.spec.base import Count, Misfit, Spec

Sharding = Literal["none", "zero1", "zero2", "zero3"]
"""What data-parallel ranks divide among them: nothing, optimizer state, gradients too, weights too (FSDP)."""

Recompute = Literal["none", "selective", "full"]
"""What the backward pass computes again: nothing, attention's inner part, or each layer from its input."""


class Layout(Spec):
    """Parallel degrees inside one island. A pipeline stage is tp x cp x dp devices, the island pp of them."""

    tp: Count = 1
    """Tensor parallel: each matrix of attention and dense layers lies on this many devices."""
    pp: Count = 1
    """Pipeline stages."""
    vpp: Count = 1
    """Model chunks on each stage (interleaved 1F1B); 1 is plain 1F1B."""
    cp: Count = 1
    """Context parallel: a sequence lies on this many devices."""
    ep: Count = 1
    """Expert parallel: the experts of a layer lie on this many groups of etp devices, folded into tp x cp x dp."""
    etp: Count = 1
    """Tensor parallel inside each expert."""
    dp: Count = 1
    """Data parallel replicas."""
    sharding: Sharding = "zero1"
    recompute: Recompute = "none"
    micro_batch: Count = Field(default=1)
    """Sequences of one forward and backward pass."""

    @property
    def devices(self) -> int:
        """Devices of the whole island."""
        return self.tp * self.pp * self.cp * self.dp

    def misfits(self) -> list[Misfit]:
        """Return degrees that do not divide each other."""
        stage = self.tp * self.cp * self.dp
        if stage % (self.ep * self.etp):
            return [("ep", f"{self.ep} x etp = {self.etp} does not divide tp x cp x dp = {stage}")]
        return []

    def __str__(self) -> str:
        """Write what differs from one device: "tp2 pp8 vpp2 ep8 dp4, zero1, full recompute, micro-batch 1"."""
        degrees = [f"{name}{getattr(self, name)}" for name in ("tp", "pp", "vpp", "cp", "ep", "etp", "dp")]
        shown = " ".join(d for d in degrees if not d.endswith("p1")) or "one device"
        recompute = "" if self.recompute == "none" else f", {self.recompute} recompute"
        return f"{shown}, {self.sharding}{recompute}, micro-batch {self.micro_batch}"
