"""The small parts: blocks, MLPs, norms and how they begin."""

import pytest
import torch
from torch import nn

from neuralop.layers import MLP, TransformerBlock, initialise, modulate, spread
from neuralop.mixers import SelfAttention


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_mlp_sizes():
    assert count(MLP(12, 48, 12)) == 8 * 12**2 + 5 * 12
    gelu, swiglu = (count(MLP(96, 384, 96, activation=activation)) for activation in ("gelu", "swiglu"))
    assert abs(swiglu / gelu - 1) < 0.01


def test_block_is_given_its_mixer():
    block = TransformerBlock(nn.Linear(6, 6), 6)
    x = draw(2, 3, 6)
    inner = x + block.mixer(block.mixer_norm(x))
    torch.testing.assert_close(block(x), inner + block.mlp(block.mlp_norm(inner)))


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_conditioned_block_begins_as_the_identity(norm):
    block = TransformerBlock(nn.Linear(6, 6), 6, condition=2, norm=norm)
    x, condition = draw(2, 3, 6), draw(2, 2)
    torch.testing.assert_close(block(x, condition=condition), x, rtol=0, atol=0)
    assert not list(block.mixer_norm.parameters())
    with pytest.raises(ValueError, match="built with a condition"):
        block(x)


def test_conditioned_block_follows_the_equation():
    torch.manual_seed(0)
    block = TransformerBlock(nn.Linear(6, 6), 6, condition=2)
    nn.init.normal_(block.modulation.linear.weight)
    x, condition = draw(2, 3, 6), draw(2, 2)
    scale, shift, gate, mlp_scale, mlp_shift, mlp_gate = block.modulation.linear(condition)[:, None].chunk(6, -1)
    expected = x + gate * block.mixer(block.mixer_norm(x) * (1 + scale) + shift)
    expected = expected + mlp_gate * block.mlp(block.mlp_norm(expected) * (1 + mlp_scale) + mlp_shift)
    torch.testing.assert_close(block(x, condition=condition), expected)


def test_condition_is_spread_over_packed_tokens():
    values, offsets = draw(3, 4), torch.tensor([0, 2, 2, 5])
    packed = spread(values, offsets, 5)
    torch.testing.assert_close(packed, values[[0, 0, 2, 2, 2]][None])
    x = draw(1, 5, 4)
    torch.testing.assert_close(modulate(x, packed, 2 * packed), x * (1 + packed) + 2 * packed)


@pytest.mark.parametrize(("kind", "deviation"), [("published", 0.02), ("fan_in", 300**-0.5)])
def test_initialise(kind, deviation):
    torch.manual_seed(0)
    block = TransformerBlock(SelfAttention(300, 3), 300, condition=3)
    nn.init.ones_(block.modulation.linear.weight)
    initialise(nn.ModuleList([block, TransformerBlock(SelfAttention(300, 3), 300)]), kind)
    assert block.mixer.qkv.weight.std().item() == pytest.approx(deviation, rel=0.02)
    leaving = deviation if kind == "published" else deviation / 2  # two blocks add to tokens four times
    assert block.mixer.out.weight.std().item() == pytest.approx(leaving, rel=0.02)
    assert not block.mixer.qkv.bias.any()
    assert not block.modulation.linear.weight.any()
