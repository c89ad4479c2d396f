"""Which of a machine's accelerators a process sees, by the variable that its vendor's library reads at the start."""

import os

import torch

VARIABLES = {"cuda": "CUDA_VISIBLE_DEVICES", "npu": "ASCEND_RT_VISIBLE_DEVICES", "xpu": "ZE_AFFINITY_MASK"}


def one_of_several(number: int) -> dict[str, str]:
    """Return the environment in which a process sees only one of the accelerators that this one sees.

    They are counted round. Empty where there are not several, or where the vendor's variable is not known.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None or torch.accelerator.device_count() < 2 or accelerator.type not in VARIABLES:
        return {}
    variable = "HIP_VISIBLE_DEVICES" if torch.version.hip else VARIABLES[accelerator.type]
    given = os.environ.get(variable)
    names = given.split(",") if given else [str(n) for n in range(torch.accelerator.device_count())]
    return {variable: names[number % len(names)].strip()}
