"""`everyflop measure`: measure the device at hand, for plans."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from everyflop.backend.device import Device
    from everyflop.spec.device import DeviceSpec
    from everyflop.spec.run import RunSpec
    from everyflop.train.measure import Measured


def measure(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="section.key=value", help="Such as model.n_layers=2")
    ] = None,
    run_file: Annotated[
        Path | None, typer.Option("--run", metavar="RUN.toml", help="Time the training step of this run too.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="PRESET", help="Time that of a published model instead.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="What plans call it, where torch calls it otherwise; or cpu.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="About, for each of the measurements.")] = 5.0,
    out: Annotated[
        Path, typer.Option("--out", help="Where to write; what it holds of other measurements is kept.")
    ] = Path("measured.toml"),
) -> None:
    """Measure matmuls, memory and the training step of this device, and write them to a file that plans take.

    everyflop measure
    everyflop measure --run run.toml
    everyflop measure --model ling-lite model.n_layers=2 train.seq_len=2048
    """
    from everyflop.base.outputs import check_outputs
    from everyflop.base.progress import progress
    from everyflop.catalog.load import load_catalog
    from everyflop.cli.console import plain_console
    from everyflop.spec.measured_file import earlier_measurements, merge, write_measured

    check_outputs({"--out": out})
    run = _run(run_file, model, overrides or [])
    earlier = earlier_measurements(out, catalog=load_catalog())
    known, here = _device(device)

    from everyflop.train.calibration import calibration
    from everyflop.train.measure import measure as measure_device

    measured = measure_device(run, here, seconds=seconds, progress=progress)
    new = calibration(measured, here, known=known)
    write_measured(out, merge(earlier, new))
    console = plain_console(soft_wrap=True)
    console.print(_matmul_table(measured, f"Measured {here.name} as {known.name}"))
    for line in _lines(measured, known):
        console.print(line)
    console.print(f"\nWrote {out}. A plan takes it: everyflop plan FLEET.toml --measured {out}")


def _run(run_file: Path | None, model: str | None, overrides: list[str]) -> "RunSpec | None":
    from everyflop.base.errors import UsageError
    from everyflop.spec.preset_run import preset_run
    from everyflop.spec.read import read_run

    if run_file and model:
        raise UsageError("--run and --model each say what to train: choose one of them.")
    if run_file:
        return read_run(run_file, overrides, files=False)
    if model:
        return preset_run(model, overrides)
    if overrides:
        raise UsageError(f"{', '.join(overrides)} changes a run, and there is none: add --run or --model.")
    return None


def _device(name: str | None) -> "tuple[DeviceSpec, Device]":
    """Return what is known of the device at hand, at least its name in files, and the device."""
    from everyflop.backend.device import detect
    from everyflop.base.errors import UsageError
    from everyflop.catalog.load import load_catalog
    from everyflop.train.calibration import uncatalogued

    catalog = load_catalog()
    if name is None:
        here = detect()
        called = here.type if here.type == "cpu" else here.name
        return (catalog.find(called) if called in catalog else uncatalogued(here)), here
    if name not in catalog:
        here = detect()
        return uncatalogued(here, name=name), here
    known = catalog.find(name)
    here = detect(processor=known.torch_device == "cpu")
    if known.torch_device not in ("", here.type):  # of some it is not published
        raise UsageError(
            f"{known.name} is torch device '{known.torch_device}', and here is '{here.type}' ({here.name}). "
            "Leave --device out, or name what is here."
        )
    return known, here


def _matmul_table(measured: "Measured", title: str) -> "Table":
    from rich.table import Table

    from everyflop.base.units import TERA, decimals_of

    decimals = decimals_of(max(rate.flops_per_s for rate in measured.squares) / TERA)
    rates: dict[tuple[str, str], dict[str, str]] = {}
    for rate in [*measured.squares, *measured.own]:
        shape = " x ".join(f"{size:,}" for size in rate.shape)
        rates.setdefault((rate.what, shape), {})[rate.precision] = f"{rate.flops_per_s / TERA:.{decimals}f}"
    precisions = list(dict.fromkeys(rate.precision for rate in measured.squares))
    table = Table("matmul", title=title)
    for heading in ("rows x inner x columns", *(f"{precision} TFLOP/s" for precision in precisions)):
        table.add_column(heading, justify="right")
    for (what, shape), by_precision in rates.items():
        table.add_row(what, shape, *(by_precision.get(precision, "") for precision in precisions))
    return table


def _lines(measured: "Measured", known: "DeviceSpec") -> list[str]:
    from everyflop.backend.others import is_disturbed
    from everyflop.base.units import GIGA, percent, short_count
    from everyflop.catalog.load import load_catalog

    lines = [f"memory    {measured.memory_bytes_per_s / GIGA:.3g} GB/s, read and written"]
    if step := measured.step:
        took = f"{step.step_s:.3g} s" if step.step_s >= 1 else f"{1000 * step.step_s:.3g} ms"
        lines.append(
            f"training  {short_count(step.tokens_per_s)} tokens/s in {step.run.precision}: a step of "
            f"{step.run.batch_tokens:,} tokens takes {took} (median of {step.steps}), "
            f"{percent(measured.matmul_share(step))} of the best matmul; {step.peak_mem_gib:.3g} GiB at most"
        )
    if is_disturbed(measured.others_share):
        share = percent(measured.others_share or 0)
        lines.append(f"doubtful  others used {share} of the processor meanwhile: measure again when it is calm")
    if known.name not in load_catalog():
        lines.append(f"device    {known.name} is in no catalogue: it was written as one of your own")
    return lines
