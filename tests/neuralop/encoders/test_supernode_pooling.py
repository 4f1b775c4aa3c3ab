"""Supernode pooling against a loop over supernodes."""

import pytest
import torch
from torch.nn.functional import gelu

from neuralop.encoders import supernode_pooling
from neuralop.encoders.supernode_pooling import SupernodePooling
from neuralop.points import Points


def build(**settings):
    torch.manual_seed(0)
    given = {
        "space": 3,
        "width": 24,
        "supernodes": 5,
        "radius": 1.2,
        "max_neighbours": 100,
        "shortest": 2.0,
        "base": 8.0,
    }
    return SupernodePooling(**(given | settings)).double()


def draw(count=17, features=0, batch=1):
    generator = torch.Generator().manual_seed(0)
    position = torch.randn(batch, count, 3, generator=generator, dtype=torch.float64)
    given = torch.randn(batch, count, features, generator=generator, dtype=torch.float64) if features else None
    return Points(position, torch.rand(batch, count, generator=generator, dtype=torch.float64), given)


@pytest.mark.parametrize("message", ["relative", "absolute"])
@pytest.mark.parametrize("measure", [False, True])
@pytest.mark.parametrize("features", [0, 2])
def test_equals_the_published_form(message, measure, features):
    """The mean over neighbours of an MLP of their embedding, joined with the supernode's own."""
    pooling, points = build(message=message, measure=measure, features=features), draw(features=features)
    tokens, supernodes = pooling(points)
    position = points.position[0]
    torch.testing.assert_close(supernodes.position[0], position[:5], rtol=0, atol=0)
    for i in range(5):
        near = ((position - position[i]).norm(dim=-1) <= 1.2).nonzero()[:, 0]
        if message == "relative":
            difference = position[i] - position[near]
            sent = pooling.encode_difference(torch.cat((difference, difference.norm(dim=-1, keepdim=True)), -1)[None])[
                0
            ]
        else:
            own = pooling.encode(position[None, i : i + 1])[0].expand(len(near), -1)
            sent = torch.cat((pooling.encode(position[None, near])[0], own), -1)
        if features:
            sent = torch.cat((sent, points.features[0, near]), -1)
        messages = pooling.leave(gelu(pooling.enter(sent)))
        weight = points.measure[0, near, None] if measure else torch.ones(len(near), 1).double()
        mean = (weight * messages).sum(0) / weight.sum()
        expected = pooling.project(torch.cat((mean, pooling.encode(position[None, i : i + 1])[0, 0])))
        torch.testing.assert_close(tokens[0, i], expected)


def test_keeps_the_nearest():
    pooling, points = build(radius=9.0, max_neighbours=2), draw(40)
    nearest = torch.cdist(points.position[0, :5], points.position[0]).argsort(1)[:, :2]
    offsets = torch.arange(0, 11, 2)
    torch.testing.assert_close(pooling(points)[0], build(radius=9.0)(points, (offsets, nearest.flatten()))[0])


@pytest.mark.parametrize("message", ["relative", "absolute"])
@pytest.mark.parametrize("measure", [False, True])
@pytest.mark.parametrize("features", [0, 2])
@pytest.mark.parametrize("packed", [False, True])
def test_padded_neighbours_give_the_same(monkeypatch, message, measure, features, packed):
    points = draw(features=features, batch=2)
    if packed:
        parts = (points.position, points.measure, points.features)
        joined = [None if part is None else part.flatten(0, 1)[None, :-4] for part in parts]
        points = Points(*joined, torch.tensor([0, 17, 30]))
    compare(monkeypatch, build(message=message, measure=measure, features=features, max_neighbours=4), points)


def test_padded_neighbourhoods_without_measure_give_nothing(monkeypatch):
    points = draw()
    compare(monkeypatch, build(measure=True), Points(points.position, torch.zeros_like(points.measure)))


def compare(monkeypatch, pooling, points):
    """Tokens and derivatives of both forms."""
    answers = []
    for padded in ((), ("cpu", "cuda")):
        monkeypatch.setattr(supernode_pooling, "PADDED", padded)
        tokens = pooling(points)[0]
        answers.append((tokens, *torch.autograd.grad(tokens.square().sum(), list(pooling.parameters()))))
    torch.testing.assert_close(answers[0], answers[1])


@pytest.mark.gpu
@pytest.mark.parametrize("message", ["relative", "absolute"])
def test_on_cuda_nothing_waits_for_the_device(monkeypatch, message):
    pooling = build(message=message, radius=0.3, max_neighbours=8, supernodes=200).cuda()
    points = Points(torch.rand(2, 1000, 3, dtype=torch.float64, device="cuda"))
    compare(monkeypatch, pooling, points)
    torch.cuda.set_sync_debug_mode("error")
    try:
        pooling(points)[0].sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_gradient_at_a_point_on_top_of_its_supernode_is_finite():
    """Every supernode is its own neighbour, at a distance whose root has no derivative."""
    points = draw()
    position = points.position.requires_grad_()
    build()(Points(position))[0].sum().backward()
    assert position.grad.isfinite().all()


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="5 points cannot have 9 supernodes"):
        build(supernodes=9)(draw(5))
