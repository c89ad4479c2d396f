"""The sizes of steps that an island may do by itself."""

from types import SimpleNamespace

import pytest

from everyflop.spec.islands import IslandSpec
from everyflop.train.local_steps import LocalSteps
from everyflop.train.simulated_device import SimulatedDevice


@pytest.fixture
def steps_of():
    """Return an island's steps, of a run with micro-batches of 8 sequences, for a share of the batch."""

    def make(share: int, *, compiled: bool = False) -> LocalSteps:
        train = SimpleNamespace(seq_len=32)
        settled = SimpleNamespace(micro_batch=8, run=SimpleNamespace(train=train))
        session = SimpleNamespace(settled=settled, model=SimpleNamespace(compiled=compiled))
        replica = SimpleNamespace(session=session)
        simulated = SimulatedDevice(1.0)
        steps = LocalSteps(IslandSpec(name="a"), replica, None, mfu=lambda _: 0.0, simulated=simulated)
        steps.begin = {"sequences": share}
        return steps

    return make


@pytest.mark.parametrize(("share", "unit"), [(5, 5), (6, 8), (7, 8), (8, 8), (9, 8), (100, 8)])
def test_steps_are_whole_micro_batches_where_a_share_is_nearly_one_or_more(steps_of, share, unit):
    assert steps_of(share).units == (unit, 1)


def test_the_last_step_of_a_compiled_model_has_a_size_that_it_knows(steps_of):
    assert steps_of(100, compiled=True).units == (8, 8)
    assert steps_of(3, compiled=True).units == (3, 3)
