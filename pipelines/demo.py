"""The whole journey on flows that are known exactly: from raw files to scored predictions for an unseen body."""

import json
import time
from pathlib import Path

QUICK = {"count": 12, "steps": 60}
FULL = {"count": 64, "steps": 900}


def demo(out: Path, *, quick: bool = False) -> dict:
    """Generate exact Stokes flows, prepare, train, predict an unseen body from its STL, draw and score.

    Everything lands under `out`: `cases/`, `store/`, `run/`, `prediction/`, `pictures/`, `scores.json`, `mlflow.db`. A
    second call goes on from what is there.

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
    from pipelines.visualise import view

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
    parameters = json.loads((out / "cases" / case / "case.json").read_text())
    stage(4, f"predicting the flow past an unseen body from {body} alone")
    prediction = predict(
        out / "run",
        geometry=body,
        conditions={name: parameters[name] for name in ("speed", "viscosity")},
        out=out / "prediction",
    )
    print(prediction.render())

    stage(5, f"drawing pictures in {out / 'pictures'}")
    view(out / "prediction", out / "pictures")

    stage(6, "scoring every point of the test cases")
    scores = evaluate(out / "run")
    (out / "scores.json").write_text(json.dumps(scores, indent=2, allow_nan=False) + "\n")
    print(render(scores))
    print(_closing(out, scores, prediction.to_dict(), parameters, body, time.monotonic() - started))
    return scores


def _closing(out: Path, scores: dict, prediction: dict, parameters: dict, body: Path, seconds: float) -> str:
    """Say in words what was achieved, where things are, and what to try next."""
    pressure = scores["fields"]["surface_pressure"]
    velocity = scores["fields"]["volume_velocity"]["near_wall"]["disturbance"]

    def against(score: dict) -> str:
        nearest = score["baselines"]["nearest_case"]
        return f"{score['relative_l2']:.1%} (nearest training case: {nearest:.1%})"

    drag, exact = prediction["forces"]["force"][0], parameters["force"][0]
    conditions = " ".join(f"--condition {name}={parameters[name]:.6g}" for name in ("speed", "viscosity"))
    return f"""
Done in {seconds / 60:.1f} minutes. Over {len(scores["cases"])} bodies that training never saw, from their STL alone:
  surface pressure is off by {against(pressure)},
  the disturbance of the velocity near the wall by {against(velocity)}.
For {body.parent.name}, predicted from its STL: drag {drag:.4g} N, exact {exact:.4g} N.

Where things are
  {out / "prediction" / "surface.vtp"} and volume.vtu   open them in ParaView
  {out / "pictures"}   the same as pictures, and view.py for pvpython
  {out / "scores.json"}   every score, beside the baselines
  {out / "run"}   the trained surrogate, which predicts by itself

Three commands to try next
  anchorfield predict {out / "run"} --geometry {body} {conditions} --out {out / "again"} --draws 4
  anchorfield inspect {out / "cases" / body.parent.name}
  mlflow ui --backend-store-uri sqlite:///{(out / "mlflow.db").resolve()}"""
