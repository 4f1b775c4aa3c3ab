"""Losses: zero at equality, weighted as told, right gradients."""

import math

import pytest
import torch

from neuralop.losses import POINTWISE, relative_l2

LOSSES = {**POINTWISE, "relative_l2": relative_l2}


def draw(seed, shape=(2, 5, 3)):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(params=LOSSES, ids=str)
def loss(request):
    return LOSSES[request.param]


def test_zero_at_equality_with_a_finite_gradient(loss):
    prediction = draw(0).requires_grad_()
    value = loss(prediction, prediction.detach())
    assert value < 1e-150
    assert torch.autograd.grad(value, prediction)[0].isfinite().all()


def test_gradients(loss):
    weight = draw(2, (2, 5)).exp()
    prediction = draw(0).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: loss(p, draw(1)), prediction)
    assert torch.autograd.gradcheck(lambda p: loss(p, draw(1), weight=weight), prediction)


def test_equal_weights_change_nothing_and_zero_weight_is_padding(loss):
    prediction, target = draw(0), draw(1)
    torch.testing.assert_close(
        loss(prediction, target, weight=torch.full((2, 5), 0.3).double()), loss(prediction, target)
    )
    weight = torch.ones(2, 5).double()
    weight[:, 2:] = 0
    torch.testing.assert_close(loss(prediction, target, weight=weight), loss(prediction[:, :2], target[:, :2]))


def test_relative_l2_is_the_mean_of_ratios_and_knows_no_units():
    prediction, target = draw(0), draw(1)
    expected = [(p - t).norm() / t.norm() for p, t in zip(prediction, target, strict=True)]
    torch.testing.assert_close(relative_l2(prediction, target), sum(expected) / 2)
    torch.testing.assert_close(relative_l2(1e5 * prediction, 1e5 * target), relative_l2(prediction, target))


def test_relative_l2_of_a_field_that_is_zero_is_finite():
    target = draw(1)
    target[0] = 0
    assert relative_l2(draw(0), target).isfinite()


def test_huber_is_a_parabola_then_a_line():
    target = torch.zeros(1, 1, 1)
    assert POINTWISE["huber"](torch.full((1, 1, 1), 0.5), target) == pytest.approx(0.125)
    assert POINTWISE["huber"](torch.full((1, 1, 1), 5.0), target) == pytest.approx(4.5)


def test_symlog_counts_orders_of_magnitude_alike():
    def error(prediction, target):
        return POINTWISE["symlog"](torch.full((1, 1, 1), prediction), torch.full((1, 1, 1), target)).item()

    assert error(1e6, 1e7) == pytest.approx(math.log(10) ** 2, rel=1e-4)
    assert error(-1e6, -1e7) == pytest.approx(error(1e6, 1e7))
    assert error(-1.0, 1.0) == pytest.approx((2 * math.log(2)) ** 2)
