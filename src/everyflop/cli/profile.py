"""`everyflop profile`: time a run's training step and show where it goes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from everyflop.spec.run import RunSpec
    from everyflop.train.profile import StepProfile

Override = Annotated[list[str] | None, typer.Argument(metavar="[RUN.toml] [section.key=value]...")]


def profile(
    arguments: Override = None,
    hf: Annotated[Path | None, typer.Option("--hf", metavar="DIR", help="A model in a Hugging Face folder.")] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="With --hf: sequences of a step.")] = 8,
    seq_len: Annotated[int, typer.Option("--seq-len", min=2, help="With --hf: tokens of each.")] = 512,
    precision: Annotated[
        Literal["auto", "bf16", "fp32"], typer.Option("--precision", help="With --hf: what the step computes in.")
    ] = "auto",
    steps: Annotated[int, typer.Option("--steps", min=2, help="Steps to time; the first warms up.")] = 10,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="OUT", help="Where to write the figures.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="OUT.png", help="Where to draw the components.")
    ] = None,
) -> None:
    """Time the step that `everyflop train` does, on random tokens, and show its time by component.

    everyflop profile run.toml
    everyflop profile run.toml train.micro_batch=4 train.compile=off
    everyflop profile --hf DIR --batch 8 --json profile.json --picture profile.png
    """
    from everyflop.base.files import write_json
    from everyflop.base.outputs import check_outputs
    from everyflop.base.progress import progress
    from everyflop.cli.console import plain_console

    check_outputs(
        {"--json": json_file, "--picture": picture},
        inputs=[Path(text) for text in arguments or () if text.endswith(".toml")],
    )
    run = _run(arguments or [], hf, batch=batch, seq_len=seq_len, precision=precision)

    import torch

    from everyflop.backend.device import detect
    from everyflop.infer.load import read_spec
    from everyflop.train.profile import as_json, profile_steps
    from everyflop.train.settings import settle

    device = detect()
    settled = settle(run, run.model or read_spec(Path(run.init_from or "")), device)
    torch.set_num_threads(settled.threads)
    found = profile_steps(settled, device, steps=steps, progress=progress)
    console = plain_console()
    console.print(_table(found))
    console.print(
        f"{found.tokens_per_s:,.0f} tokens/s (median of {steps - 1} steps), MFU {100 * found.mfu:.0f} % of "
        f"{found.peak_flops_per_s / 1e9:,.0f} GFLOP/s measured in matmul, {settled.precision} with fp32 parameters, "
        f"layers {'compiled' if settled.compile else 'not compiled'}, {found.peak_rss_gib:.2f} GiB at most"
    )
    if json_file is not None:
        write_json(json_file, as_json(found))
        console.print(f"Wrote {json_file}.")
    if picture is not None:
        from everyflop.train.profile_picture import draw_profile

        draw_profile(found, picture)
        console.print(f"Drew {picture}.")


def _run(arguments: list[str], hf: Path | None, *, batch: int, seq_len: int, precision: str) -> "RunSpec":
    from everyflop.base.errors import InvalidFile, UsageError
    from everyflop.spec.overrides import apply_overrides
    from everyflop.spec.read import parse_run, read_run

    files = [text for text in arguments if "=" not in text or Path(text).is_file()]
    overrides = [text for text in arguments if text not in files]
    if len(files) + (hf is not None) != 1:
        raise UsageError("say what to profile: either a run file, or --hf and a folder.")
    if hf is None:
        return read_run(Path(files[0]), overrides, files=False)
    sizes = {"tokens": "1T", "seq_len": seq_len, "batch_tokens": batch * seq_len, "micro_batch": batch}
    tables = {"model": {"init_from": str(hf)}, "train": {**sizes, "precision": precision}}
    _, problems = apply_overrides(tables, overrides)
    run, found = parse_run(tables)
    if run is None or problems:
        raise InvalidFile(hf, [*problems, *found])
    return run


def _table(found: "StepProfile") -> "Table":
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    total, largest = sum(found.parts_s.values()), max(found.parts_s.values())
    table = Table("component", title="An optimizer step")
    for heading in ("ms", "share", "at the peak", "of the peak"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for name, seconds in sorted(found.parts_s.items(), key=lambda part: -part[1]):
        best = found.roofline_s.get(name)
        ideal = ("", "") if best is None else (f"{1000 * best:,.0f}", f"{best / seconds:.0%}")
        bar = ProgressBar(total=largest, completed=seconds, width=24)
        table.add_row(name, f"{1000 * seconds:,.0f}", f"{seconds / total:.0%}", *ideal, bar)
    table.add_row("total", f"{1000 * total:,.0f}", "", f"{1000 * sum(found.roofline_s.values()):,.0f}", "", "")
    return table
