"""Every configuration that ships composes, reads, reads back and builds on the meta device."""

import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from typing import Literal

import pytest
import torch

from pipelines import registry
from pipelines.composition import compose, config_roots, parse
from pipelines.config import ConfigError, from_dict, load, load_data, to_yaml

EXPERIMENTS = sorted(path.stem for path in (config_roots()[0] / "experiments").glob("*.yaml"))
FRAGMENTS = sorted(
    str(path.relative_to(config_roots()[0]).with_suffix(""))
    for path in config_roots()[0].rglob("*.yaml")
    if path.parent.name != "experiments"
)
COMPONENTS = {"scalar": 1, "vector": 3, "pseudovector": 3}


def build(experiment):
    fields = {
        branch: {name: COMPONENTS[spec.kind] for name, spec in source.fields.items()}
        for branch, source in experiment.data.branches.items()
    }
    features = {branch: {"normal": 3} for branch in (*fields, "geometry")}
    with torch.device("meta"):
        return experiment.operator.build(
            space=len(experiment.data.space),
            branches=fields,
            features=features,
            condition=len(experiment.data.conditions),
        )


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_compose_and_build(name):
    experiment = load(name)
    assert sum(parameter.numel() for parameter in build(experiment).parameters()) > 1e5
    assert from_dict(experiment.to_dict()) == experiment
    assert from_dict(parse(to_yaml(experiment.to_dict()), name)) == experiment


@pytest.mark.parametrize("name", FRAGMENTS)
def test_every_fragment_fits_into_an_experiment(name, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"extends: [experiments/stokes, {name}]\n")
    assert any(parameter.requires_grad for parameter in build(load(path)).parameters())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_surface_only_is_one_override_away(name):
    assert list(load(name, ["data.branches.volume=null"]).data.branches) == ["surface"]


def test_every_setting_of_a_shipped_file_is_known_to_its_dataclass():
    with pytest.raises(ConfigError, match=r"training\.step is not a setting; did you mean steps\?"):
        load("stokes", ["training.step=3"])
    with pytest.raises(ConfigError, match=r"trainin is not a setting; did you mean training\?"):
        load("stokes", ["trainin.steps=3"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("operator.width=100", "operator: width must be an even multiple of heads, got width=100 and heads=3"),
        ("operator.kind=ab_upd", r'operator\.kind: "ab_upd" is not one of ab_upt.*; did you mean ab_upt\?'),
        ("training.optimiser.kind=sgd", r"training\.optimiser\.kind: \"sgd\" is not one of adamw, lion, muon"),
        ("data.space=[y, x]", r"data: space is \['y', 'x'\]"),
        ("data.geometry.fil=a", r"data\.geometry\.fil is not a setting; did you mean file\?"),
        ("data.branches.surface.fields.pressure.array=UNKNOWN", r"surface\.fields\.pressure\.array is still UNKNOWN"),
        ("data.conventions.shear=on_wall", r"data\.conventions\.shear should be on_body or on_fluid"),
        ("data.branches.surface.fields.pressure.scale=0.5 * speed*", r"data\.branches\.surface: '0\.5 \* speed\*' is"),
    ],
)  # fmt: skip
def test_refusals_carry_their_path(override, message):
    with pytest.raises(ConfigError, match=message):
        load("stokes", [override])


def test_changing_the_optimiser_drops_its_old_settings():
    optimiser = load("stokes", ["training.optimiser.kind=lion"]).training.optimiser
    assert (optimiser.kind, optimiser.learning_rate) == ("lion", type(optimiser)().learning_rate)


def test_data_alone_is_enough_to_prepare(tmp_path):
    path = tmp_path / "data.yaml"
    path.write_text("extends: data/stokes\n")
    assert load_data(path).store.name == "stokes"
    path.write_text("training: {steps: 3}\n")
    with pytest.raises(ConfigError, match="section 'data' is missing"):
        load_data(path)


def test_composing_needs_no_heavy_import(tmp_path):
    import subprocess

    script = "import sys; from pipelines.config import compose; compose('ahmed'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@dataclass(frozen=True, kw_only=True)
class MineConfig:
    kind: Literal["mine"] = "mine"
    size: int = 3


def test_packages_add_operators_by_entry_points(monkeypatch):
    entry = EntryPoint("mine", f"{__name__}:MineConfig", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda **select: EntryPoints([entry]).select(**select))
    monkeypatch.setitem(sys.modules, __name__, sys.modules[MineConfig.__module__])
    assert registry.operator_kinds() == ["ab_upt", "nearest_case", "mean_field", "ridge", "quadratic", "mine"]
    assert load("stokes", ["operator={kind: mine, size: 4}"]).operator == MineConfig(size=4)
    with pytest.raises(ConfigError, match=r"operator\.siz is not a setting; did you mean size\?"):
        load("stokes", ["operator={kind: mine, siz: 4}"])


def test_a_kind_that_two_packages_add_is_refused(monkeypatch):
    entries = [EntryPoint("mine", f"somewhere_{each}:Config", registry.GROUP) for each in "ab"]
    monkeypatch.setattr(registry, "entry_points", lambda **select: EntryPoints(entries).select(**select))
    with pytest.raises(ValueError, match=r"comes from several packages \(somewhere_a:Config, somewhere_b:Config\)"):
        registry.operator_config("mine")
    with pytest.raises(ConfigError, match="is not one of ab_upt"):
        registry.operator_config("nobody")


def test_compose_gives_plain_values():
    assert compose("airfoil")["data"]["conditions"] == ["angle"]


@pytest.mark.parametrize(("former", "features"), [("true", ("normal", "distance")), ("false", ())])
def test_whether_points_carry_features_is_read_as_which(former, features, caplog):
    experiment = load("stokes", [f"training.inputs.features={former}"])
    assert experiment.training.inputs.features == features
    listed = f"[{', '.join(features)}]"
    assert f"{former} is read as {listed}, which is how to write it now" in caplog.text
    assert load("stokes", [f"training.inputs.features={listed}"]) == experiment
