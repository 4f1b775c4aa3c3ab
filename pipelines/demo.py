"""The whole journey on flows that are known exactly: from raw files to scored predictions for an unseen body."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

QUICK = {"count": 12, "steps": 60}
FULL = {"count": 80, "steps": 1000}


def demo(out: Path, *, quick: bool = False) -> dict:
    """Generate exact Stokes flows, prepare, train, predict an unseen body from its STL, draw and score.

    Everything lands under `out`: `cases/`, `store/`, `run/`, `prediction/`, `pictures/`, `scores.json`, `report.html`,
    `mlflow.db`. A second call goes on from what is there.

    Args:
        out: folder to write to.
        quick: fewer cases and steps; shows that everything works, not how accurate it can be.

    Returns:
        The scores, as written to `scores.json`.
    """
    from pipelines.config import load
    from pipelines.evaluate import evaluate, render
    from pipelines.generate.stokes import generate_stokes
    from pipelines.predict import predict
    from pipelines.prepare import prepare
    from pipelines.train import train
    from pipelines.visualise import NoRendererError, view

    size = QUICK if quick else FULL
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()

    def stage(number: int, text: str) -> None:
        print(f"[{number}/6 · {time.monotonic() - started:4.0f} s] {text}", flush=True)

    stage(1, f"writing {size['count']} exact Stokes flows past ellipsoids to {out / 'cases'}")
    generate_stokes(out / "cases", count=size["count"], seed=0)

    experiment = load(
        "stokes",
        [
            f"data.cases={out / 'cases' / 'stokes_*'}",
            f"data.store={out / 'store'}",
            f"training.steps={size['steps']}",
            f"tracking.uri=sqlite:///{(out / 'mlflow.db').resolve()}",
        ],
    )
    stage(2, f"preparing the store {out / 'store'}")
    prepared = prepare(experiment.data, strict=True)
    print(prepared.render())

    stage(3, f"training for {size['steps']} steps in {out / 'run'}")
    trained = train(experiment, run=out / "run", resume=(out / "run").exists())
    print(trained.render())

    case = json.loads((out / "store" / "manifest.json").read_text())["splits"]["test"][0]
    body = out / "cases" / case / "body.stl"
    exact = json.loads((out / "cases" / case / "case.json").read_text())
    conditions = {name: exact[name] for name in ("speed", "viscosity")}
    stage(4, f"predicting the flow past an unseen body from {body} alone")
    prediction = predict(out / "run", geometry=body, conditions=conditions, out=out / "prediction")
    print(prediction.render())

    stage(5, f"drawing pictures in {out / 'pictures'}, beside the truth on the simulated mesh")
    folder = out / "cases" / case
    compared = predict(
        out / "run",
        geometry=folder / "surface.vtp",
        volume=folder / "volume.vtu",
        conditions=conditions,
        out=out / "comparison",
    )
    try:
        view(out / "prediction", out / "pictures")
        view(compared.out, out / "pictures" / "comparison")
    except NoRendererError as error:
        print(f"no pictures: {error}")

    stage(6, "scoring every point of the test cases")
    scores = evaluate(out / "run", out=out)
    print(render(scores))
    print(_closing(out, scores, prediction.to_dict(), exact, body, time.monotonic() - started))
    return scores


def _closing(out: Path, scores: dict, prediction: dict, exact: dict, body: Path, seconds: float) -> str:
    """Say in words what was achieved, where things are, and what to try next."""
    pressure = scores["fields"]["surface_pressure"]
    velocity = scores["fields"]["volume_velocity"]["disturbance"]["near_wall"]

    def against(score: dict) -> str:
        nearest = score["baselines"]["nearest_case"]
        return f"{score['relative_l2']:.1%} (nearest training case: {nearest:.1%})"

    drag = prediction["forces"]["force"][0]
    conditions = " ".join(f"--condition {name}={exact[name]:.6g}" for name in ("speed", "viscosity"))
    return f"""
Done in {seconds / 60:.1f} minutes. Over {len(scores["cases"])} bodies that training never saw, from their STL alone:
  surface pressure is off by {against(pressure)},
  the disturbance of the velocity near the wall by {against(velocity)}.
For {body.parent.name}, predicted from its STL: drag {drag:.4g} N, exact {exact["drag"]:.4g} N.

Where things are
  {out / "prediction" / "surface.vtp"} and volume.vtu   open them in ParaView
  {out / "pictures"}   the same as pictures, with the truth in comparison/; view.py is for pvpython
  {out / "report.html"}   the scores as one file to share, with pictures; scores.json holds every number
  {out / "run"}   the trained surrogate, which predicts by itself

Three commands to try next
  {_program("anchorfield")} predict {out / "run"} --geometry {body} {conditions} --out {out / "again"} --draws 4
  {_program("anchorfield")} inspect {out / "cases" / body.parent.name}
  {_program("mlflow")} ui --backend-store-uri sqlite:///{(out / "mlflow.db").resolve()}"""


def _program(name: str) -> str:
    """Return what to type for a program of this environment, which need not be an active one."""
    beside = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if found is not None and Path(found).resolve() == beside.resolve():
        return name
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)
