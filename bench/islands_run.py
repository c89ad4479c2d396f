"""The one configuration of all claims about islands, as run files: bench/islands.toml in batches of 2,048 tokens."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "bench" / "islands.toml"
SEQ_LEN, BATCH_TOKENS = 128, 2048


def write_run(
    folder: Path,
    name: str,
    steps: float,
    islands: Sequence[dict[str, Any]],
    how: dict[str, Any],
    **more: dict[str, Any],
) -> Path:
    """Write the file of a run with these [[island]] tables and this [islands] table; return its path.

    Without a word on it, the run has no synchronous start.

    The run's folder is the path without its ending. `more` goes on top of the tables of these names.
    """
    run = tomllib.loads(CONFIG.read_text())
    run["run"] |= {"name": name, "out_dir": str(folder)}
    run["data"]["prepared_dir"] = str(ROOT / "runs" / "prepared")
    run["train"] |= {"batch_tokens": BATCH_TOKENS, "seq_len": SEQ_LEN}
    for table, values in more.items():
        run[table] = {**run.get(table, {}), **values}
    run["train"]["tokens"] = round(steps * run["train"]["batch_tokens"])
    run["island"], run["islands"] = [*islands], {"sync_share": 0.0, **how}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(tomli_w.dumps(run))
    return path
