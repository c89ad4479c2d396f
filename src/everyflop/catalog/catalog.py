"""The catalogue: devices by name or any usual spelling, and what somebody asked for them.

Where the data come from is load.py's matter. Quotes are here to be shown; nothing takes a price from them.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from everyflop.base.errors import Problem, UsageError
from everyflop.spec.device import DeviceSpec, PriceQuote

FEWEST_LETTERS = 3
"""Of a name that is looked for among other words."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """Devices by their names, and price quotes."""

    devices: Mapping[str, DeviceSpec]
    prices: tuple[PriceQuote, ...] = ()
    _names: dict[str, str] = field(init=False, repr=False, compare=False)
    """Each spelling of each device -> its name."""

    def __post_init__(self) -> None:
        names = {spelling(name): name for name in self.devices}  # a name outranks everybody's aliases
        for device in self.devices.values():
            for text in spellings(device):
                names.setdefault(text, device.name)
        object.__setattr__(self, "_names", names)

    def find(self, name: str) -> DeviceSpec:
        """Return the device of a name or alias. Raises UsageError for an unknown one, with the nearest known."""
        if found := self._names.get(spelling(name)):
            return self.devices[found]
        near = self._nearest(name)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UsageError(
            f"there is no device '{name}': {hint}`everyflop catalog list` shows all, "
            "and a [[device]] entry in the fleet file adds one."
        )

    def described(self, text: str) -> DeviceSpec | None:
        """Return the device that a description names among other words, such as "H100 NVL (94 GB)"; None for none.

        The longest name found counts. Without one, a text that is the end of just one device's names, such as "v5p".
        """
        low = text.casefold()
        found = [(len(name), device) for name, device in self._names.items() if _stands_in(name, low)]
        if found:
            return self.devices[max(found, key=lambda pair: pair[0])[1]]
        ends = {device for name, device in self._names.items() if _stands_in(name[-len(spelling(text)) :], low)}
        return self.devices[ends.pop()] if len(ends) == 1 and len(spelling(text)) >= FEWEST_LETTERS else None

    def __contains__(self, name: str) -> bool:
        """Whether `find` knows the name."""
        return spelling(name) in self._names

    def quotes(self, device: str) -> tuple[PriceQuote, ...]:
        """Return what was asked for a device, newest first. Raises UsageError for an unknown device."""
        name = self.find(device).name
        found = [quote for quote in self.prices if self.find(quote.device).name == name]
        return tuple(sorted(found, key=lambda quote: str(quote.date), reverse=True))

    def with_devices(self, devices: Sequence[DeviceSpec]) -> "Catalog":
        """Return a catalogue with a user's devices added.

        Where one is known already, by name or alias, only the fields that the user gives are replaced.
        Raises UsageError with all of `problems_with`.
        """
        if problems := self.problems_with(devices):
            raise UsageError("\n".join(map(str, problems)))
        added = dict(self.devices)
        for device in devices:
            if device.name in self:
                given = {key: getattr(device, key) for key in device.model_fields_set - {"name"}}
                device = self.find(device.name).model_copy(update=given)
            added[device.name] = device
        return Catalog(added, self.prices)

    def problems_with(self, devices: Sequence[DeviceSpec]) -> list[Problem]:
        """Return what keeps a user's devices out, with keys such as device[0].like."""
        return [
            Problem(f"device[{number}].{key}", found, hint)
            for number, device in enumerate(devices)
            for key, found, hint in self._problems_of(device, [other.name for other in devices])
        ]

    def sha256(self) -> str:
        """Return the hex digest of all devices; quotes are left out, for no plan depends on them."""
        data: list[dict[str, Any]] = [self.devices[name].model_dump(mode="json") for name in sorted(self.devices)]
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()

    def _problems_of(self, device: DeviceSpec, users_names: list[str]) -> Iterator[tuple[str, str, str]]:
        near = self._nearest(device.name)
        if device.name not in self and not device.vendor:
            hint = f"did you mean {' or '.join(near)}?" if near else "say whose it is"
            yield "vendor", f"is missing, and the catalogue has no device '{device.name}'", hint
        if device.like is not None and device.like not in self and device.like not in users_names:
            near = self._nearest(device.like)
            hint = f"did you mean {' or '.join(near)}?" if near else "`everyflop catalog list` shows what there is"
            yield "like", f"names '{device.like}', which is no device of the catalogue", hint
        own = self.find(device.name).name if device.name in self else device.name
        for alias in device.aliases:
            if alias in self and self.find(alias).name != own:
                yield "aliases", f"'{alias}' means {self.find(alias).name} already", "choose another"

    def _nearest(self, name: str) -> list[str]:
        near = difflib.get_close_matches(spelling(name), self._names, n=3)
        return list(dict.fromkeys(self._names[text] for text in near))


def _stands_in(name: str, low: str) -> bool:
    """Whether a spelling stands in a text as a word of its own, with any separators inside."""
    if len(name) < FEWEST_LETTERS or not any(c.isdigit() for c in name):
        return False
    inside = r"[\s_()-]*".join(map(re.escape, name))
    return bool(re.search(rf"(?<![a-z0-9]){inside}(?![a-z0-9])", low))


def spelling(text: str) -> str:
    """Return a name without case, spaces, dashes and underscores: "A100-80GB" and "a100 80gb" are the same."""
    return re.sub(r"[\s_-]+", "", text.casefold())


def spellings(device: DeviceSpec) -> Iterator[str]:
    """Yield all that a device is called, with and without its vendor in front."""
    for text in filter(None, (device.name, device.title, *device.aliases)):
        yield spelling(text)
        yield spelling(device.vendor + text)
