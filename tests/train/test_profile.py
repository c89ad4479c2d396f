"""Where a step's time goes."""

import statistics
from dataclasses import dataclass

import pytest
from torch.autograd import DeviceType

from everyflop.backend.device import detect
from everyflop.base.progress import quiet
from everyflop.train.profile import REST, _parts, as_json, component, profile_steps, roofline
from everyflop.train.random_windows import random_windows
from everyflop.train.session import build_run_model, build_session
from everyflop.train.update import attempt_step


@pytest.fixture(scope="module")
def processor():
    return detect(processor=True)


def test_the_steps_are_those_that_training_does(make_settled, processor):
    settled = make_settled()
    found = profile_steps(settled, processor, steps=3, progress=quiet)
    session = build_session(settled, build_run_model(settled, processor), processor)
    batch = random_windows(settled.model.vocab_size, settled.batch_tokens // 32, seq_len=32)

    assert found.losses == [attempt_step(session, batch, lr=settled.peak_lr).loss for _ in range(3)]


def test_the_figures_fit_each_other(make_settled, processor):
    settled = make_settled()
    found = profile_steps(settled, processor, steps=4, progress=quiet)
    median_s = statistics.median(found.step_s[1:])

    assert len(found.step_s) == len(found.losses) == 4
    assert found.tokens_per_s == pytest.approx(settled.batch_tokens / median_s)
    assert sum(found.parts_s.values()) == pytest.approx(median_s)
    assert {"attention", "experts", "head and loss", "matmul", "optimizer", REST} <= found.parts_s.keys()
    assert 0 < found.mfu < 1
    assert {"tokens_per_s", "step_s", "losses", "mfu", "peak_rss_gib", "params"} <= as_json(found).keys()


def test_at_the_peak_a_component_takes_its_flops_over_the_rate(make_settled):
    model = make_settled().model
    found = roofline(model, 32, 1000, 1e9)
    routed = 3 * 2 * 1000 * 3 * model.hidden * model.expert_width * model.experts_per_token
    n_moe = sum(not model.is_dense(layer) for layer in range(model.n_layers))

    assert found["experts"] == pytest.approx(n_moe * routed / 1e9)
    assert found["head and loss"] == pytest.approx(3 * 2 * 1000 * model.hidden * model.vocab_size / 1e9)


@dataclass
class Operation:
    name: str
    cpu_parent: "Operation | None" = None


def test_an_operation_belongs_to_the_outermost_caller_that_owns_any():
    step = Operation("ProfilerStep")
    experts = Operation("everyflop::experts_backward", step)

    assert component(Operation("aten::mm", experts)) == "experts"
    assert component(Operation("aten::mm", step)) == "matmul"
    assert component(Operation("aten::copy_", step)) == REST


@dataclass
class Recorded:
    name: str
    device_type: DeviceType
    self_device_time_total: float
    self_cpu_time_total: float
    cpu_parent: None = None


def test_on_an_accelerator_kernels_count_once_and_waiting_of_the_host_not_at_all():
    events = [
        Recorded("aten::mm", DeviceType.CPU, 100.0, 5.0),
        Recorded("a_kernel", DeviceType.CUDA, 100.0, 0.0),
        Recorded("cudaStreamSynchronize", DeviceType.CPU, 0.0, 900.0),
    ]

    assert _parts(events, 1.0) == {"matmul": 1.0, REST: 0.0}
    assert _parts([Recorded("aten::mm", DeviceType.CPU, 0.0, 5.0)], 1.0) == {"matmul": 1.0}
