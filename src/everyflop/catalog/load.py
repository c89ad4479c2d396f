"""Read the catalogue that comes with the package: devices.toml and prices.toml."""

import functools
import tomllib
from importlib.resources import files
from typing import Any

from everyflop.catalog.catalog import Catalog
from everyflop.spec.device import DeviceSpec, PriceQuote


@functools.cache
def load_catalog() -> Catalog:
    """Return the catalogue. A user's own devices are added with `with_devices`."""
    devices = [DeviceSpec.model_validate(entry) for entry in _entries("devices.toml", "device")]
    prices = [PriceQuote.model_validate(entry) for entry in _entries("prices.toml", "price")]
    return Catalog({device.name: device for device in devices}, tuple(prices))


def _entries(file: str, table: str) -> list[dict[str, Any]]:
    return tomllib.loads(files("everyflop.catalog").joinpath(file).read_text(encoding="utf-8"))[table]
