"""`everyflop catalog`: show the devices that plans can name, with sources, and what was asked for them."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from everyflop.catalog.catalog import Catalog
    from everyflop.spec.device import DeviceSpec, PriceQuote

app = typer.Typer(
    no_args_is_help=True,
    help="Show devices, their published figures and dated price quotes.\n\neveryflop catalog show h100-sxm",
)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

_WIDE = 150
"""Columns of a table that goes into a file or a pipe, where nothing limits it."""

_FIGURES = (
    ("peak, bf16", "bf16_tflops", "TFLOP/s, dense"),
    ("peak, fp8", "fp8_tflops", "TFLOP/s, dense"),
    ("measured, bf16", "achieved_bf16_tflops", "TFLOP/s, the best large matmul"),
    ("memory", "mem_gb", "GB"),
    ("memory bandwidth", "mem_bw_gb_per_s", "GB/s"),
    ("links in a domain", "scale_up_gb_per_s", "GB/s, both directions together"),
    ("domain", "scale_up_domain", "devices"),
    ("network", "scale_out_gbit_per_s", "Gbit/s a device, one direction"),
    ("power", "tdp_w", "W"),
)
_WORDS = (
    ("link", "scale_up_link"),
    ("architecture", "architecture"),
    ("year", "year"),
    ("device type in torch", "torch_device"),
    ("collectives", "collective_library"),
    ("software", "plugin"),
    ("measurement from", "achieved_source"),
    ("confidence", "confidence"),
    ("source", "source"),
    ("notes", "notes"),
)


@app.command("list")
def list_(
    vendor: Annotated[str | None, typer.Option(help="Only devices of this vendor.")] = None,
    json: _Json = False,
) -> None:
    """Show all devices: peaks, memory, links, and what was asked for an hour.

    everyflop catalog list
    everyflop catalog list --vendor nvidia
    """
    from everyflop.catalog.load import load_catalog

    catalog = load_catalog()
    devices = _of_vendor(vendor, catalog) if vendor else list(catalog.devices.values())
    if json:
        _print_json([_tables(device, catalog) for device in devices])
    else:
        _print_list(devices, catalog)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A device, in any usual spelling.")],
    json: _Json = False,
) -> None:
    """Show all that is known of a device, with sources and price quotes.

    everyflop catalog show h100-sxm
    everyflop catalog show "Ascend 910B2" --json
    """
    from everyflop.catalog.load import load_catalog

    catalog = load_catalog()
    device = catalog.find(name)
    if json:
        _print_json(_tables(device, catalog))
    else:
        _print_device(device, catalog)


def _of_vendor(vendor: str, catalog: "Catalog") -> "list[DeviceSpec]":
    from difflib import get_close_matches

    from everyflop.base.errors import UsageError

    vendors = {device.vendor.casefold(): device.vendor for device in catalog.devices.values()}
    found = [device for device in catalog.devices.values() if vendor.casefold() in device.vendor.casefold()]
    if not found:
        near = get_close_matches(vendor.casefold(), vendors, n=1)
        hint = f"did you mean {vendors[near[0]]}? " if near else ""
        raise UsageError(f"no device is of vendor '{vendor}': {hint}known are {', '.join(sorted(vendors.values()))}.")
    return found


def _tables(device: "DeviceSpec", catalog: "Catalog") -> dict[str, Any]:
    """Return a device's fields, what is inferred where some are missing, and its quotes."""
    from everyflop.catalog.fill import filled

    whole, notes = filled(device, catalog)
    own = device.model_dump(mode="json")
    inferred = {key: value for key, value in whole.model_dump(mode="json").items() if value != own[key]}
    quotes = [quote.model_dump(mode="json") for quote in catalog.quotes(device.name)]
    return {**own, "inferred": inferred, "gaps": list(notes), "quotes": quotes}


def _print_json(value: Any) -> None:
    import json

    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _console() -> "Console":
    import sys

    from everyflop.cli.console import plain_console

    return plain_console(width=None if sys.stdout.isatty() else _WIDE)


def _print_list(devices: "Sequence[DeviceSpec]", catalog: "Catalog") -> None:
    from rich.table import Table

    columns = ("device", "title", "bf16", "fp8", "GB", "GB/s", "links, GB/s", "network, Gbit/s", "asked for an hour")
    table = Table(
        *columns, caption="Peaks in TFLOP/s, dense. Quotes are shown and never used: a plan wants your prices."
    )
    for device in devices:
        links = [device.scale_up_link, _short(device.scale_up_gb_per_s)]
        links += [f"x{device.scale_up_domain}"] if device.scale_up_domain else []
        table.add_row(
            device.name,
            device.title,
            *map(_short, (device.bf16_tflops, device.fp8_tflops, device.mem_gb, device.mem_bw_gb_per_s)),
            " ".join(filter(None, links)),
            _short(device.scale_out_gbit_per_s),
            "; ".join(_asked(catalog.quotes(device.name))),
        )
    _console().print(table)


def _print_device(device: "DeviceSpec", catalog: "Catalog") -> None:
    from rich.table import Table

    from everyflop.catalog.fill import filled

    whole, notes = filled(device, catalog)
    table = Table(show_header=False, box=None, title=str(device), title_justify="left")
    table.add_row("name", device.name)
    table.add_row("also called", ", ".join(device.aliases))
    table.add_row("vendor", device.vendor)
    for label, key, unit in _FIGURES:
        table.add_row(label, _figure(getattr(device, key), getattr(whole, key), unit))
    for label, key in _WORDS:
        if value := getattr(device, key):
            table.add_row(label, str(value))
    for note in notes:
        table.add_row("gaps", note)
    for quote in catalog.quotes(device.name):
        table.add_row("asked for an hour", _quote(quote))
    _console().print(table)


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _figure(own: float | None, whole: float | None, unit: str) -> str:
    if own is not None:
        return f"{own:,g} {unit}"
    return "not published" if whole is None else f"not published; {whole:,g} {unit}, inferred (see gaps)"


def _asked(quotes: "Sequence[PriceQuote]") -> list[str]:
    """Return what was asked, from the lowest to the highest quote in each currency, and the day of the newest."""
    texts = []
    for currency in dict.fromkeys(quote.currency for quote in quotes):
        same = [quote for quote in quotes if quote.currency == currency]
        low, high = (edge(quote.per_device_hour for quote in same) for edge in (min, max))
        span = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"
        texts.append(f"{span} {currency}, {same[0].date}")
    return texts


def _quote(quote: "PriceQuote") -> str:
    span = f" (range {quote.low:.2f} to {quote.high:.2f})" if quote.low and quote.high else ""
    notes = f"; {quote.notes}" if quote.notes else ""
    return f"{quote.per_device_hour:.2f} {quote.currency}{span} on {quote.date}, {quote.source}{notes}"
