"""everyflop: pre-train Mixture-of-Experts language models at the lowest cost per token on the accelerators you can get.

The names below are loaded when first used, so that `import everyflop` costs nothing and planning never needs torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from everyflop.base.version import VERSION

if TYPE_CHECKING:
    from everyflop import train as train
    from everyflop.infer.load import load_checkpoint as load_checkpoint
    from everyflop.model.hf.load import load_hf as load_hf
    from everyflop.model.hf.save import save_hf as save_hf
    from everyflop.planner.plan.plan import plan as plan
    from everyflop.planner.predict.predict import predict as predict
    from everyflop.spec.read import read_run as read_run

__version__ = VERSION

_HOMES = {
    "read_run": "everyflop.spec.read",
    "load_checkpoint": "everyflop.infer.load",
    "load_hf": "everyflop.model.hf.load",
    "save_hf": "everyflop.model.hf.save",
    "plan": "everyflop.planner.plan.plan",
    "predict": "everyflop.planner.predict.predict",
}

__all__ = ["__version__", "load_checkpoint", "load_hf", "plan", "predict", "read_run", "save_hf", "train"]


def __getattr__(name: str) -> Any:
    if name == "train":
        return importlib.import_module("everyflop.train")  # a package that can be called
    if name not in _HOMES:
        raise AttributeError(f"everyflop has no '{name}'; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
