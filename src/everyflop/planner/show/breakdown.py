"""Show what a total consists of: one line for each part, with its figure, its share and a bar."""

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from everyflop.base.units import decimals_of, percent

_BAR_WIDTH = 30


def breakdown(title: str, parts: Mapping[str, float], unit: str) -> RenderableType:
    """Return bars of the parts, largest first, and their total; parts of nothing are left out."""
    total, largest = sum(parts.values()), max(parts.values(), default=0.0)
    decimals = decimals_of(total)
    table = Table.grid(padding=(0, 1))
    table.add_column(max_width=28, overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(width=_BAR_WIDTH)
    for name, value in sorted(parts.items(), key=lambda item: -item[1]):
        if value:
            bar = ProgressBar(total=largest, completed=value, width=_BAR_WIDTH)
            table.add_row(Text(name), f"{value:,.{decimals}f} {unit}", percent(value / total), bar)
    table.add_row("total", f"{total:,.{decimals}f} {unit}", "", "", style="bold")
    return Group(Text(title, style="bold"), table)
