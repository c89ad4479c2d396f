"""The name of an island, as run files, fleets (of a pool) and plans have it: also that of a folder and of a process."""

from typing import Annotated

from pydantic import AfterValidator, Field

TAKEN = ("coordinator", "coordinator.txt", "run.toml")
"""What else stands beside the islands in a run's directory and among its processes."""


def _is_free(name: str) -> str:
    if name in TAKEN:
        raise ValueError("is a name that runs use for something else: choose another")
    return name


IslandName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100), AfterValidator(_is_free)]
