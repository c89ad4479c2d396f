"""Islands and a coordinator that are started by hand, each with files of its own, as on several machines."""

import json
import shutil
import socket
import subprocess

import pytest

from everyflop.spec.read import read_run
from everyflop.train.run_dir import RunDir

from .run_dirs import used_samples, wait_for_round

SECRET = "0123456789abcdef\n"
ISLANDS = [{"name": "fast", "price_per_device_hour": 2.0}, {"name": "slow", "slowdown": 2.0}]
ROUNDS = {"steps": 4, "sync_share": 0.2, "join_s": 60.0}


@pytest.fixture
def machines(start_everyflop, write_run_file, tmp_path):
    """Starts coordinator and islands, each in a folder that no other knows, and returns their processes."""
    (tmp_path / "secret").write_text(SECRET)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    def start(*, islands=ISLANDS, serve=(), join=(), **changes) -> list[subprocess.Popen]:
        run_file = write_run_file(tmp_path, **{"island": islands, "islands": ROUNDS, **changes})
        secret = ("--secret", tmp_path / "secret")
        hub = ("coordinator", run_file, f"run.out_dir={tmp_path / 'hub'}", "--port", port, *secret, *serve)
        names = [island["name"] for island in islands]
        there = ("--coordinator", f"127.0.0.1:{port}", *secret, *join)
        parts = [("train", run_file, f"run.out_dir={tmp_path / name}", "--island", name, *there) for name in names]
        return [start_everyflop(*command) for command in (hub, *parts)]

    return start


def ends_of(processes: list[subprocess.Popen]) -> list[tuple[int, str]]:
    return [(process.returncode, err) for process in processes for _, err in [process.communicate(timeout=200)]]


@pytest.fixture
def certificate(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=coordinator"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def test_they_meet_over_tls_a_stranger_is_refused_and_the_coordinator_has_a_report(
    certificate, machines, everyflop, tmp_path
):
    (tmp_path / "other").write_text("f" * 16)
    trust = ("--tls-ca", certificate[0])
    processes = machines(
        serve=("--tls-cert", certificate[0], "--tls-key", certificate[1]), join=trust, train={"tokens": 256 * 24}
    )
    (at,) = [word for word in processes[1].args if str(word).startswith("127.0.0.1:")]
    own = f"run.out_dir={tmp_path / 'stranger'}"
    there = ("--coordinator", at, *trust, "--secret", tmp_path / "other")
    stranger = everyflop("train", tmp_path / "run.toml", own, "--island", "fast", *there)
    ends, hub = ends_of(processes), tmp_path / "hub" / "tiny"

    assert [code for code, _ in ends] == [0, 0, 0], ends
    assert sorted(used_samples(hub)) == list(range(8 * 24))
    assert json.loads((tmp_path / "fast" / "tiny" / "summary.json").read_text())["tokens"] == 256 * 24
    assert stranger.code == 2
    assert "secret" in stranger.err
    assert not (hub / "run.toml").exists(), "no island keeps its files there"
    reported = everyflop("report", hub)
    assert reported.code == 0, reported.err
    page = (hub / "report.html").read_text()
    assert "fast" in page
    assert "slow" in page


def test_all_of_them_follow_a_plan_and_an_island_that_does_not_is_refused(
    machines, everyflop, plan_for, write_run_file, tmp_path
):
    short = {"tokens": 256 * 24}
    run, plan = read_run(write_run_file(tmp_path, train=short)), tmp_path / "plan.json"
    exchange = {"steps_between": 3, "sync_share": 0.25, "bytes_per_parameter": 1.0, "extra_tokens_share": {}}
    exchange |= {"source": "a test"}
    plan.write_text(json.dumps(plan_for(run, islands={"fast": {}, "slow": {}}, exchange=exchange)))
    follows = ("--plan", plan)
    processes = machines(serve=follows, join=follows, train=short)
    (at,) = [word for word in processes[1].args if str(word).startswith("127.0.0.1:")]
    there = ("--island", "fast", "--coordinator", at, "--secret", tmp_path / "secret")
    stranger = everyflop("train", tmp_path / "run.toml", f"run.out_dir={tmp_path / 'stranger'}", *there)
    ends = ends_of(processes)

    assert [code for code, _ in ends] == [0, 0, 0], ends
    assert stranger.code == 2
    assert "islands.compress: fp32 there, int8 in the run" in stranger.err
    (summary,) = [json.loads(path.read_text()) for path in tmp_path.glob("*/tiny/summary.json")]
    kept = read_run(RunDir(tmp_path / "hub" / "tiny").given)
    assert (kept.islands.steps, kept.islands.compress, kept.island[0].price_per_device_hour) == (3, "int8", 36.0)
    assert set(summary["plan"]["islands"]) == {"fast", "slow"}
    assert all(island["tokens_per_s"]["measured"] > 0 for island in summary["plan"]["islands"].values())
    assert summary["plan"]["cost"]["measured"] == summary["cost"]
    assert (tmp_path / "hub" / "tiny" / "plan.json").read_bytes() == plan.read_bytes()
    assert everyflop("report", tmp_path / "hub" / "tiny").code == 0
    assert "<h2>Plan and run</h2>" in (tmp_path / "hub" / "tiny" / "report.html").read_text()


@pytest.mark.full
def test_an_island_whose_coordinator_stays_away_saves_what_was_committed(machines, tmp_path):
    long = {"train": {"tokens": 256 * 40_000}, "checkpoint": {"every_steps": 100_000}}
    coordinator, island = machines(islands=[{"name": "one"}], **long)
    wait_for_round(tmp_path / "hub" / "tiny", 10, island)
    coordinator.kill()
    _, (code, err) = ends_of([coordinator, island])

    assert code == 2, err
    assert "cannot be reached" in err
    assert len(list((tmp_path / "one").rglob("checkpoints/step-*"))) == 1


@pytest.mark.full
def test_a_run_whose_processes_were_all_killed_goes_on_where_they_are_started_again(machines, everyflop, tmp_path):
    long = {"train": {"tokens": 256 * 400}, "checkpoint": {"every_steps": 20, "keep": 2}}
    processes, hub = machines(**long), tmp_path / "hub" / "tiny"
    wait_for_round(hub, 110, processes[1])  # 80 steps with gradients, and 30 rounds after them
    for process in processes:
        process.kill()
    ends_of(processes)
    there = (f"run.out_dir={tmp_path / 'fast'}", "--island", "fast", "--coordinator", "127.0.0.1:1")
    refused = everyflop("train", tmp_path / "run.toml", "optim.lr=7e-3", *there)
    ends = ends_of(machines(serve=("--resume",), **long))

    assert refused.code == 2
    assert "optim.lr: was" in refused.err
    assert [code for code, _ in ends] == [0, 0, 0], ends
    assert sorted(used_samples(hub)) == list(range(8 * 400))
