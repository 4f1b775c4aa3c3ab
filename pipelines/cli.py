"""The `anchorfield` command: arguments, exit codes and nothing else.

Each verb calls one function of `pipelines` with the same arguments. Exit codes: 0 done, 1 the work failed, 2 the
arguments or the configuration are wrong. Heavy imports happen inside the verbs, so that `--help` answers at once.
"""

import io
import json
import logging
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="anchorfield",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Turn simulations into surrogates: mesh files in, trained neural operators, fields on a new geometry out.",
    epilog="Set ANCHORFIELD_TRACEBACK=1 to see where an error came from.",
)

Run = Annotated[str, typer.Argument(help="Folder of a training run, one of its checkpoints, or runs:/ID of MLflow.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


def _show(result: Any, as_json: bool, text: Callable[[Any], str]) -> None:
    if as_json:
        typer.echo(json.dumps(result, indent=2, allow_nan=False))
    else:
        typer.echo(text(result))


def _numbers(pairs: list[str], option: str) -> dict[str, float]:
    """Read `name=number` pairs."""
    values = {}
    for pair in pairs:
        name, _, value = (part.strip() for part in pair.partition("="))
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not name or not math.isfinite(number):
            raise typer.BadParameter(f"{pair!r} is not NAME=NUMBER, such as speed=30", param_hint=option)
        if name in values:
            raise typer.BadParameter(f"{name} is given twice: {values[name]:g} and {number:g}", param_hint=option)
        values[name] = number
    return values


def _tuple(text: str | None, count: int, kind: type, option: str) -> tuple[Any, ...] | None:
    """Read `count` numbers separated by commas."""
    if text is None:
        return None
    try:
        values = tuple(kind(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count:
        what = "whole numbers" if kind is int else "numbers"
        raise typer.BadParameter(f"{text!r} is not {count} {what} separated by commas", param_hint=option)
    return values


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder that everything lands in.")] = Path("demo"),
    quick: Annotated[bool, typer.Option("--quick", help="A minute instead of several, and less accurate.")] = False,
) -> None:
    """Exact flows, a store, a short training, and a prediction for an unseen body from its STL alone."""
    from pipelines.demo import demo as work

    work(out, quick=quick)


@app.command()
def generate(
    family: Annotated[str, typer.Argument(help="Family of flows: stokes.")],
    out: Annotated[Path, typer.Option(help="Folder for the case folders.")],
    count: Annotated[int, typer.Option(min=1, help="Number of cases.")] = 48,
    seed: Annotated[int, typer.Option(min=0, help="Decides every case.")] = 0,
) -> None:
    """Write raw cases from a family of flows, laid out as a solver would leave them."""
    from pipelines.generate import FAMILIES

    if family not in FAMILIES:
        raise typer.BadParameter(f"{family!r} is not a family; there are: {', '.join(FAMILIES)}", param_hint="FAMILY")
    FAMILIES[family](out, count=count, seed=seed)
    typer.echo(f"{count} cases of {family} in {out}")


@app.command()
def init(
    paths: Annotated[list[str], typer.Argument(help="A folder of cases, case folders, files, or patterns in quotes.")],
    out: Annotated[Path, typer.Option(help="Configuration to write.")] = Path("anchorfield.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the configuration where it is there.")] = False,
    as_json: Json = False,
) -> None:
    """Look at your files and write a commented configuration; what no file can tell stays UNKNOWN."""
    from pipelines.initialise import initialise as work

    report = work(paths, out=out, force=force)
    _show(report.to_dict(), as_json, lambda _: report.render())


@app.command()
def inspect(
    paths: Annotated[list[Path], typer.Argument(help="Meshes, case folders, stores, runs or checkpoints.")],
    beyond_memory: Annotated[
        bool, typer.Option("--beyond-memory", help="Read a mesh even where the memory seems too small for it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Tell what files hold: fields, units, ranges, defects."""
    from pipelines.inspect import inspect as work
    from pipelines.inspect import render

    reports = work(paths, beyond_memory=beyond_memory)
    _show(reports, as_json, lambda reports: "\n\n".join(render(report) for report in reports))


@app.command()
def prepare(
    config: Annotated[str, typer.Argument(help="A YAML file, or the name of an experiment that ships: airfoil.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings to change: key.path=value.")] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler; by default local processes.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Local worker processes; by default one per core.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first case that fails.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Prepare again what is already there.")] = False,
    as_json: Json = False,
) -> None:
    """Turn raw cases into a store, in parallel."""
    from pipelines.config import load_data
    from pipelines.prepare import prepare as work

    report = work(load_data(config, overrides or []), cluster=cluster, workers=workers, strict=strict, force=force)
    then = f"\nnext: anchorfield train {config} --plan"
    _show(report.to_dict(), as_json, lambda _: report.render() + ("" if report.failed else then))
    if report.failed:
        raise typer.Exit(1)


@app.command()
def train(
    config: Annotated[str, typer.Argument(help="A YAML file, or the name of an experiment that ships: airfoil.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings to change: training.steps=2000.")] = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the run; by default runs/NAME-OF-CONFIG.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of the run.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Only tell device, memory and time.")] = False,
    as_json: Json = False,
) -> None:
    """Train an operator on a store: a run folder and an MLflow run."""
    from pipelines.config import load

    experiment = load(config, overrides or [])
    if plan:
        from pipelines.planning import plan as plan_work

        outlook = plan_work(experiment)
        _show(outlook.to_dict(), as_json, lambda _: outlook.render())
        return
    from pipelines.train import train as work

    report = work(experiment, run=run or Path("runs") / Path(config).stem, resume=resume)
    _show(report.to_dict(), as_json, lambda _: report.render())


@app.command()
def evaluate(
    run: Run,
    store: Annotated[Path | None, typer.Option(help="Store to score on; by default the one trained on.")] = None,
    split: Annotated[str, typer.Option(help="Split to score: test, validation or training.")] = "test",
    draws: Annotated[int, typer.Option(min=1, help="Anchor draws to average over; several tell their spread.")] = 1,
    seed: Annotated[int, typer.Option(help="Decides the anchor draws.")] = 0,
    tie: Annotated[float | None, typer.Option(help="Coefficients that differ by no more are not told apart.")] = None,
    pictures: Annotated[int, typer.Option(min=0, help="Worst cases that the report shows.")] = 3,
    out: Annotated[
        Path | None, typer.Option(help="Folder for scores.json and report.html; by default in the run.")
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Score a run on every point of every case, beside simple baselines, and write a report to share."""
    from pipelines.evaluate import evaluate as work
    from pipelines.evaluate import render

    scores = work(
        run, store=store, split=split, draws=draws, seed=seed, tie=tie, pictures=pictures, out=out, device=device
    )
    _show(scores, as_json, render)


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(help="Runs to compare with the first; as for evaluate.")],
    store: Annotated[Path | None, typer.Option(help="Store to score on; by default each run's own.")] = None,
    split: Annotated[str, typer.Option(help="Split to score: test, validation or training.")] = "test",
    draws: Annotated[int, typer.Option(min=1, help="Anchor draws; their spread tells what is luck.")] = 4,
    seed: Annotated[int, typer.Option(help="Decides the anchor draws and the resampling of cases.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for comparison.json and comparison.html.")] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Compare runs on the same cases: paired differences, intervals, and who wins each case."""
    from pipelines.compare import compare as work
    from pipelines.compare import render

    comparison = work(runs, store=store, split=split, draws=draws, seed=seed, device=device, out=out)
    _show(comparison, as_json, render)


@app.command()
def predict(
    run: Run,
    geometry: Annotated[Path, typer.Option(help="Surface of the new body: STL, OBJ, PLY, VTP …")],
    out: Annotated[Path, typer.Option(help="Folder for surface.vtp, volume.vtu and prediction.json.")],
    volume: Annotated[Path | None, typer.Option(help="Mesh for the volume fields; by default a grid.")] = None,
    grid: Annotated[
        str | None, typer.Option(help="Cells of an even grid: NX,NY,NZ; by default fine at the body.")
    ] = None,
    bounds: Annotated[
        str | None, typer.Option(help="Box of the grid [m]: XMIN,XMAX,YMIN,YMAX,…; by default as trained.")
    ] = None,
    spacing: Annotated[float | None, typer.Option(help="Cell size of the grid [m].")] = None,
    condition: Annotated[list[str] | None, typer.Option(help="NAME=NUMBER, such as speed=30; repeat.")] = None,
    keep_cells: Annotated[bool, typer.Option("--keep-cells", help="Predict on the surface's own cells.")] = False,
    chunk: Annotated[int | None, typer.Option(min=1, help="Points at once; by default from free memory.")] = None,
    draws: Annotated[int, typer.Option(min=1, help="Anchor draws to average over; the spread is written.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Decides the anchor draws.")] = 0,
    unit_of_length: Annotated[str, typer.Option(help="Of the geometry and volume files: m, mm, in …")] = "m",
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Predict the fields of a new geometry, as files that ParaView opens."""
    from pipelines.predict import predict as work

    dimensions = len(bounds.split(",")) // 2 if bounds else len(grid.split(",")) if grid else 3
    dimensions = 2 if dimensions == 2 else 3
    prediction = work(
        run,
        geometry=geometry,
        volume=volume,
        grid=_tuple(grid, dimensions, int, "--grid"),
        bounds=_tuple(bounds, 2 * dimensions, float, "--bounds"),
        spacing=spacing,
        conditions=_numbers(condition or [], "--condition"),
        out=out,
        keep_cells=keep_cells,
        chunk=chunk,
        draws=draws,
        seed=seed,
        unit_of_length=unit_of_length,
        precision=precision,
        device=device,
    )
    _show(prediction.to_dict(), as_json, lambda _: prediction.render())


@app.command()
def forces(
    path: Annotated[Path, typer.Argument(help="A surface with pressure and wall shear: a prediction or a simulation.")],
    config: Annotated[str | None, typer.Option(help="Experiment, run or store that tells arrays and signs.")] = None,
    parameter: Annotated[list[str] | None, typer.Option(help="NAME=NUMBER of the case; repeat.")] = None,
    pressure: Annotated[str | None, typer.Option(help="Array with the pressure, where nothing else tells.")] = None,
    shear: Annotated[str | None, typer.Option(help="Array with the wall shear stress, likewise.")] = None,
    as_json: Json = False,
) -> None:
    """Integrate pressure and wall shear over a surface."""
    from pipelines.forces import forces as work

    given = _numbers(parameter or [], "--parameter")
    result = work(path, config=config, parameters=given, pressure=pressure, shear=shear)
    _show(result.to_dict(), as_json, lambda _: result.render())


@app.command()
def view(
    path: Annotated[Path, typer.Argument(help="Folder of a prediction, or a surface or volume file.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the pictures; by default pictures/ beside.")] = None,
) -> None:
    """Draw pictures, and write a script that opens the same view in ParaView."""
    from pipelines.visualise import view as work

    for picture in work(path, out):
        typer.echo(picture)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check the environment and the devices, and push a tiny job through every stage."""
    from pipelines.doctor import doctor as work

    logging.getLogger("pipelines").setLevel(logging.ERROR)  # what the stages of the tiny job tell
    diagnosis = work() if as_json else work(lambda check: typer.echo(check.render()))
    _show(diagnosis.to_dict(), as_json, lambda _: diagnosis.verdict())
    if not diagnosis.healthy:
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; errors of the user's making become one sentence and an exit code."""
    from pipelines.doctor import name_clash

    for stream in (sys.stdout, sys.stderr):
        # A name or a unit that the terminal cannot show is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    _log_to_terminal()
    problem = name_clash()
    # The doctor tells it among everything else that is wrong.
    if problem is not None and not {"--help", "-h"} & set(sys.argv[1:]) and sys.argv[1:2] != ["doctor"]:
        sys.exit(_fail(problem, 2))
    try:
        app(standalone_mode=True)
    except (OSError, ValueError, MemoryError) as error:
        if os.environ.get("ANCHORFIELD_TRACEBACK"):
            raise
        from pipelines.errors import sentence

        # `ConfigError` is the only error that says the question was wrong, not the answer.
        sys.exit(_fail(sentence(error), 2 if type(error).__name__ == "ConfigError" else 1))
    except KeyboardInterrupt:
        sys.exit(_fail("interrupted", 130))


def _log_to_terminal() -> None:
    """Show what the stages tell, and nothing of what the libraries tell each other."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    stages = logging.getLogger("pipelines")
    stages.addHandler(handler)
    stages.setLevel(logging.INFO)


def _fail(message: str, code: int) -> int:
    print(f"anchorfield: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
