import pytest

from everyflop.base.errors import ExpectedNo
from everyflop.train.finish import _refuse_nan
from everyflop.train.validate import Validation


def test_a_run_whose_weights_have_diverged_at_its_end_is_no_finished_one():
    with pytest.raises(ExpectedNo, match="the loss on books is not finite"):
        _refuse_nan({"books": Validation(float("nan"), 1.0, 10), "code": Validation(1.0, 1.0, 10)})
