"""Where commands print: as it is, for a user's text may hold what looks like markup, such as `Llama [/inst]`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def plain_console(*, soft_wrap: bool = False, width: int | None = None) -> "Console":
    """Return a console on stdout that reads no markup and no emoji names in any text."""
    from rich.console import Console  # 40 ms that a plain --help should not pay

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=soft_wrap, width=width)
