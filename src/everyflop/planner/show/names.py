"""What the page and the report call choices and their islands."""

from collections import Counter
from collections.abc import Iterable, Sequence

from everyflop.base.units import percent
from everyflop.spec.plan import Choice, PlannedIsland


def rows_of(choices: Iterable[Choice]) -> list[tuple[str, PlannedIsland]]:
    """Return every island of every choice under a name of its own: "d" alone, "d in a + d" as one of several."""
    return [
        (choice.name if len(choice.islands) == 1 else f"{island.name} in {choice.name}", island)
        for choice in choices
        for island in choice.islands
    ]


def kind_words(choice: Choice) -> str:
    """Say whether one pool trains, in how many islands, or several."""
    if choice.kind == "mix" or len(choice.islands) == 1:
        return choice.kind
    return f"one pool, {len(choice.islands)} islands"


def devices_line(islands: Sequence[PlannedIsland]) -> str:
    """Say which devices train, and who trains how much where they are several islands; equal islands are counted."""
    if len(islands) == 1:
        return _devices(islands[0])
    equal = Counter((_devices(island), percent(island.share)) for island in islands)
    return " and ".join(
        f"{devices} ({share} of the tokens)" if count == 1 else f"{count} islands of {devices} ({share} each)"
        for (devices, share), count in equal.items()
    )


def _devices(island: PlannedIsland) -> str:
    return f"{island.devices:,} x {island.title or island.device}"
