"""What a finished run leaves to read: summary.json, the loss curve, a self-contained HTML page."""

import base64
import html
import io
from typing import Any

from everyflop.base.files import read_lines, write_atomic, write_json
from everyflop.train.predicted import comparison_rows, doubt
from everyflop.train.run_dir import RunDir

SCHEMA = 1


def write_summary(run_dir: RunDir, facts: dict[str, Any]) -> dict[str, Any]:
    """Write summary.json, loss.png and report.html from the run's own files; return the summary."""
    summary = {"schema": SCHEMA, **facts}
    picture = loss_picture(read_lines(run_dir.metrics), read_lines(run_dir.events))
    write_atomic(run_dir.path / "loss.png", picture)
    write_atomic(run_dir.path / "report.html", report_page(summary, picture))
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
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def report_page(summary: dict[str, Any], picture: bytes) -> str:
    """Return one HTML page that needs no other file."""
    rows = "".join(f"<tr><th>{html.escape(key)}<td>{html.escape(value)}" for key, value in _rows(summary))
    image = base64.b64encode(picture).decode()
    return (
        f"<!doctype html><meta charset=utf-8><title>{html.escape(summary['name'])}</title>"
        "<style>body{font:16px sans-serif;margin:2em;max-width:60em}th{text-align:left;padding-right:2em}"
        "td,th{vertical-align:top}img{max-width:100%}pre{white-space:pre-wrap;background:#eee;padding:1em}</style>"
        f"<h1>{html.escape(summary['name'])}</h1><table>{rows}</table>"
        f'<img alt="loss curve" src="data:image/png;base64,{image}">'
        f"<h2>Generated text</h2><pre>{html.escape(summary['sample']['prompt'])}"
        f"<b>{html.escape(summary['sample']['text'])}</b></pre>\n"
    )


def _rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        (f"validation: {name}", f"loss {result['loss']:.4f}, {result['bits_per_byte']:.4f} bits per byte")
        for name, result in summary["validation"].items()
    ]
    price = " (at an example price)" if summary["example_price"] else ""
    cost = "no price given" if summary["cost"] is None else f"{summary['cost']:.4g} {summary['currency']}{price}"
    plain = ("parameters", "active_parameters", "steps", "tokens", "seconds", "tokens_per_s", "device", "precision")
    values = {key: summary[key] for key in plain}
    texts = [(key, f"{value:,.6g}" if isinstance(value, float) else str(value)) for key, value in values.items()]
    return [*rows, ("cost", cost), *(_against_plan(summary["plan"]) if "plan" in summary else []), *texts]


def _against_plan(plan: dict[str, Any]) -> list[tuple[str, str]]:
    but = f" ({doubt(plan)})" if doubt(plan) else ""
    return [
        (f"{what}, by the plan", f"predicted {predicted}; measured {measured}, {ratio} times that{but}")
        for what, predicted, measured, ratio in comparison_rows(plan)
    ]
