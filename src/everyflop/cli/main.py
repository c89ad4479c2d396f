"""`everyflop`: put the commands together, and turn errors into exit codes."""

import signal
import sys
from types import FrameType

import typer
from typer.exceptions import TyperException

from everyflop.base.errors import EveryflopError, Interrupted
from everyflop.cli import checkpoint, data
from everyflop.cli.export import export
from everyflop.cli.generate import generate
from everyflop.cli.import_hf import import_hf
from everyflop.cli.init import init
from everyflop.cli.train import train

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Pre-train Mixture-of-Experts language models at the lowest cost per token on the accelerators you can get. "
    "Start with: everyflop init run.toml, then everyflop train run.toml.",
)
app.command()(init)
app.command()(train)
app.command()(generate)
app.add_typer(data.app, name="data")
app.add_typer(checkpoint.app, name="checkpoint")
app.command("import")(import_hf)
app.command()(export)


def main() -> None:
    """Run one command and exit: 0 done, 2 wrong usage, 3 an expected no, 130 or 143 stopped by a signal."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = app(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except EveryflopError as error:
        print(f"everyflop: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except TyperException as error:
        if message := error.format_message():  # without any argument, the help is out already
            print(f"everyflop: {message}\nTry 'everyflop --help', or --help after a command.", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        print("everyflop: stopped by Ctrl-C; whatever was saved is intact.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def _terminated(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(number, "stopped by SIGTERM; whatever was saved is intact.")
