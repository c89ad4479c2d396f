"""A kind of accelerator, and a price for one: what the catalogue holds and what users add in a fleet file."""

from datetime import date

from pydantic import Field

from everyflop.spec.base import Count, Misfit, Spec


class DeviceSpec(Spec):
    """Published figures of one kind of device. None means not published or not found; nothing is guessed here."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    """What files call it, such as h100-sxm."""
    title: str = ""
    """What people call it, such as "NVIDIA H100 SXM5 80GB"."""
    aliases: tuple[str, ...] = ()
    """Other names in measurement files, such as H100."""
    vendor: str = ""
    """Needed for a device that the catalogue does not have; an entry that changes one of its devices leaves it out."""
    architecture: str = ""
    """Devices of one architecture share efficiency: Hopper, CDNA3, TPU v5p."""
    year: int | None = Field(default=None, ge=1990, le=2100)
    like: str | None = None
    """A device from which figures that are missing here are taken, see catalog/fill.py. Such a figure is inferred."""

    bf16_tflops: float | None = Field(default=None, gt=0)
    """Dense peak of bf16 with fp32 accumulation; of fp16 where a device has no bf16."""
    fp8_tflops: float | None = Field(default=None, gt=0)
    mem_gb: float | None = Field(default=None, gt=0)
    """As sold."""
    mem_bw_gb_per_s: float | None = Field(default=None, gt=0)
    scale_up_link: str = ""
    """What the fast links inside a domain are called, such as NVLink 4."""
    scale_up_gb_per_s: float | None = Field(default=None, gt=0)
    """Of the fast links inside a domain, both directions together, per device."""
    scale_up_domain: Count | None = None
    """Devices that these links connect."""
    scale_out_gbit_per_s: float | None = Field(default=None, gt=0)
    """Network between domains, one direction, per device: the usual pairing."""
    tdp_w: float | None = Field(default=None, gt=0)
    achieved_bf16_tflops: float | None = Field(default=None, gt=0)
    """Best measured large matmul in bf16."""
    achieved_source: str = ""

    torch_device: str = ""
    """torch's device type: cuda, npu, xpu, cpu."""
    collective_library: str = ""
    plugin: str = ""
    """What to install for torch to know it."""
    confidence: str = ""
    """high, medium or low: how well the figures are attested."""
    source: str = ""
    notes: str = ""

    def misfits(self) -> list[Misfit]:
        """Return a device that is said to be like itself."""
        if self.like == self.name:
            return [("like", f"'{self.like}' is the device itself: name another, or leave it out")]
        return []

    def __str__(self) -> str:
        """Return the title, or the name where there is none."""
        return self.title or self.name


class PriceQuote(Spec):
    """What somebody asked for one device and hour, on a day. Quotes are shown; a plan uses only the user's prices."""

    device: str
    per_device_hour: float = Field(gt=0)
    low: float | None = Field(default=None, gt=0)
    high: float | None = Field(default=None, gt=0)
    currency: str = Field(min_length=1, max_length=8)
    date: date | str
    """A day, or a month such as 2026-09."""
    source: str
    notes: str = ""
