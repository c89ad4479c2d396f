"""What a finished run leaves to read: summary.json, the loss curve, the report."""

from typing import Any

from everyflop.base.files import write_atomic, write_json
from everyflop.train.png import png
from everyflop.train.report import build_report
from everyflop.train.report_files import read_files
from everyflop.train.report_page import report_page
from everyflop.train.report_pictures import draw
from everyflop.train.run_dir import RunDir

SCHEMA = 1


def write_summary(run_dir: RunDir, facts: dict[str, Any]) -> dict[str, Any]:
    """Write summary.json, loss.png and report.html from the run's own files; return the summary."""
    summary = {"schema": SCHEMA, **facts}
    files = read_files(run_dir, summary=summary)
    report = build_report(files)
    write_atomic(run_dir.path / "loss.png", loss_picture(files.metrics, files.events))
    write_atomic(run_dir.path / "report.html", report_page(report, draw(report)))
    write_json(run_dir.summary, summary)  # last: its presence says that the run is finished
    return summary


def loss_picture(metrics: list[dict[str, Any]], events: list[dict[str, Any]]) -> bytes:
    """Return a PNG of training loss over tokens, with the validations made on the way."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    lines = [line for line in metrics if line["loss"] is not None]
    axes.plot([line["tokens"] for line in lines], [line["loss"] for line in lines], lw=0.8, label="training, each step")
    tokens_at = {line["step"]: line["tokens"] for line in metrics}
    points: dict[str, dict[int, float]] = {}
    for event in events:
        if event["event"] == "validation" and event["step"] in tokens_at:
            points.setdefault(event["set"], {})[tokens_at[event["step"]]] = event["loss"]
    for name, by_tokens in points.items():
        axes.plot(list(by_tokens), list(by_tokens.values()), "o-", ms=4, label=f"validation, {name}")
    axes.set_xlabel("tokens")
    axes.set_ylabel("loss (nats a token)")
    axes.grid(alpha=0.3)
    axes.legend()
    return png(figure)
