"""What the headers of messages from islands must hold: a broken peer is told so, and ends nobody else's run."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from everyflop.spec.plan import Compress

Count = Annotated[int, Field(ge=0)]
Size = Annotated[float, Field(ge=0)]
Dtype = Literal["float32", "float64"]


class _Message(BaseModel):
    model_config = ConfigDict(strict=True)


class _Table(_Message):
    """Who holds which samples."""

    total: Count
    next: Count
    free: list[list[Count]]
    held: dict[str, list[list[Count]]]
    rejected: list[list[Count]] = []


class _Commit(_Message):
    """A commit, as far as a run goes on from it."""

    time: str
    round: Count
    step: Count
    tokens: Count
    busy_s: Size
    table: _Table
    accounts: dict[str, dict[str, Any]]
    rates: dict[str, list[float]]


class _Standing(_Message):
    """Where an island stands."""

    round: Count
    hash: str
    record: _Commit | None
    fresh: bool
    arithmetic: str


class _Hello(_Standing):
    """The first words of an island."""

    island: str
    session: str
    facts: dict[str, Any]
    tokens_per_s: Size
    everyflop: str = ""


class _Line(_Message):
    """The metrics of a step."""

    step: Count
    island: str
    loss: float | None


class _Update(_Message):
    """The header of an update."""

    round: Count
    hash: str
    weights: str
    arithmetic: str
    sequences: Count
    reach: Size
    steps: Count
    skipped: Count
    sizes: list[Count]
    samples: Count
    tokens: Count
    train_s: Size
    round_s: Size
    lost_s: float
    leave: bool
    lines: list[_Line]
    n: Count
    dtype: Dtype
    n_stats: Count
    stats_dtype: Dtype
    compress: Compress


def check_hello(header: dict[str, Any]) -> None:
    """Raise ValueError with all that is wrong with the first words of an island."""
    _check(_Hello, header)


def check_standing(header: dict[str, Any]) -> None:
    """Raise ValueError with all that is wrong with where an island says it stands."""
    _check(_Standing, header)


def check_update(header: dict[str, Any]) -> None:
    """Raise ValueError with all that is wrong with the header of an update."""
    _check(_Update, header)
    if header["steps"] and not header["reach"]:
        raise ValueError("reach: 0 is that of an island without steps")


def _check(what: type[_Message], header: dict[str, Any]) -> None:
    try:
        what.model_validate(header)
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False))
        raise ValueError("; ".join(wrong)) from None
