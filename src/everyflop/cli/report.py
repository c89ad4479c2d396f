"""`everyflop report`: show what a run did, in one page."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A run directory, finished or under way.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.html", help="Where; by default RUN_DIR/report.html.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="RUN_DIR", help="A control that did not move, to compare with.")
    ] = None,
    png: Annotated[Path | None, typer.Option("--png", metavar="DIR", help="A folder for the pictures as PNGs.")] = None,
) -> None:
    """Write a page on a run: loss, speed, time line, traffic, guards, the bill. It needs no other file.

    everyflop report runs/tiny
    everyflop report runs/tiny --out tiny.html --png pictures
    everyflop report runs/moved --against runs/stayed
    """
    from everyflop.base.files import write_atomic
    from everyflop.base.outputs import check_outputs
    from everyflop.train.report import build_report
    from everyflop.train.report_against import compare
    from everyflop.train.report_files import files_read, read_files
    from everyflop.train.report_page import report_page
    from everyflop.train.report_pictures import draw
    from everyflop.train.run_dir import RunDir

    where, page = RunDir(run_dir), out or run_dir / "report.html"
    files = read_files(where)
    found = build_report(files)
    comparison = compare(files, read_files(RunDir(against)), str(against)) if against else None
    if png is not None:
        png.mkdir(exist_ok=True)
    check_outputs({"--out": page, "--png": png and png / "report-loss.png"}, inputs=files_read(where))
    pictures = draw(found)
    write_atomic(page, report_page(found, pictures, comparison))
    typer.echo(f"Wrote {page}.")
    if png is None:
        return
    for name, content in pictures.items():
        path = png / f"report-{name}.png"
        write_atomic(path, content)
        typer.echo(f"Drew {path}.")
