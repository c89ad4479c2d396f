import math

import pytest
import torch

from everyflop.data.prepare import prepare
from everyflop.model.build import build_model
from everyflop.train.validate import validate

CPU = torch.device("cpu")


@pytest.fixture
def windows(make_run, tmp_path):
    """A validation set of 23 tokens in windows of 6: the text has 22 bytes, each of them a token, and one end."""
    (tmp_path / "train.txt").write_text("zzyyxxwwvvuu " * 20)
    (tmp_path / "val.txt").write_text("0123456789 9876543210!")
    data = {
        "sources": str(tmp_path / "train.txt"),
        "validation": [{"name": "v", "sources": str(tmp_path / "val.txt")}],
        "vocab_size": 257,  # bytes and end-of-text: nothing is merged
        "held_out_share": None,
        "prepared_dir": str(tmp_path / "prepared"),
    }
    return prepare(make_run(data=data, train={"seq_len": 6, "batch_tokens": 240})).validation["v"]


@pytest.fixture
def model(make_settled):
    return build_model(make_settled(model={"init_std": 0.3}).model, seed=0, device=CPU, compute_dtype=None)


def test_a_model_that_knows_nothing_needs_the_log_of_the_vocabulary_for_each_token(model, windows):
    torch.nn.init.zeros_(model.head.weight)
    result = validate(model, windows, CPU)

    assert result.tokens == 23
    assert result.loss == pytest.approx(math.log(320))
    assert result.bits_per_byte == pytest.approx(23 * math.log2(320) / 22)


def test_the_loss_is_the_mean_over_every_target_of_every_window(model, windows):
    nats = []
    for index in range(len(windows)):
        batch = windows.windows([index])
        log_p = model(torch.from_numpy(batch.inputs_BT))[0].log_softmax(-1)
        each = -log_p.gather(1, torch.from_numpy(batch.targets_BT[0])[:, None])[:, 0]
        nats += each[torch.from_numpy(batch.loss_mask_BT[0])].tolist()
    result = validate(model, windows, CPU)

    assert result.loss == pytest.approx(sum(nats) / 23, rel=1e-5)
    assert result.bits_per_byte == pytest.approx(sum(nats) / math.log(2) / 22, rel=1e-5)


def test_a_limit_takes_evenly_spaced_windows_and_their_share_of_the_bytes(model, windows):
    alone = [validate(model, _Only(windows, [index]), CPU) for index in (0, 2)]
    result = validate(model, windows, CPU, limit=2)  # of windows 0 to 3: the first, and the one at the middle

    assert result.tokens == 12
    assert result.loss == pytest.approx((alone[0].loss + alone[1].loss) / 2, rel=1e-5)
    assert result.bits_per_byte == pytest.approx(result.loss * 12 / math.log(2) / (22 * 12 / 23))


def test_a_limit_beyond_the_set_is_the_whole_set(model, windows):
    assert validate(model, windows, CPU, limit=100) == validate(model, windows, CPU)


def test_progress_counts_every_window_once(model, windows):
    advanced = []
    validate(model, windows, CPU, advance=advanced.append)

    assert sum(advanced) == len(windows) == 4


def test_validation_changes_nothing_in_the_model(model, windows):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    validate(model, windows, CPU)

    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


class _Only:
    """Some windows of a set."""

    def __init__(self, windows, indices):
        self._windows, self._indices = windows, indices
        self.text_bytes, self.n_tokens = windows.text_bytes, windows.n_tokens

    def __len__(self) -> int:
        return len(self._indices)

    def windows(self, indices):
        return self._windows.windows([self._indices[i] for i in indices])
