"""Tracking of runs in MLflow: a reader of `metrics.jsonl` that a training never waits for.

`metrics.jsonl` of the run is the queue. A thread sends what stands there beyond the place it has reached, and keeps
that place in `tracking.json`; so whatever a server that was away or a locked database missed is written when it
returns, at the latest when the run is resumed.
"""

import contextlib
import json
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from meshes.aside import write_text

METRICS = "metrics.jsonl"
STATE = "tracking.json"
CHECKPOINT = "checkpoint"
TAG = "anchorfield.run"
# What one call of MLflow's `log_batch` may hold.
METRICS_A_CALL, PARAMETERS_A_CALL, LONGEST_PARAMETER = 1000, 100, 6000

Status = Literal["FINISHED", "FAILED", "KILLED"]
Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class MLflowConfig:
    """Tracking in MLflow.

    Attributes:
        uri: of the tracking server or database; by default `MLFLOW_TRACKING_URI`, else `mlflow.db` in the current
            folder, where `mlflow ui` finds it.
        experiment: name of the MLflow experiment.
        name: of the MLflow run; by default that of the run folder.
        interval: seconds between two writes.
        wait: seconds that the end of a training waits for a server that is slow or away.
        pictures: whether one validation case is drawn at checkpoints, as artefacts.
    """

    kind: Literal["mlflow"] = "mlflow"
    uri: str | None = None
    experiment: str = "anchorfield"
    name: str | None = None
    interval: float = 5.0
    wait: float = 60.0
    pictures: bool = True

    def __post_init__(self) -> None:
        for name in ("interval", "wait"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a positive number of seconds")


@dataclass(frozen=True, kw_only=True)
class NoTracking:
    """No tracking beside `metrics.jsonl`."""

    kind: Literal["none"] = "none"


TrackingConfig = MLflowConfig | NoTracking


@dataclass(kw_only=True)
class _State:
    """How far a run has been written; `pending` holds files to upload, each with its folder among the artefacts."""

    uri: str
    run_id: str | None = None
    parameters: bool = False
    sent: int = 0
    pending: list[tuple[str, str]] = field(default_factory=list)


class Tracker:
    """Writes a run to MLflow from a thread of its own; the calls of a training only leave notes for it."""

    def __init__(self, config: MLflowConfig, run: Path, parameters: Mapping[str, Any], log: Log) -> None:
        self.config, self.run, self.log = config, run.resolve(), log
        self.parameters = flatten(parameters)
        self._uri = absolute_uri(config.uri)
        self._notes: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._wake, self._closing = threading.Event(), threading.Event()
        self._status: Status = "FINISHED"
        self._done = False
        self._state = self._load()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def artefact(self, path: Path, folder: str = "") -> None:
        """Upload a file or a folder, when possible; it must stay where it is until then."""
        self._notes.put((str(path.resolve()), folder))

    def close(self, status: Status) -> bool:
        """Write what is left, waiting no longer than configured; tell whether everything was written."""
        self._status = status
        self._closing.set()
        self._wake.set()
        self._thread.join(self.config.wait)
        if not self._done:
            self.log(
                f"MLflow at {self._uri} has not taken everything; {self.run / METRICS} has. "
                "The rest is written when this run is trained with --resume."
            )
        return self._done

    def _work(self) -> None:
        try:
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError
        except ImportError as error:
            self.log(f"MLflow is not tracking this run ({error}); {self.run / METRICS} has everything")
            return
        quieten()
        state, away = self._state, False
        started = time.monotonic()
        while True:
            closing = self._closing.is_set()
            try:
                self._synchronise(state, closing=closing)
            except (MlflowException, SQLAlchemyError, OSError) as error:
                if not away:
                    first = str(error).strip().split("\n")[0][:300]
                    self.log(f"MLflow at {self._uri} cannot be written, training goes on; trying again ({first})")
                away = True
            else:
                if away:
                    self.log(f"MLflow at {self._uri} is back after {time.monotonic() - started:.0f} s; caught up")
                away, started = False, time.monotonic()
                if closing:
                    self._done = True
                    return
            if closing:  # the training waits: ask more often
                time.sleep(min(1.0, self.config.interval))
            else:
                self._wake.wait(self.config.interval)

    def _synchronise(self, state: _State, *, closing: bool) -> None:
        """Bring MLflow up to date; whatever was written is remembered at once."""
        client = _client(self._uri)
        with contextlib.suppress(queue.Empty):
            while True:
                state.pending.append(self._notes.get_nowait())
        if state.run_id is None or not _usable(client, state.run_id):
            state.run_id, state.sent, state.parameters = self._create(client), 0, False
            self._save(state)
        if not state.parameters:
            self._send_parameters(client, state.run_id)
            state.parameters = True
            self._save(state)
        for metrics, sent in self._unsent(state.sent):
            client.log_batch(state.run_id, metrics=metrics)
            state.sent = sent
            self._save(state)
        while state.pending:
            path, folder = state.pending[0]
            if Path(path).is_dir():
                client.log_artifacts(state.run_id, path, folder or None)
            elif Path(path).exists():
                client.log_artifact(state.run_id, path, folder or None)
            # What is gone was pruned or replaced by a newer one meanwhile.
            state.pending.pop(0)
            self._save(state)
        if closing:
            client.set_terminated(state.run_id, self._status)

    def _create(self, client: Any) -> str:
        with _one_at_a_time(self._uri):
            experiment = client.get_experiment_by_name(self.config.experiment)
            if experiment is not None:
                identity = experiment.experiment_id
            else:
                identity = client.create_experiment(self.config.experiment, artifact_location=_artefacts(self._uri))
        tags = {TAG: str(self.run), "mlflow.source.name": "anchorfield train", "mlflow.source.type": "LOCAL"}
        return client.create_run(identity, run_name=self.config.name or self.run.name, tags=tags).info.run_id

    def _send_parameters(self, client: Any, run_id: str) -> None:
        from mlflow.entities import Param

        known = set(client.get_run(run_id).data.params)
        named = {_name(name): text[:LONGEST_PARAMETER] for name, text in self.parameters.items()}
        new = [Param(name, text) for name, text in named.items() if name not in known]
        for start in range(0, len(new), PARAMETERS_A_CALL):
            client.log_batch(run_id, params=new[start : start + PARAMETERS_A_CALL])

    def _unsent(self, sent: int) -> Iterator[tuple[list[Any], int]]:
        """Read what was not sent yet, in batches that MLflow takes, each with the place it reaches to."""
        from mlflow.entities import Metric

        path = self.run / METRICS
        if not path.exists():
            return
        position, batch = sent, []
        with path.open("rb") as file:
            file.seek(position)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                values = json.loads(line)
                step, moment = int(values.pop("step")), int(1000 * values.pop("time"))
                if len(batch) + len(values) > METRICS_A_CALL:
                    yield batch, position
                    batch = []
                batch += [Metric(_name(name), float(value), moment, step) for name, value in values.items()]
                position += len(line)
        if batch:
            yield batch, position

    def _load(self) -> _State:
        path = self.run / STATE
        if path.exists():
            state = _State(**json.loads(path.read_text(encoding="utf-8")))
            if state.uri == self._uri:
                # A resumed run has dropped the lines after its checkpoint, and writes them again.
                metrics = self.run / METRICS
                state.sent = min(state.sent, metrics.stat().st_size if metrics.exists() else 0)
                return state
        return _State(uri=self._uri)

    def _save(self, state: _State) -> None:
        write_text(self.run / STATE, json.dumps(asdict(state), indent=2))


def start(config: TrackingConfig, run: Path, parameters: Mapping[str, Any], log: Log) -> Tracker | None:
    """Start tracking a run, unless that was not asked for.

    Args:
        config: where to.
        run: the run folder; its `metrics.jsonl` is what is sent.
        parameters: the whole configuration.
        log: takes warnings, one line each.
    """
    return None if isinstance(config, NoTracking) else Tracker(config, run, parameters, log)


def record(run: Path, metrics: Mapping[str, float], files: Sequence[Path] = ()) -> bool:
    """Add scores and files to the MLflow run of a training that has ended.

    Args:
        run: the run folder.
        metrics: scores by name.
        files: to upload.

    Returns:
        Whether they were written; a run that is not tracked has nowhere to write to. A store that is away or locked is
        warned of and asked no second time, since the files have everything.
    """
    path = run / STATE
    if not path.exists():
        return False
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    quieten()
    state = _State(**json.loads(path.read_text(encoding="utf-8")))
    moment = int(1000 * time.time())
    values = [Metric(_name(name), float(value), moment, 0) for name, value in metrics.items()]
    try:
        client = _client(state.uri)
        for start in range(0, len(values), METRICS_A_CALL):
            client.log_batch(state.run_id, metrics=values[start : start + METRICS_A_CALL])
        for file in files:
            client.log_artifact(state.run_id, str(file))
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first = str(error).strip().split("\n")[0][:300]
        logging.getLogger(__name__).warning("MLflow at %s did not take the scores (%s)", state.uri, first)
        return False
    return True


def flatten(tree: Any, path: str = "") -> dict[str, str]:
    """Bring nested settings to dotted names and texts, as MLflow keeps parameters."""
    if isinstance(tree, Mapping) and (tree or not path):
        return {
            name: text
            for key, value in tree.items()
            for name, text in flatten(value, f"{path}.{key}" if path else str(key)).items()
        }
    return {path: tree if isinstance(tree, str) else json.dumps(tree, ensure_ascii=False, default=str)}


def _name(name: str) -> str:
    """Replace what MLflow does not allow in names."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)


def absolute_uri(uri: str | None) -> str:
    """Make the path of a SQLite database absolute, so that it means the same from every folder."""
    if uri is None:
        uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    prefix = "sqlite:///"
    if not uri.startswith(prefix):
        return uri
    return prefix + str(Path(uri[len(prefix) :]).resolve())


def _database(uri: str) -> Path | None:
    return Path(uri[len("sqlite:///") :]) if uri.startswith("sqlite:///") else None


def _artefacts(uri: str) -> str | None:
    """Keep the artefacts of a SQLite store beside it; MLflow would take the folder that the process runs in."""
    database = _database(uri)
    return None if database is None else (database.parent / "mlartifacts").as_uri()


@contextlib.contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """Let one process at a time make the tables of a SQLite store or an experiment: side by side they would collide."""
    database = _database(uri)
    if database is None:
        yield
        return
    try:
        import fcntl
    except ImportError:  # Windows; there a collision is an error of MLflow, and tried again
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(database.name + ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _client(uri: str) -> Any:
    # An absent server shall be noticed in seconds; MLflow would try for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    from mlflow import MlflowClient

    with _one_at_a_time(uri):
        return MlflowClient(tracking_uri=uri)


def _usable(client: Any, run_id: str) -> bool:
    """Tell whether a run can be written to, and open it again if it was ended."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    if run.info.lifecycle_stage != "active":
        return False
    if run.info.status != "RUNNING":
        client.update_run(run_id, status="RUNNING")
    return True


def quieten() -> None:
    """Keep the chatter of database migrations off the terminal."""
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)


def system_metrics() -> dict[str, float]:
    """Measure what the machine does, under the names of MLflow's system metrics."""
    import psutil
    import torch

    memory = psutil.virtual_memory()
    metrics = {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / 1e6,
        "system/system_memory_usage_percentage": memory.percent,
        "system/process_memory_usage_megabytes": psutil.Process().memory_info().rss / 1e6,
    }
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            metrics[f"system/gpu_{index}_memory_usage_megabytes"] = (total - free) / 1e6
            metrics[f"system/gpu_{index}_memory_usage_percentage"] = 100 * (total - free) / total
    return metrics


def resolve(reference: str) -> Path:
    """Find the folder of `runs:/ID`: the run itself where it is on this machine, else its downloaded checkpoint.

    The tracking store is `MLFLOW_TRACKING_URI`, by default `mlflow.db` in the current folder.

    Raises:
        ValueError: there is no such run, or it holds no checkpoint.
    """
    from mlflow.exceptions import MlflowException

    uri = absolute_uri(None)
    quieten()
    run_id, _, inner = reference.removeprefix("runs:/").strip("/").partition("/")
    try:
        client = _client(uri)
        run = client.get_run(run_id)
        folder = Path(run.data.tags.get(TAG, ""))
        if TAG in run.data.tags and folder.is_dir() and not inner:
            return folder
        return Path(client.download_artifacts(run_id, inner or CHECKPOINT))
    except (MlflowException, OSError) as error:
        message = str(error).split("\n")[0]
        raise ValueError(
            f"{reference} was not found in the MLflow store {uri} ({message}): "
            "set MLFLOW_TRACKING_URI to where the run was tracked"
        ) from error
