"""Whether torch can compile for a device here, and what it compiles."""

import logging

import torch

from everyflop.backend.compile_cache import remove_unfinished
from everyflop.backend.device import Device


def why_not(device: Device) -> str | None:
    """Return why torch.compile cannot work here; None where it can."""
    if device.type == "cpu":
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler

        try:
            get_cpp_compiler()
        except InvalidCxxCompiler:
            return "there is no C++ compiler"
        return None
    from torch.utils._triton import has_triton

    return None if has_triton() else f"there is no Triton for {device.type}"


def compiled(function):
    """Return a function that torch compiles for each set of fixed shapes: dynamic ones would depend on history."""
    for path in remove_unfinished():
        logging.getLogger(__name__).warning("Removed %s: its compiler was stopped. It is made again.", path)
    return torch.compile(function, dynamic=False)
