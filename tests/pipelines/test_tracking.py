import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from stokes_store import build_store, experiment

from pipelines.checkpoints import find, load_surrogate
from pipelines.tracking import MLflowConfig, NoTracking, Tracker, absolute_uri, flatten, start
from pipelines.train import train

# MLflow and what it imports warn of their own future.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build_store(tmp_path_factory.mktemp("tracking") / "store", training=2)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Make the tables once; that takes MLflow seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client(f"sqlite:///{path}").search_experiments()
    return path


def client(uri):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def runs(uri, experiment_name):
    found = client(uri).get_experiment_by_name(experiment_name)
    return [] if found is None else client(uri).search_runs([found.experiment_id])


def write_metrics(run, steps):
    run.mkdir(exist_ok=True)
    with (run / "metrics.jsonl").open("a") as file:
        for step in steps:
            file.write(json.dumps({"step": step, "time": 1.7e9 + step, "loss": 1 / step, "rate": 0.1}) + "\n")


def history(uri, run_id, name="loss"):
    return [
        (each.step, each.value) for each in sorted(client(uri).get_metric_history(run_id, name), key=lambda m: m.step)
    ]


def test_settings_become_dotted_names():
    tree = {"training": {"steps": 3, "loss": {"kind": "mse", "weights": {}}}, "space": ["x", "y"], "name": None}
    assert flatten(tree) == {
        "training.steps": "3",
        "training.loss.kind": "mse",
        "training.loss.weights": "{}",
        "space": '["x", "y"]',
        "name": "null",
    }


def test_no_settings_are_no_parameters():
    assert flatten({}) == {}


def test_a_database_means_the_same_from_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert absolute_uri(None) == f"sqlite:///{tmp_path}/mlflow.db"
    assert absolute_uri("sqlite:///sub/m.db") == f"sqlite:///{tmp_path}/sub/m.db"
    assert absolute_uri("http://host:5000") == "http://host:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert absolute_uri(None) == "http://elsewhere"


def test_no_tracking_is_nothing(tmp_path):
    assert start(NoTracking(), tmp_path, {}, print) is None


def test_a_training_in_sqlite(store, database, tmp_path):
    uri = f"sqlite:///{database}"
    config = experiment(store, MLflowConfig(uri=uri, experiment="sqlite", interval=0.2))
    report = train(config, run=tmp_path / "my_run")
    assert report.tracked is True
    (run,) = runs(uri, "sqlite")
    assert run.info.run_name == "my_run"
    assert run.info.status == "FINISHED"
    assert run.data.params["training.sampling.anchors.volume"] == "64"
    assert run.data.params["operator.width"] == "24"
    lines = [json.loads(line) for line in (tmp_path / "my_run" / "metrics.jsonl").read_text().splitlines()]
    for name in ("loss", "loss/surface_pressure", "learning_rate", "validation/score"):
        assert history(uri, run.info.run_id, name) == [(line["step"], line[name]) for line in lines if name in line]
    assert "system/system_memory_usage_megabytes" in run.data.metrics
    artefacts = client(uri).list_artifacts(run.info.run_id)
    assert {"config.yaml", "checkpoint"} <= {artefact.path for artefact in artefacts}
    assert run.info.artifact_uri.startswith((database.parent / "mlartifacts").as_uri())
    environment = pytest.MonkeyPatch()
    with environment.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        assert find(f"runs:/{run.info.run_id}") == find((tmp_path / "my_run").resolve())
        (tmp_path / "my_run").rename(tmp_path / "gone")
        surrogate = load_surrogate(f"runs:/{run.info.run_id}")
        with pytest.raises(ValueError, match=r"runs:/0123 was not found in the MLflow store sqlite"):
            find("runs:/0123")
    assert surrogate.spec == load_surrogate(tmp_path / "gone").spec


def test_a_resumed_run_goes_on_in_mlflow(store, database, tmp_path):
    uri = f"sqlite:///{database}"
    tracking = MLflowConfig(uri=uri, experiment="resumed", interval=0.2)
    train(experiment(store, tracking, steps=2), run=tmp_path / "run")
    train(experiment(store, tracking, steps=4), run=tmp_path / "run", resume=True)
    (run,) = runs(uri, "resumed")
    assert [step for step, _ in history(uri, run.info.run_id)] == [1, 2, 3, 4]
    assert run.info.status == "FINISHED"


def test_a_locked_database_delays_nothing_and_loses_nothing(database, tmp_path):
    uri, said = f"sqlite:///{database}", []
    write_metrics(tmp_path / "run", range(1, 4))
    tracker = Tracker(
        MLflowConfig(uri=uri, experiment="locked", interval=0.2), tmp_path / "run", {"größe": 1}, said.append
    )
    wait_for(lambda: len(runs(uri, "locked")) == 1 and history(uri, runs(uri, "locked")[0].info.run_id))
    with sqlite3.connect(database, isolation_level=None) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        write_metrics(tmp_path / "run", range(4, 2500))
        tracker.artefact(tmp_path / "run" / "metrics.jsonl")
        assert time.monotonic() - began < 1
        time.sleep(1)
        lock.execute("ROLLBACK")
    lock.close()
    assert tracker.close("FINISHED")
    (run,) = runs(uri, "locked")
    assert run.data.params == {"gr__e": "1"}
    assert history(uri, run.info.run_id) == [(step, 1 / step) for step in range(1, 2500)]
    assert [each.path for each in client(uri).list_artifacts(run.info.run_id)] == ["metrics.jsonl"]


def test_a_run_deleted_on_the_server_is_made_anew(database, tmp_path):
    uri = f"sqlite:///{database}"
    write_metrics(tmp_path / "run", range(1, 3))
    config = MLflowConfig(uri=uri, experiment="deleted", interval=0.2)
    assert Tracker(config, tmp_path / "run", {"a": 1}, print).close("FINISHED")
    (run,) = runs(uri, "deleted")
    client(uri).delete_run(run.info.run_id)
    assert Tracker(config, tmp_path / "run", {"a": 1}, print).close("KILLED")
    (again,) = runs(uri, "deleted")
    assert again.info.run_id != run.info.run_id
    assert again.info.status == "KILLED"
    assert [step for step, _ in history(uri, again.info.run_id)] == [1, 2]


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)


def serve(folder, port):
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--serve-artifacts"]
    command += ["--artifacts-destination", str(folder / "artefacts")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=folder, start_new_session=True, **quiet)

    def answers():
        assert process.poll() is None, "the server did not start"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as response:
                return response.status == 200
        except (urllib.error.URLError, OSError):
            return False

    wait_for(answers, 120)
    return process


def stop(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_server_that_goes_away_and_returns(store, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    tracking = MLflowConfig(uri=uri, experiment="server", interval=0.2, wait=5.0)
    server = serve(tmp_path, port)
    train(experiment(store, tracking, steps=2), run=tmp_path / "run")
    (run,) = runs(uri, "server")
    stop(server)
    began = time.monotonic()
    report = train(experiment(store, tracking, steps=6), run=tmp_path / "run", resume=True)
    assert (report.step, report.tracked) == (6, False)
    assert time.monotonic() - began < 30
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "cannot be written, training goes on" in log
    assert "The rest is written when this run is trained with --resume" in log
    server = serve(tmp_path, port)
    try:
        report = train(experiment(store, replace_wait(tracking), steps=6), run=tmp_path / "run", resume=True)
        assert (report.step, report.tracked) == (6, True)
        assert [step for step, _ in history(uri, run.info.run_id)] == [1, 2, 3, 4, 5, 6]
        (run,) = runs(uri, "server")
        assert run.info.status == "FINISHED"
        assert "checkpoint" in {each.path for each in client(uri).list_artifacts(run.info.run_id)}
    finally:
        stop(server)


def replace_wait(config):
    return MLflowConfig(uri=config.uri, experiment=config.experiment, interval=config.interval, wait=60.0)
