"""The training loop and what it needs: steps, judgement, telemetry, money, the run directory.

The package can be called: `everyflop.train(run)` is `everyflop.train.run.train(run)`. A function of that name could not
live beside the package, because importing a package sets the attribute of its parent.
"""

import sys
import types
from typing import Any


class _CallablePackage(types.ModuleType):
    def __call__(self, run: Any, **options: Any) -> dict[str, Any]:
        from everyflop.train.run import train

        return train(run, **options)


sys.modules[__name__].__class__ = _CallablePackage
