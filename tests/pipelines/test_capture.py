import pytest
import torch
from stokes_store import build_store, experiment

from meshes.stores import Store
from pipelines import capture
from pipelines.optimisers import MuonConfig
from pipelines.trainer import build_trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    opened = Store(build_store(tmp_path_factory.mktemp("capture") / "store"))
    yield opened
    opened.close()


def trained(store, steps=12, **settings):
    torch.manual_seed(0)
    trainer = build_trainer(experiment(store.path, device="cuda", **settings), store)
    drawn = trainer.batches()
    losses = [trainer.update(drawn) for _ in range(steps)]
    drawn.close()
    table = torch.stack([torch.stack([each[name].float() for name in losses[0]]) for each in losses])
    return trainer, table.cpu(), [parameter.detach().cpu() for parameter in trainer.best_module.parameters()]


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2, "batch": 1}, {"optimiser": MuonConfig(), "clip": None}])
def test_replayed_steps_are_the_steps(store, settings):
    plain, losses, weights = trained(store, capture=False, **settings)
    replayed, same, copied = trained(store, capture=True, **settings)
    assert plain.stream is None
    assert replayed.advance.graphs
    assert all(layout[0][0][0] == settings.get("batch", 2) for layout in replayed.advance.graphs)
    torch.testing.assert_close(same, losses, rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(copied, weights, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_replayed_steps_in_bfloat16_are_the_steps_within_rounding(store):
    """With linear maps that are rounded once a step, and branches whose own blocks run beside each other."""
    plain, losses, _ = trained(store, capture=False, precision="bfloat16")
    replayed, same, _ = trained(store, capture=True, precision="bfloat16")
    assert plain.rounded is not None
    assert replayed.advance.graphs
    torch.testing.assert_close(same, losses, rtol=0.03, atol=0.01)


class Looks(torch.nn.Module):
    """An operator whose forward looks at a value, for which a graph cannot wait."""

    def __init__(self, operator):
        super().__init__()
        self.inner = operator

    def encode(self, geometry, anchors, *, condition=None):
        assert float(geometry.position.sum()) != 0.0
        return self.inner.encode(geometry, anchors, condition=condition)

    def decode(self, context, branch, queries=None):
        return self.inner.decode(context, branch, queries)


def test_an_operator_that_looks_at_values_is_told_what_to_set(store):
    def steps(capture):
        config = experiment(store.path, device="cuda", capture=capture)
        trainer = build_trainer(config, store, Looks(build_trainer(config, store).operator))
        drawn = trainer.batches()
        try:
            return [trainer.update(drawn)["loss"] for _ in range(4)]
        finally:
            drawn.close()

    assert all(loss.isfinite() for loss in steps(capture=False))
    with pytest.raises(RuntimeError, match=r"set training\.capture to false"):
        steps(capture=True)


def test_compiled_regions_compute_what_they_did(store):
    _, losses, _ = trained(store, steps=4, capture=False)
    _, same, _ = trained(store, steps=4, capture=True, compile=True)
    torch.testing.assert_close(same, losses, rtol=1e-3, atol=1e-4)


def test_layouts_beyond_the_most_run_as_they_are(store, monkeypatch):
    monkeypatch.setattr(capture, "MOST", 0)
    trainer, same, _ = trained(store, steps=5)
    _, losses, _ = trained(store, steps=5, capture=False)
    assert not trainer.advance.graphs
    torch.testing.assert_close(same, losses, rtol=1e-4, atol=1e-5)
