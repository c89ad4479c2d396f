from dataclasses import replace

import numpy as np
import pytest

from everyflop.accounting.layouts import Layouts
from everyflop.base.errors import UsageError
from everyflop.planner.predict.arguments import refuse_wrong
from everyflop.spec.layout import Layout

LAYOUTS = Layouts.of([Layout(), Layout(dp=8, sharding="zero3", recompute="full")])


def ask(layouts: Layouts = LAYOUTS, **changes) -> None:
    refuse_wrong(layouts, **{"precision": "bf16", "seq_len": 4096, "batch_seqs": 64, **changes})


def test_what_has_an_answer_may_be_asked():
    ask()
    ask(precision="fp8", batch_seqs=np.array([64, 128]))


@pytest.mark.parametrize("value", [0, -64, float("nan"), float("inf"), np.array([64, 0])])
@pytest.mark.parametrize("name", ["seq_len", "batch_seqs"])
def test_sizes_are_one_or_more(name, value):
    with pytest.raises(UsageError, match=f"{name} = .* is not 1 or more"):
        ask(**{name: value})


def test_a_layout_has_no_degree_of_0():
    with pytest.raises(UsageError, match=r"layouts\.tp = 0 is not 1 or more"):
        ask(replace(LAYOUTS, tp=np.array([1, 0])))


def test_a_sharding_is_one_that_there_is():
    with pytest.raises(UsageError, match=r"layouts\.sharding = 4 is none of 0 to 3 \(none, zero1, zero2, zero3\)"):
        ask(replace(LAYOUTS, sharding=np.array([0, 4])))


def test_a_precision_without_formulas_is_not_taken_for_another():
    with pytest.raises(UsageError, match="precision = 'nvfp4' is none of bf16, fp8"):
        ask(precision="nvfp4")


def test_everything_wrong_is_named_at_once():
    with pytest.raises(UsageError) as refused:
        ask(replace(LAYOUTS, dp=np.array([-1, 8])), seq_len=0, precision="int4")

    assert [name for name in ("layouts.dp = -1", "seq_len = 0", "'int4'") if name not in str(refused.value)] == []
