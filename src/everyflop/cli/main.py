"""`everyflop`: put the commands together, and turn errors into exit codes."""

import errno
import os
import signal
import sys
import threading
from types import FrameType

import typer
from typer.exceptions import TyperException

from everyflop.base.errors import EveryflopError, UsageError
from everyflop.cli import catalog, checkpoint, data
from everyflop.cli.coordinator import coordinator
from everyflop.cli.explain import explain
from everyflop.cli.export import export
from everyflop.cli.generate import generate
from everyflop.cli.import_hf import import_hf
from everyflop.cli.init import init
from everyflop.cli.measure import measure
from everyflop.cli.plan import plan
from everyflop.cli.predict import predict
from everyflop.cli.profile import profile
from everyflop.cli.report import report
from everyflop.cli.train import train

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Pre-train Mixture-of-Experts language models at the lowest cost per token on the accelerators you can get."
    "\n\nStart with: everyflop init run.toml, then everyflop train run.toml.",
)
app.command()(init)
app.command()(train)
app.command()(coordinator)
app.command()(generate)
app.add_typer(data.app, name="data")
app.add_typer(checkpoint.app, name="checkpoint")
app.command("import")(import_hf)
app.command()(export)
app.add_typer(catalog.app, name="catalog")
app.command()(measure)
app.command()(profile)
app.command()(report)
app.command()(plan)
app.command()(predict)
app.command()(explain)


def main() -> None:
    """Run one command and exit: 0 done, 2 wrong usage, 3 an expected no, 130, 141 or 143 stopped by a signal."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        code = _exit_code()
        sys.stdout.flush()  # here, since Python says what it cannot write at its own end
    except (BrokenPipeError, SystemExit) as ended:
        if not _nobody_reads(ended):
            raise
        code = _hushed()
    sys.exit(code)


def _exit_code() -> int:
    """Run one command, print what is wrong, and return the exit code."""
    try:
        code = app(standalone_mode=False)
        if code == 128 + signal.SIGINT:  # typer turns Ctrl-C into this result
            _stopped(signal.SIGINT)
        return code if isinstance(code, int) else 0
    except EveryflopError as error:
        print(f"everyflop: {error}", file=sys.stderr)
        return error.exit_code
    except TyperException as error:
        if message := error.format_message():  # without any argument, the help is out already
            print(f"everyflop: {message}\nTry 'everyflop --help', or --help after a command.", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if error.errno not in _CURES:
            raise
        print(f"everyflop: {error.filename or 'a file'}: {error.strerror}. {_CURES[error.errno]}", file=sys.stderr)
        return UsageError.exit_code
    except _Terminated as heard:
        heard.again.cancel()
        return _stopped(signal.SIGTERM)


_NO_ROOM = "Free some space or choose another folder, then run the command again; what was saved is intact."
_NO_PLACE = "Choose another path, or remove what is in the way."
_CURES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _NO_ROOM),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "Choose a folder that you may write to."),
    **dict.fromkeys(
        (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP), _NO_PLACE
    ),
}
"""What the user can do about an error of the operating system; any other is a defect of ours."""


class _Terminated(BaseException):
    """SIGTERM; like Ctrl-C it is no Exception, so that no guard against a failing tracker swallows it.

    Code called back from C swallows it all the same (imports of torch do so now and then): the signal is sent again
    after a second, until it is heard.
    """

    def __init__(self) -> None:
        super().__init__()
        self.again = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
        self.again.daemon = True
        self.again.start()


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated


def _stopped(number: int) -> int:
    """Say that a signal ended the command, and return the exit code for it."""
    print(f"everyflop: stopped by {signal.Signals(number).name}; whatever was saved is intact.", file=sys.stderr)
    return 128 + number


def _nobody_reads(ended: BaseException) -> bool:
    """Whether a pipe that was written to has lost its reader, such as `head`; typer and rich exit with 1 then."""
    return isinstance(ended, BrokenPipeError) or isinstance(ended.__context__, BrokenPipeError)


def _hushed() -> int:
    """Send what is still to be written nowhere, and return the exit code of programs that a broken pipe stops."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    return 128 + signal.SIGPIPE
