import pytest

from everyflop.base.errors import InvalidFile
from everyflop.spec.preset_run import preset_run
from everyflop.spec.presets import preset, preset_names


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_run(name):
    run = preset_run(name)

    assert run.model == preset(name)
    assert (run.train.seq_len, run.train.batch_tokens, run.train.micro_batch) == (4096, 16_384, 1)


def test_overrides_change_model_and_steps():
    run = preset_run("ling-lite", ["model.n_layers=2", "train.seq_len=1024", "train.micro_batch=4"])

    assert (run.model.n_layers, run.train.seq_len, run.train.micro_batch) == (2, 1024, 4)


def test_all_problems_are_named_at_once():
    with pytest.raises(InvalidFile) as refused:
        preset_run("ling-light", ["train.seq_len=1000", "nothing", "model.layers=2"])
    keys = {problem.key for problem in refused.value.problems}

    assert keys == {"model.preset", "train.batch_tokens", "nothing", "model.layers"}
