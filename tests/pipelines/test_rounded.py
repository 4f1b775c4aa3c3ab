"""The twin of an operator whose linear maps are rounded once a step computes what autocast computes."""

from dataclasses import replace

import pytest
import torch
from stokes_store import build_store, experiment

from meshes.stores import Store
from pipelines.batches import collate
from pipelines.trainer import build_trainer


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    opened = Store(build_store(tmp_path_factory.mktemp("rounded") / "store"))
    yield opened
    opened.close()


def trainer_of(store, **operator):
    torch.manual_seed(0)
    config = experiment(store.path, precision="bfloat16")
    built = build_trainer(replace(config, operator=replace(config.operator, **operator)), store)
    with torch.no_grad():  # gates open, so that every weight counts
        for parameter in built.operator.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    built.rounded.refresh()
    return built


def losses(trainer, operator, batch):
    trainer.worker = operator
    with torch.autocast("cpu", torch.bfloat16):
        return trainer.loss(batch)[0]


@pytest.mark.parametrize("operator", [{}, {"message": "absolute"}, {"measure": True, "norm": "rms", "members": 2}])
def test_loss_and_gradients_are_those_of_autocast(store, operator):
    trainer = trainer_of(store, **operator)
    twin = trainer.worker
    assert twin is not trainer.operator
    batch = collate([trainer.sampler.sample(0), trainer.sampler.sample(1)])
    plain = losses(trainer, trainer.operator, batch)
    plain.backward()
    expected = {name: parameter.grad for name, parameter in trainer.operator.named_parameters()}
    trainer.operator.zero_grad()
    rounded = losses(trainer, twin, batch)
    assert rounded == plain
    rounded.backward()
    trainer.rounded.hand_over()
    for name, parameter in trainer.operator.named_parameters():
        assert parameter.grad.dtype == torch.float32
        error = (parameter.grad - expected[name]).norm() / expected[name].norm().clamp(min=1e-12)
        assert error < 0.02, name  # gradients of several uses add up in bfloat16
    assert all(parameter.grad is None for parameter in twin.parameters())


def test_gradients_of_several_batches_add_up_in_full_precision(store):
    trainer = trainer_of(store)
    batch = collate([trainer.sampler.sample(0)])
    found = []
    for _ in range(2):
        losses(trainer, trainer.worker, batch).backward()
        trainer.rounded.hand_over()
        found.append([parameter.grad.clone() for parameter in trainer.operator.parameters()])
    for once, twice in zip(*found, strict=True):
        torch.testing.assert_close(twice, 2 * once, rtol=0, atol=0)


def test_steps_move_both_and_the_twin_stays_the_rounded_operator(store):
    trainer = trainer_of(store)
    before = [parameter.detach().clone() for parameter in trainer.operator.parameters()]
    drawn = trainer.batches()
    for _ in range(2):
        trainer.update(drawn)
    drawn.close()
    pairs = list(zip(trainer.operator.parameters(), trainer.worker.parameters(), strict=True))
    assert any((wide != old).any() for (wide, _), old in zip(pairs, before, strict=True))
    for wide, narrow in pairs:
        assert torch.equal(wide.to(narrow.dtype), narrow)
    kinds = {narrow.dtype for _, narrow in pairs}
    assert kinds == {torch.float32, torch.bfloat16}
    heads = trainer.worker.heads["surface"].linear.weight
    assert heads.dtype == torch.float32
