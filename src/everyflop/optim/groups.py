"""Which parameters decay: matrices do, norms and biases do not."""

from collections.abc import Iterable
from typing import Any

from torch.nn import Parameter


def parameter_groups(named_parameters: Iterable[tuple[str, Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """Return optimizer groups of named parameters: all with two or more dimensions decay, vectors never.

    Embeddings, linear layers, the router and stacked experts are matrices; norms and biases are vectors. A group
    that would be empty is left out.
    """
    named = list(named_parameters)
    matrices = [(name, parameter) for name, parameter in named if parameter.ndim >= 2]
    vectors = [(name, parameter) for name, parameter in named if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
