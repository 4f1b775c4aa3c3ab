import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from stokes_store import build_store, experiment

from meshes.stores import Store
from pipelines import checkpoints
from pipelines.checkpoints import CheckpointError, find, load, load_surrogate
from pipelines.surrogate import Sites
from pipelines.train import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoints")
    store = build_store(path / "store", training=2)
    train(experiment(store, steps=4, keep=1), run=path / "run")
    return path


@pytest.fixture
def run(folder, tmp_path):
    return shutil.copytree(folder / "run", tmp_path / "run")


@pytest.fixture
def last(run):
    return checkpoints.marked(run / "checkpoints", "last")


def seal(checkpoint):
    """Write a manifest that fits the files, as one who alters them on purpose would."""
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        entry["bytes"] = (checkpoint / name).stat().st_size
        entry["sha256"] = checkpoints.digest(checkpoint / name)
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


def test_what_is_written_reads_back(last, tmp_path):
    first = load(last)
    again = load(checkpoints.save(tmp_path / "again", 4, first))
    assert again.spec == first.spec
    assert again.state["step"] == 4
    for which in ("weights", "ema"):
        a, b = getattr(first, which), getattr(again, which)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    np.testing.assert_array_equal(first.template["volume"], again.template["volume"])


def test_a_checkpoint_predicts_by_itself(folder, run):
    store = Store(folder / "store")
    case = store.case(store.splits["test"][0])
    answers = []
    surface, volume = case.read("surface"), case.read("volume")
    places = {
        "surface": Sites(surface["position"], surface["normal"], measure=surface["measure"]),
        "volume": Sites(volume["position"], volume["normal"], volume["distance"]),
    }
    for path in (folder / "run", run / "checkpoints" / find(run).name):
        surrogate = load_surrogate(path)
        rng = np.random.default_rng(0)
        anchors = surrogate.anchors({"surface": places["surface"]}, *case.geometry(), rng)
        encoding = surrogate.encode(*case.geometry(), anchors, case.parameters, generator=rng)
        answers.append({branch: surrogate.decode(encoding, branch, places[branch]) for branch in places})
    for branch, fields in answers[0].items():
        for name, values in fields.items():
            assert values.dtype == np.float32
            assert np.isfinite(values).all()
            np.testing.assert_array_equal(values, answers[1][branch][name])
    store.close()


def test_averaged_weights_predict_unless_told_otherwise(last):
    saved = load(last)
    for ema, expected in ((True, saved.ema), (False, saved.weights)):
        state = load_surrogate(last, ema=ema).operator.state_dict()
        assert all(torch.equal(state[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", ["weights.safetensors", "operator.json", "training_state.pt", "template.safetensors"])
def test_damaged_files_are_named(last, name):
    path = last / name
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match=rf"{name} has \d+ bytes where its manifest says"):
        load_surrogate(last)
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"{name} was altered"):
        load_surrogate(last)
    path.unlink()
    with pytest.raises(CheckpointError, match=rf"{name} is missing"):
        load_surrogate(last)


class Malice:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_code_in_a_checkpoint_does_not_run(last, tmp_path):
    torch.save({"step": 4, "best": Malice(tmp_path / "owned")}, last / "training_state.pt")
    seal(last)
    with pytest.raises(CheckpointError, match="holds more than tensors, numbers and text, and was not opened"):
        load_surrogate(last)
    (last / "weights.safetensors").write_bytes(pickle.dumps(Malice(tmp_path / "owned")))
    seal(last)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_surrogate(last)
    assert not (tmp_path / "owned").exists()


def test_files_that_are_not_listed_are_not_trusted(last):
    manifest = json.loads((last / "manifest.json").read_text())
    del manifest["files"]["ema.safetensors"]
    (last / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="is not in the manifest"):
        load(last)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 1, "files": {"weights.safetensors": 3}}'])
def test_a_manifest_that_is_none_is_refused(last, text):
    (last / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"manifest.json"):
        load(last)


def test_other_formats_are_told_from_damage(last):
    manifest = json.loads((last / "manifest.json").read_text())
    (last / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(CheckpointError, match="has checkpoint format 99, this version reads 2 and older"):
        load(last)


@pytest.mark.parametrize("had", [True, False])
def test_the_first_format_which_only_said_whether_points_carry_features_still_opens(last, had):
    spec = json.loads((last / "operator.json").read_text())
    spec["inputs"]["features"] = had
    (last / "operator.json").write_text(json.dumps(spec))
    seal(last)
    manifest = json.loads((last / "manifest.json").read_text())
    (last / "manifest.json").write_text(json.dumps(manifest | {"format": 1}))
    assert load(last).spec.inputs.features == (("normal", "distance") if had else ())


def test_a_training_of_the_first_format_is_resumed(folder, run, last):
    spec = json.loads((last / "operator.json").read_text())
    state = torch.load(last / "training_state.pt", weights_only=True)
    assert state["settings"]["training.inputs.features"] == json.dumps(spec["inputs"]["features"])
    state["settings"]["training.inputs.features"] = "true"
    spec["inputs"]["features"] = True
    (last / "operator.json").write_text(json.dumps(spec))
    torch.save(state, last / "training_state.pt")
    seal(last)
    manifest = json.loads((last / "manifest.json").read_text())
    (last / "manifest.json").write_text(json.dumps(manifest | {"format": 1}))
    assert train(experiment(folder / "store", steps=5, keep=1), run=run, resume=True).step == 5


@pytest.mark.parametrize(
    "change", [{"length": "long"}, {"colour": "red"}, {"operator": {"kind": "ab_upt", "width": 24, "wdth": 2}}]
)
def test_a_specification_is_read_strictly(last, change):
    spec = json.loads((last / "operator.json").read_text())
    (last / "operator.json").write_text(json.dumps(spec | change))
    seal(last)
    with pytest.raises(ValueError, match=next(iter(change))):
        load_surrogate(last)


def test_weights_that_do_not_fit_are_refused(last):
    spec = json.loads((last / "operator.json").read_text())
    spec["operator"]["width"] = 48
    (last / "operator.json").write_text(json.dumps(spec))
    seal(last)
    with pytest.raises(CheckpointError, match=r"weights do not fit the operator in operator\.json"):
        load_surrogate(last)


def test_an_interrupted_write_leaves_the_last_checkpoint(run, last, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    content = load(last)
    monkeypatch.setattr(checkpoints.torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(run / "checkpoints", 5, content)
    assert checkpoints.marked(run / "checkpoints", "last") == last
    assert not list((run / "checkpoints").glob(".step*"))
    assert load(last).state["step"] == 4


def test_pruning_keeps_the_newest_the_best_and_the_last(tmp_path):
    for step in (1, 2, 3, 4, 5):
        (tmp_path / checkpoints.step_name(step)).mkdir()
    (tmp_path / ".step_00000006.tmp-123").mkdir()
    checkpoints.mark(tmp_path, "best", checkpoints.step_name(2))
    checkpoints.mark(tmp_path, "last", checkpoints.step_name(5))
    checkpoints.prune(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.glob("*step*")) == [checkpoints.step_name(step) for step in (2, 4, 5)]


def test_finding_a_checkpoint(run, last, tmp_path):
    assert find(run, "last") == find(last) == last
    (run / "checkpoints" / "best").unlink()
    assert find(run, "best") == last
    with pytest.raises(CheckpointError, match=r"nowhere does not exist: give the folder of a training run"):
        find(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="holds no finished checkpoint"):
        find(tmp_path)
    (run / "checkpoints" / "last").write_text("../../elsewhere")
    assert find(run) == last
