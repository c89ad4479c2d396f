"""Where a run with islands stands, as a display wants to know it."""

from dataclasses import asdict
from typing import Any

from everyflop.islands.course import Course
from everyflop.islands.roster import Account


def status_of(course: Course) -> dict[str, Any]:
    """Return a course's state as plain JSON."""
    course.roster.charge(course.now_s())
    plan = course.round
    return {
        "kind": "status",
        "round": course.number,
        "exchange": plan.exchange if plan else None,
        "steps": plan.steps if plan else 0,
        "step": course.step,
        "tokens": course.tokens,
        "total_tokens": course.table.total * (course.train.seq_len if course.train else 0),
        "loss": course.loss,
        "ended": course.ended,
        "islands": {name: _island(course, name) for name in {**course.islands, **course.roster.accounts}},
    }


def _island(course: Course, name: str) -> dict[str, Any]:
    member, account = course.roster.members.get(name), course.roster.accounts.get(name, Account())
    speed = account.tokens / account.train_s if account.train_s else 0.0
    if member is not None and course.how.rounds == "clock":
        speed = member.speed
    elif member is not None and not speed:
        speed = member.measured
    share = course.round.shares.get(name, 0) if course.round else 0
    state = member.phase if member else "away"
    given_up = course.roster.given_up.get(name, "")
    return {"state": state, "given_up": given_up, "tokens_per_s": speed, "share": share, **asdict(account)}
