"""Ways to train that nobody could see the end of: some figure of the fleet or the run is wrong there."""

from everyflop.base.errors import ExpectedNo
from everyflop.base.units import percent, short_count
from everyflop.spec.plan import Choice, Plan

LONGEST_DAYS = 100 * 365


def within_a_lifetime(made: Plan) -> Plan:
    """Return the plan without ways that take longer; a pool alone that would is one that cannot be used.

    Raises ExpectedNo where the recommended way is one of them.
    """
    best = next(choice for choice in made.alternatives if choice.name == made.recommended)
    if _endless(best):
        raise ExpectedNo(f"no plan fits: the best way, {best.name}, {_how_long(best)}")
    too_long = {c.islands[0].pool: _how_long(c) for c in made.alternatives if c.kind == "single" and _endless(c)}
    kept = tuple(choice for choice in made.alternatives if not _endless(choice))
    return made.model_copy(update={"alternatives": kept, "unusable": made.unusable | too_long})


def _endless(choice: Choice) -> bool:
    return choice.total.days.p50 > LONGEST_DAYS


def _how_long(choice: Choice) -> str:
    years = short_count(choice.total.days.p50 / 365)
    kept = percent(min(island.goodput_share for island in choice.islands))
    return (
        f"takes {years} years, and no device lasts {LONGEST_DAYS // 365}. Failures, checkpoints and exchanges leave "
        f"{kept} of its time: look at failures_per_device_day, offer more devices, or train on fewer --tokens."
    )
