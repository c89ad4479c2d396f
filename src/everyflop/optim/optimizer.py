"""AdamW for named parameters, and its state as flat named tensors."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import AdamW

from everyflop.optim.groups import parameter_groups
from everyflop.spec.train import OptimSpec

MOMENTS = ("exp_avg", "exp_avg_sq")


def build_optimizer(named_parameters: Iterable[tuple[str, Parameter]], optim: OptimSpec) -> AdamW:
    """Return AdamW over all parameters, fused where their device can do that.

    The learning rate is 0 until the loop sets each group's "lr" before a step: the schedule owns it.
    """
    named = list(named_parameters)
    fused = all(_has_fused(device) for device in {parameter.device for _, parameter in named})
    groups = parameter_groups(named, optim.weight_decay)
    return AdamW(groups, lr=0.0, betas=optim.betas, eps=optim.eps, fused=fused)


def optimizer_tensors(optimizer: AdamW) -> dict[str, Tensor]:
    """Return the moments as exp_avg.<parameter> and exp_avg_sq.<parameter>, not copied; none before the first step."""
    named = [(name, optimizer.state.get(parameter, {})) for name, parameter in _named_parameters(optimizer)]
    return {f"{moment}.{name}": state[moment] for name, state in named if state for moment in MOMENTS}


def optimizer_steps(optimizer: AdamW) -> int:
    """Return the number of updates done, which Adam's bias correction depends on.

    Raises ValueError when parameters differ in it: one number could not restore them.
    """
    counts = {int(optimizer.state[p]["step"]) if p in optimizer.state else 0 for _, p in _named_parameters(optimizer)}
    if len(counts) > 1:
        raise ValueError(f"some parameters had no gradient in some steps: update counts {sorted(counts)}")
    return counts.pop()


def restore_optimizer(optimizer: AdamW, tensors: Mapping[str, Tensor], *, steps: int) -> None:
    """Put the state from optimizer_tensors and optimizer_steps into a fresh optimizer of the same parameters.

    The optimizer takes the tensors over where device and dtype fit. Raises KeyError naming a missing tensor.
    """
    if steps == 0:
        return
    whole = optimizer.state_dict()
    for index, (name, _) in enumerate(_named_parameters(optimizer)):
        moments = {moment: tensors[f"{moment}.{name}"] for moment in MOMENTS}
        whole["state"][index] = {"step": torch.tensor(float(steps)), **moments}
    optimizer.load_state_dict(whole)


def _named_parameters(optimizer: AdamW) -> list[tuple[str, Parameter]]:
    """Return parameters with their names, in the order in which state_dict numbers them."""
    return [
        pair for group in optimizer.param_groups for pair in zip(group["param_names"], group["params"], strict=True)
    ]


def _has_fused(device: torch.device) -> bool:
    """Try one fused step: torch checks the device only then, and a vendor's backend may lack the kernel."""
    probe = Parameter(torch.zeros(1, device=device))
    probe.grad = torch.zeros_like(probe)
    try:
        AdamW([probe], fused=True).step()
    except RuntimeError:
        return False
    return True
