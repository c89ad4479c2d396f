"""The published families. To add one: a file with a LAYOUT, its name in spec/families.py, and a line here."""

from everyflop.model.families import deepseek_v3, ling_v1, ling_v2, mixtral, olmoe, qwen3_moe
from everyflop.model.families.layout import Layout

LAYOUTS: tuple[Layout, ...] = tuple(
    family.LAYOUT for family in (ling_v1, ling_v2, deepseek_v3, qwen3_moe, mixtral, olmoe)
)
BY_FAMILY: dict[str, Layout] = {layout.family: layout for layout in LAYOUTS}
BY_ARCHITECTURE: dict[str, Layout] = {layout.architecture: layout for layout in LAYOUTS}
