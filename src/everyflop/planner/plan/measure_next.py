"""Which measurements would narrow the interval of a plan's cost most, and the commands that make them."""

import shlex
from collections.abc import Iterator

from everyflop.planner.choose.market import Market
from everyflop.planner.choose.settle import Settled
from everyflop.planner.choose.supply import Supply
from everyflop.planner.plan.measurable import reduced, step_evidence
from everyflop.planner.plan.uncertainty import cost_width
from everyflop.spec.plan import Measurement

MOST = 3


def measure_next(supply: Supply, market: Market, choice: Settled, *, model_option: str) -> list[Measurement]:
    """Return the measurements that narrow most, best first; those that would not narrow at all are left out.

    A step of the model's layers on any chip tells something: of the chip, of its architecture, and of the software
    that all chips share. model_option is how `everyflop measure` is told the model: "--model ling-plus".
    """
    now = cost_width(market, choice, supply.training.predictor.calibration)
    made = [one for one in _candidates(supply, market, choice, now, model_option) if one.width_after < 0.999 * now]
    return sorted(made, key=lambda measurement: measurement.width_after)[:MOST]


def _candidates(
    supply: Supply, market: Market, choice: Settled, now: float, model_option: str
) -> Iterator[Measurement]:
    calibration = supply.training.predictor.calibration
    devices = {offer.hardware.device.name: offer.hardware.device for offer in supply.offers}
    for name, device in devices.items():
        if (cut := reduced(supply.workload.model, device)) is None:
            continue
        step = step_evidence(supply.training, cut.model, device)
        # What will be measured is not known; as long as it is no surprise, how sure it makes us depends little on it.
        wiser = calibration.also(step, calibration.correct(step)[0])
        words = ["everyflop", "measure", *shlex.split(model_option), *cut.overrides, "--device", name]
        yield Measurement(
            device=name, command=shlex.join(words), width_now=now, width_after=cost_width(market, choice, wiser)
        )
