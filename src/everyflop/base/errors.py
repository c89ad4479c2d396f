"""What can go wrong, and the exit code that says so.

    EveryflopError
    ├── UsageError        exit 2   wrong usage, or a file the user can mend
    │   ├── InvalidFile            a file with problems, all of them listed at once
    │   └── DataError              text that cannot be read or used
    ├── ExpectedNo        exit 3   everything worked, and the answer is no
    │   └── DamagedFile            a checkpoint or tensor file that fails its checks
    └── Interrupted       exit 130 or 143   stopped by Ctrl-C or SIGTERM, with everything saved

Each message says what was found, why it cannot work, and what to do. The command line prints it without a
traceback; any other exception is a defect of ours (exit 1, with a traceback).
"""

from collections.abc import Sequence
from dataclasses import dataclass


class EveryflopError(Exception):
    """Base of all errors that are meant to be read by a user."""

    exit_code = 1


class UsageError(EveryflopError):
    """The request or a file is wrong, and the user can mend it."""

    exit_code = 2


class DataError(UsageError):
    """Text, shards or a tokenizer that cannot be used as asked."""


class ExpectedNo(EveryflopError):
    """The answer is no: nothing fits, or a check failed."""

    exit_code = 3


class DamagedFile(ExpectedNo):
    """A checkpoint or tensor file does not hold what it should."""


class Interrupted(EveryflopError):
    """A signal asked the run to stop, and it did, in order."""

    def __init__(self, signal_number: int, message: str):
        self.exit_code = 128 + signal_number
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a file: where, what, and what to do about it."""

    key: str
    found: str
    hint: str = ""
    line: int | None = None

    def __str__(self) -> str:
        where = f"line {self.line}, {self.key}" if self.line else self.key
        return f"{where}: {self.found}" + (f" ({self.hint})" if self.hint else "")


class InvalidFile(UsageError):
    """A file the user wrote has problems; the message lists all of them."""

    def __init__(self, file: object, problems: Sequence[Problem]):
        self.file = file
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{file}: {count}", *(f"  - {problem}" for problem in self.problems)]))
