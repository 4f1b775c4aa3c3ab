import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from meshes.stores import Store
from neuralop.operators import Ensemble as Members
from pipelines.checkpoints import load_surrogate
from pipelines.ensemble import FEWEST, MOST, Ensemble, chunk_size, pick_device
from pipelines.memory import free_memory
from pipelines.specification import Sites
from pipelines.surrogate import Surrogate


@pytest.fixture(scope="module")
def surrogate(tiny_run: Path) -> Surrogate:
    return load_surrogate(tiny_run)


def ensemble(surrogate: Surrogate, store: Path, **settings: int) -> tuple[Ensemble, Sites]:
    case = Store(store).case("stokes_0008")
    surface = case.read("surface")
    sites = Sites(surface["position"], surface["normal"], measure=surface["measure"])
    return Ensemble(surrogate, {"surface": sites}, *case.geometry(), case.parameters, **settings), sites


def test_the_mean_of_draws_is_the_mean_of_each(surrogate: Surrogate, tiny_store: Path) -> None:
    three, sites = ensemble(surrogate, tiny_store, draws=3, seed=5)
    mean, spread = three.decode("surface", sites)
    assert spread is not None
    each = np.stack([surrogate.decode(one, "surface", sites)["pressure"] for one in three.encodings])
    np.testing.assert_allclose(mean["pressure"], each.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(spread["pressure"], each.std(0, ddof=1), rtol=1e-3, atol=1e-6)
    assert (np.ptp(each, axis=0) > 0).any()
    # The first draw does not depend on how many follow.
    one, _ = ensemble(surrogate, tiny_store, draws=1, seed=5)
    alone, none = one.decode("surface", sites)
    assert none is None
    np.testing.assert_array_equal(alone["pressure"], each[0])


def test_members_of_an_operator_answer_too(surrogate: Surrogate, tiny_store: Path) -> None:
    other = copy.deepcopy(surrogate.operator)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.01)
    both = Surrogate(surrogate.spec, Members([surrogate.operator, other]), template=surrogate.template)
    assert (both.members, surrogate.members) == (2, 1)
    two, sites = ensemble(both, tiny_store, draws=2, seed=5)
    answers = two.answers("surface", sites)
    assert [len(each) for each in answers] == [2, 2]
    flat = np.stack([answer["pressure"] for each in answers for answer in each])
    mean, spread = two.decode("surface", sites)
    assert spread is not None
    np.testing.assert_allclose(mean["pressure"], flat.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(spread["pressure"], flat.std(0, ddof=1), rtol=1e-3, atol=1e-6)
    # The first member answers as it does alone, and the operator as the mean of both.
    alone, _ = ensemble(surrogate, tiny_store, draws=2, seed=5)
    np.testing.assert_allclose(flat[0], alone.answers("surface", sites)[0][0]["pressure"], rtol=1e-5, atol=1e-6)
    whole = both.decode(two.encodings[1], "surface", sites)
    np.testing.assert_allclose(whole["pressure"], flat[2:].mean(0), rtol=1e-5, atol=1e-6)


def test_settings_are_checked(surrogate: Surrogate, tiny_store: Path) -> None:
    with pytest.raises(ValueError, match="chunk is 0; expected at least 1"):
        ensemble(surrogate, tiny_store, chunk=0)


def test_chunks_follow_the_free_memory(surrogate: Surrogate, monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_memory(torch.device("cpu")) > 1 << 20
    sizes = []
    for free in (0, 64 << 20, 1 << 40):
        monkeypatch.setattr("pipelines.ensemble.free_memory", lambda _, free=free: free)
        sizes.append(chunk_size(surrogate))
    assert sizes[0] == FEWEST
    assert FEWEST < sizes[1] < MOST
    assert sizes[2] == MOST


def test_devices_are_picked_by_name() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ValueError, match="expected auto, cpu, cuda or cuda:N"):
        pick_device("gpu0")
    with pytest.raises(ValueError, match="is not there: PyTorch sees"):
        pick_device("cuda:99")
