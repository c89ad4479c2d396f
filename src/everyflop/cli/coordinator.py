"""`everyflop coordinator`: let the islands of a run meet."""

from pathlib import Path
from typing import Annotated

import typer


def coordinator(
    run_file: Annotated[Path, typer.Argument(metavar="RUN.toml", help="The run file of the islands.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="section.key=value", help="The same as for the islands.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 7700,
    secret: Annotated[
        Path | None, typer.Option("--secret", help="File with the secret that islands must know.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="Certificate for TLS, with --tls-key.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its private key.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that has begun.")] = False,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="What the run follows: the same plan.json as for the islands.")
    ] = None,
    replay: Annotated[Path | None, typer.Option("--replay", help="Do what this round log says, bit for bit.")] = None,
    claimed: Annotated[bool, typer.Option("--claimed", hidden=True)] = False,
) -> None:
    """Coordinate islands on several machines: admit them, hand out samples, merge updates. Needs no accelerator.

    everyflop coordinator run.toml --host 0.0.0.0 --secret key.txt
    everyflop train run.toml --island a --coordinator hub:7700 --secret key.txt
    everyflop coordinator run.toml --plan plan.json --port 7701
    """
    import contextlib

    from everyflop.base.errors import UsageError
    from everyflop.base.orphans import end_with_parent
    from everyflop.islands.endings import refuse_failure
    from everyflop.islands.secret import read_secret
    from everyflop.islands.tls import server_context
    from everyflop.spec.read import read_run
    from everyflop.train.coordinate import coordinate
    from everyflop.train.plan import follow, refuse_overrides
    from everyflop.train.run_dir import claim

    end_with_parent()
    run = read_run(run_file, overrides or (), files=False)
    refuse_overrides(run, overrides or (), plan=plan, resume=resume)
    run, planned = follow(run, plan, resume=resume, files=False)
    if not run.island:
        without = f"{planned.path} has one island" if planned else f"{run_file} has no [[island]] tables"
        raise UsageError(f"{without}, so there is nothing to coordinate.")
    tls = server_context(tls_cert, tls_key)
    known = read_secret(secret, needed=host not in ("127.0.0.1", "localhost", "::1"))
    with contextlib.nullcontext() if claimed else claim(run, resume=resume):
        how = coordinate(run, host, port, known, tls=tls, replay=replay, planned=planned)
    refuse_failure(how)
    print(f"The run {run.run.name} is over: {how}.")
