"""Draw where a step's time goes beside what it would take at the peak."""

from pathlib import Path

from everyflop.base.files import write_atomic
from everyflop.train.png import png
from everyflop.train.profile import StepProfile


def draw_profile(found: StepProfile, path: Path) -> None:
    """Write a PNG: a bar for each component, longest first, and what its FLOPs alone would take."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    parts = sorted(found.parts_s.items(), key=lambda part: part[1])
    names = [name for name, _ in parts]
    figure = Figure(figsize=(8, 0.5 * len(parts) + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.barh(names, [1000 * seconds for _, seconds in parts], color="#4c78a8", label="measured")
    ideal = [1000 * found.roofline_s.get(name, 0.0) for name in names]
    axes.barh(names, ideal, height=0.35, color="#f58518", label="its FLOPs at the peak of matmuls")
    axes.set_xlabel("ms of an optimizer step")
    axes.set_title(f"{found.tokens_per_s:,.0f} tokens/s, MFU {100 * found.mfu:.0f} %")
    axes.legend(loc="lower right")
    write_atomic(path, png(figure, dpi=120))
