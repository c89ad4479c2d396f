"""`everyflop train`: train a run."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from everyflop.spec.run import RunSpec


def train(
    run_file: Annotated[Path, typer.Argument(metavar="RUN.toml", help="What to train; `everyflop init` writes one.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="section.key=value", help="Such as train.tokens=2M optim.lr=1e-3")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest good checkpoint; without one, start.")
    ] = False,
    new: Annotated[bool, typer.Option("--new", help="Take the next free name if the run exists.")] = False,
    allow_change: Annotated[
        bool, typer.Option("--allow-change", help="Resume although settings that affect the weights changed.")
    ] = False,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="Run what this plan.json says, and compare with what it predicts.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option("--replay", help="Repeat a run with islands from its rounds.jsonl, bit for bit.")
    ] = None,
    island: Annotated[
        str | None, typer.Option("--island", help="Be this one of the run's islands, and no other.")
    ] = None,
    coordinator: Annotated[
        str | None, typer.Option("--coordinator", metavar="HOST:PORT", help="Where `everyflop coordinator` runs.")
    ] = None,
    secret: Annotated[Path | None, typer.Option("--secret", help="File with the coordinator's secret.")] = None,
    tls_ca: Annotated[Path | None, typer.Option("--tls-ca", help="Certificate to trust the coordinator by.")] = None,
) -> None:
    """Train a model: prepare the data, train, validate, write a summary.

    everyflop train recipes/tiny_cpu.toml
    everyflop train run.toml run.name=faster optim.lr=3e-3
    everyflop train run.toml --resume
    everyflop train run.toml --plan plan.json
    everyflop train run.toml --island a --coordinator hub:7700 --secret key.txt
    """
    from everyflop.base.errors import Interrupted, UsageError
    from everyflop.spec.read import read_run
    from everyflop.train.plan import refuse_overrides

    if new and resume:
        raise UsageError("--new starts another run and --resume continues one: choose one of them.")
    run = read_run(run_file, overrides or ())
    refuse_overrides(run, overrides or (), plan=plan, resume=resume)
    if island or coordinator:
        _refuse_options_of_a_whole({"--resume": resume, "--new": new, "--replay": replay})
        return _train_island(run, island, coordinator, secret, tls_ca, plan, allow_change=allow_change)

    from everyflop.train.run import train as train_run
    from everyflop.train.run_dir import next_free_name

    if new:
        run = next_free_name(run)
    try:
        summary = train_run(run, resume=resume, allow_change=allow_change, plan=plan, replay=replay)
    except Interrupted as stopped:
        name = [f"run.name={run.run.name}"] if new else []
        again = shlex.join([_program(), "train", str(run_file), *(overrides or ()), *name, "--resume"])
        raise Interrupted(stopped.exit_code - 128, f"{stopped}\nContinue with: {again}") from None
    _print(run, summary)


def _refuse_options_of_a_whole(options: dict[str, Any]) -> None:
    from everyflop.base.errors import UsageError

    if given := [option for option, value in options.items() if value]:
        raise UsageError(
            f"{', '.join(given)}: that is for a run as a whole, and --island starts a part of one: leave it out. An "
            "island takes up what the others have by itself; `everyflop coordinator` takes --resume."
        )


def _train_island(
    run: "RunSpec",
    island: str | None,
    coordinator: str | None,
    secret: Path | None,
    tls_ca: Path | None,
    plan: Path | None,
    *,
    allow_change: bool,
) -> None:
    from everyflop.base.errors import UsageError
    from everyflop.base.orphans import end_with_parent
    from everyflop.islands.secret import read_secret
    from everyflop.islands.tls import client_context
    from everyflop.train.island_process import train_island
    from everyflop.train.plan import follow

    if not island or not coordinator:
        raise UsageError("--island NAME and --coordinator HOST:PORT go together: give both, or neither.")
    end_with_parent()
    known, tls = read_secret(secret, needed=False), client_context(tls_ca)
    run, planned = follow(run, plan)
    summary = train_island(run, island, coordinator, known, tls=tls, allow_change=allow_change, planned=planned)
    if summary is not None:
        _print(run, summary)


def _program() -> str:
    """Return what calls everyflop: its path where the shell does not find it, as after `make train`."""
    called = Path(sys.argv[0])
    on_path = called.name != "everyflop" or shutil.which("everyflop") is not None
    return "everyflop" if on_path else os.path.relpath(called)


def _print(run: "RunSpec", summary: dict[str, Any]) -> None:
    from rich.table import Table

    from everyflop.base.units import money, short_count, short_time
    from everyflop.cli.console import plain_console

    console = plain_console(soft_wrap=True)
    table = Table("validation", "loss", "bits per byte", title=f"Trained {run.run.name}")
    for name, result in summary["validation"].items():
        table.add_row(name, f"{result['loss']:.3f}", f"{result['bits_per_byte']:.3f}")
    for name, bits in _yardsticks(run, summary).items():
        table.add_row(f"  {name}, for comparison", "", f"{bits:.3f}")
    console.print(table)
    price = " at the example price" if summary["example_price"] else ""
    cost = "" if summary["cost"] is None else f", {money(summary['cost'], summary['currency'])}{price}"
    where = " in the island that finished it" if "islands" in summary else ""
    console.print(
        f"{short_count(summary['tokens'])} tokens in {short_time(summary['seconds'])}, "
        f"{short_count(summary['tokens_per_s'])} tokens/s{cost}, "
        f"{summary['peak_rss_gib']:.2f} GiB of memory at most{where}\n"
    )
    if "islands" in summary:
        console.print(_by_island(summary))
    if "plan" in summary:
        console.print(_against_plan(summary["plan"]))
    console.print("A sample", style="bold", end="")
    console.print(" (the prompt is from held-out text):")
    console.print(summary["sample"]["prompt"], style="dim", end="")
    console.print(summary["sample"]["text"])
    console.print(
        f"\nrun directory  {run.dir}\nloss curve     {run.dir / 'loss.png'}\nreport         {run.dir / 'report.html'}\n"
        f"checkpoint     {summary['checkpoint']}\n\nTry next\n"
        f'  {_program()} generate {run.dir} --prompt "import os" --temperature 0.7\n'
        f"  {_program()} checkpoint list {run.dir}\n"
        f"  {_program()} export {run.dir} {run.dir / 'hf'}",
    )


def _by_island(summary: dict[str, Any]) -> "Table":
    from rich.table import Table

    from everyflop.base.units import MIB, money, percent, short_count

    table = Table("island", "tokens", "tokens/s", "of its time training", "sent", "cost")
    for name, one in summary["islands"].items():
        held_s = one.get("held_s", 0.0)
        table.add_row(
            f"{name} (simulated)" if name in summary["simulated"] else name,
            short_count(one.get("tokens", 0)),
            short_count(one["tokens"] / held_s) if held_s else "",
            percent(one["train_s"] / held_s) if held_s else "",
            f"{one.get('sent_bytes', 0) / MIB:,.0f} MiB",
            "" if one["cost"] is None else money(one["cost"], summary["currency"]),
        )
    return table


def _against_plan(plan: dict[str, Any]) -> "Table":
    from rich.table import Table

    from everyflop.train.predicted import comparison_rows, doubt

    title = f"Against the plan: {plan['choice']}"
    table = Table("", "predicted (P10 to P90)", "measured", "ratio", title=title, caption=doubt(plan) or None)
    for row in comparison_rows(plan):
        table.add_row(*row)
    return table


def _yardsticks(run: "RunSpec", summary: dict[str, Any]) -> dict[str, float]:
    """Return what general methods make of the first validation set; nothing where the text is too large for them."""
    from everyflop.base.files import write_json
    from everyflop.data.prepared import open_prepared
    from everyflop.evals.yardsticks import yardsticks

    most_bytes = 50_000_000
    prepared = open_prepared(summary["data"], run.data)
    windows = next(iter(prepared.validation.values()))
    consumed_bytes = summary["tokens"] * prepared.windows.text_bytes / prepared.windows.n_tokens
    if max(windows.text_bytes, consumed_bytes) > most_bytes:
        return {}
    text = "".join(windows.texts(prepared.tokenizer)).encode()
    stream = prepared.train(run.run.seed)
    results = yardsticks(text, stream.consumed_text(summary["samples"]))
    write_json(run.dir / "yardsticks.json", {"schema": 1, "bits_per_byte": results})
    return results
