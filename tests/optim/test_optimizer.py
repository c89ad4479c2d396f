from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from everyflop.checkpoint import open_checkpoint, save
from everyflop.optim.optimizer import build_optimizer, optimizer_steps, optimizer_tensors, restore_optimizer
from everyflop.spec.train import OptimSpec

OPTIM = OptimSpec()


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2, bias=False))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 / (1 + step)
        inputs = torch.randn(3, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(inputs).square().sum().backward()
        optimizer.step()


def all_bits(model: nn.Module) -> list[bytes]:
    return [parameter.detach().numpy().tobytes() for parameter in model.parameters()]


def test_training_continues_bit_for_bit_through_a_checkpoint(tmp_path: Path):
    straight = small_model()
    train(straight, build_optimizer(straight.named_parameters(), OPTIM), range(7))

    model = small_model()
    optimizer = build_optimizer(model.named_parameters(), OPTIM)
    train(model, optimizer, range(3))
    weights = {f"model.{name}": parameter for name, parameter in model.named_parameters()}
    state = {"steps": optimizer_steps(optimizer)}
    path = save(tmp_path, 3, tensors={**weights, **optimizer_tensors(optimizer)}, state=state, files={}, keep=1)

    checkpoint = open_checkpoint(path)
    resumed = small_model()
    checkpoint.load_into({f"model.{name}": parameter for name, parameter in resumed.named_parameters()})
    fresh = build_optimizer(resumed.named_parameters(), OPTIM)
    restore_optimizer(fresh, checkpoint.load("exp_avg"), steps=checkpoint.state["steps"])
    train(resumed, fresh, range(3, 7))

    assert all_bits(resumed) == all_bits(straight)


def test_steps_are_adamw_as_its_paper_writes_it():
    model = nn.Linear(2, 1, bias=False)
    weights = model.weight.detach().double().numpy().copy()
    optimizer = build_optimizer(model.named_parameters(), OptimSpec(weight_decay=0.1, betas=(0.9, 0.95), eps=1e-8))
    optimizer.param_groups[0]["lr"] = 0.01

    mean, square = np.zeros((1, 2)), np.zeros((1, 2))
    for t, gradient in enumerate((np.array([[0.5, -2.0]]), np.array([[-3.0, 1.0]])), 1):
        model.weight.grad = torch.from_numpy(gradient).float()
        optimizer.step()
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.95 * square + 0.05 * gradient**2
        update = (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.95**t)) + 1e-8)
        weights = weights - 0.01 * 0.1 * weights - 0.01 * update

    assert model.weight.detach().numpy() == pytest.approx(weights, abs=1e-6)


def test_moments_carry_their_parameters_names():
    model = small_model()
    optimizer = build_optimizer(model.named_parameters(), OPTIM)
    train(model, optimizer, range(1))

    names = ["0.bias", "0.weight", "1.bias", "1.weight", "2.weight"]
    tensors = optimizer_tensors(optimizer)
    assert sorted(tensors) == [f"exp_avg.{name}" for name in names] + [f"exp_avg_sq.{name}" for name in names]
    assert tensors["exp_avg.0.weight"].shape == (8, 4)


def test_before_the_first_step_there_is_no_state_and_restoring_that_is_a_fresh_start():
    optimizer = build_optimizer(small_model().named_parameters(), OPTIM)

    assert (optimizer_steps(optimizer), optimizer_tensors(optimizer)) == (0, {})
    restore_optimizer(optimizer, {}, steps=0)
    assert optimizer_tensors(optimizer) == {}


def test_updates_are_counted():
    model = small_model()
    optimizer = build_optimizer(model.named_parameters(), OPTIM)
    train(model, optimizer, range(5))

    assert optimizer_steps(optimizer) == 5


def test_a_parameter_that_misses_updates_is_noticed_when_counting_them():
    model = small_model()
    optimizer = build_optimizer(model.named_parameters(), OPTIM)
    train(model, optimizer, range(1))
    next(model.parameters()).grad = None
    optimizer.step()

    with pytest.raises(ValueError, match=r"update counts \[1, 2\]"):
        optimizer_steps(optimizer)


def test_a_missing_moment_is_named():
    model = small_model()
    optimizer = build_optimizer(model.named_parameters(), OPTIM)

    with pytest.raises(KeyError, match=r"exp_avg\.0\.weight"):
        restore_optimizer(optimizer, {}, steps=3)


def test_a_step_is_fused_where_the_device_can_and_plain_where_it_cannot():
    fused = build_optimizer(small_model().named_parameters(), OPTIM)
    with torch.device("meta"):
        plain = build_optimizer(small_model().named_parameters(), OPTIM)

    assert [group["fused"] for group in fused.param_groups] == [True, True]
    assert [group["fused"] for group in plain.param_groups] == [False, False]
