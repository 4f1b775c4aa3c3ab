import numpy as np
import pytest
import torch
from torch import nn

from pipelines.optimisers import AdamWConfig, Lion, LionConfig, Muon, MuonConfig, _together, schedule


def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 32), nn.GELU(), nn.Linear(32, 48), nn.GELU(), nn.Linear(48, 2))


@pytest.mark.parametrize("config", [AdamWConfig(), LionConfig(learning_rate=1e-3), MuonConfig()], ids=lambda c: c.kind)
def test_each_optimiser_fits_a_function_and_moves_every_parameter(config):
    operator = module()
    before = [parameter.detach().clone() for parameter in operator.parameters()]
    optimisers = config.build(operator)
    place = torch.randn(256, 3)
    target = torch.stack([place[:, 0].sin(), place[:, 1] * place[:, 2]], 1)
    losses = []
    for _ in range(150):
        loss = (operator(place) - target).square().mean()
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert all(not torch.equal(a, b) for a, b in zip(before, operator.parameters(), strict=True))


@pytest.mark.parametrize("config", [AdamWConfig(), LionConfig(), MuonConfig()], ids=lambda c: c.kind)
def test_each_parameter_has_one_optimiser_and_only_matrices_decay(config):
    operator = module()
    groups = [group for optimiser in config.build(operator) for group in optimiser.param_groups]
    owned = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(owned) == sorted(map(id, operator.parameters()))
    for group in groups:
        assert all((parameter.ndim >= 2) == (group["weight_decay"] > 0) for parameter in group["params"])


def test_muon_takes_hidden_matrices_only():
    operator = module()
    muon, rest = MuonConfig().build(operator)
    assert [tuple(parameter.shape) for parameter in muon.param_groups[0]["params"]] == [(48, 32)]
    assert {tuple(parameter.shape) for group in rest.param_groups for parameter in group["params"]} >= {
        (32, 3),
        (2, 48),
    }


def test_lion_is_its_algorithm():
    rng = np.random.default_rng(0)
    weight, momentum = rng.normal(size=(4, 3)), np.zeros((4, 3))
    parameter = nn.Parameter(torch.tensor(weight))
    optimiser = Lion([parameter], lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    for _ in range(5):
        gradient = rng.normal(size=(4, 3))
        weight = weight - 0.01 * (np.sign(0.9 * momentum + 0.1 * gradient) + 0.1 * weight)
        momentum = 0.99 * momentum + 0.01 * gradient
        parameter.grad = torch.tensor(gradient)
        optimiser.step()
        np.testing.assert_allclose(parameter.detach().numpy(), weight, rtol=1e-12)


def test_the_schedule_rises_falls_and_ends_at_its_floor():
    factors = np.array([schedule(step, 100, warmup=0.1, floor=0.05) for step in range(101)])
    np.testing.assert_allclose(factors[:10], np.arange(1, 11) / 10)
    assert factors[10] == 1
    assert (np.diff(factors[10:]) < 0).all()
    assert factors[100] == pytest.approx(0.05)
    assert factors[55] == pytest.approx((1 + 0.05) / 2)
    assert schedule(0, 10, warmup=0.0, floor=0.5) == 1
    assert schedule(500, 100, warmup=0.1, floor=0.05) == pytest.approx(0.05)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="learning_rate is 0"):
        AdamWConfig(learning_rate=0.0)
    with pytest.raises(ValueError, match="weight_decay is -1"):
        LionConfig(weight_decay=-1.0)
    with pytest.raises(ValueError, match=r"a decay rate of moments is 1\.0"):
        MuonConfig(momentum=1.0)


def test_muon_over_shapes_at_once_is_torchs_muon_one_by_one():
    generator = torch.Generator().manual_seed(0)
    shapes = [(48, 32), (32, 48), (48, 32), (24, 24), (32, 40), (90, 32), (64, 32)]
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    ours, theirs = ([nn.Parameter(each.clone()) for each in start] for _ in range(2))
    settings = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9}
    optimisers = [
        Muon(ours, **settings),
        torch.optim.Muon(theirs, **settings, nesterov=True, adjust_lr_fn="match_rms_adamw"),
    ]
    for _ in range(4):
        for parameter, twin in zip(ours, theirs, strict=True):
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            twin.grad = parameter.grad.clone()
        for optimiser in optimisers:
            optimiser.step()
    for parameter, twin, before in zip(ours, theirs, start, strict=True):
        # Both iterate in bfloat16, which rounds to one part in 256.
        assert (parameter - twin).norm() < 0.01 * (twin - before).norm()


def test_muon_steps_are_orthogonal_whatever_the_scale_of_the_gradient():
    gradient = torch.randn(3, 40, 24, generator=torch.Generator().manual_seed(1))
    directions = [Muon.orthogonal(scale * gradient).float() for scale in (1.0, 1e-4)]
    for direction in directions:
        assert direction.shape == gradient.shape
        singular = torch.linalg.svdvals(direction)
        assert singular.min() > 0.6
        assert singular.max() < 1.3
    torch.testing.assert_close(*directions, atol=0.03, rtol=0.0)
    with pytest.raises(ValueError, match="takes matrices"):
        Muon([nn.Parameter(torch.zeros(3))])


def test_shapes_go_together_by_their_shorter_side():
    shapes = [(192, 192), (192, 384), (512, 192), (192, 1024), (1152, 192), (64, 96), (96, 64)]
    assert _together(map(torch.Size, shapes)) == [
        [(64, 96), (96, 64)],
        [(192, 192), (192, 384)],
        [(512, 192), (192, 1024)],
        [(1152, 192)],
    ]
