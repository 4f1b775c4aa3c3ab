"""Rotation of channel pairs."""

import torch

from neuralop.encodings import RotaryEncoding
from neuralop.functional import rotate

SPACE, WIDTH = 3, 14


def draw(seed, tokens=5):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 4, tokens, WIDTH, generator=generator, dtype=torch.float64)
    return x, 10 * torch.randn(2, tokens, SPACE, generator=generator, dtype=torch.float64)


def test_rotates_neighbouring_channels():
    x, position = draw(0)
    cos, sin = RotaryEncoding(SPACE, WIDTH, shortest=3.0, base=20.0)(position)
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    turned = torch.view_as_real(pairs * torch.complex(cos, sin)[:, None]).flatten(-2)
    torch.testing.assert_close(rotate(x, cos, sin), turned)


def test_scores_depend_on_differences_of_position():
    query, position = draw(1)
    key, other = draw(2)
    encode = RotaryEncoding(SPACE, WIDTH, shortest=3.0, base=20.0)

    def scores(shift):
        return rotate(query, *encode(position + shift)) @ rotate(key, *encode(other + shift)).mT

    torch.testing.assert_close(scores(torch.tensor([7.0, -3.0, 0.5])), scores(0.0))
    assert not torch.allclose(scores(0.0), query @ key.mT)


def test_is_the_identity_at_the_origin_and_keeps_lengths():
    x, position = draw(3)
    encode = RotaryEncoding(SPACE, WIDTH, shortest=3.0, base=20.0)
    torch.testing.assert_close(rotate(x, *encode(torch.zeros_like(position))), x, rtol=0, atol=0)
    torch.testing.assert_close(rotate(x, *encode(position)).norm(dim=-1), x.norm(dim=-1))


def test_channels_without_an_angle_stay():
    x, position = draw(4)
    cos, sin = RotaryEncoding(SPACE, 12, shortest=3.0, base=20.0)(position)
    turned = rotate(x, cos, sin)
    torch.testing.assert_close(turned[..., 12:], x[..., 12:], rtol=0, atol=0)
    torch.testing.assert_close(turned[..., :12], rotate(x[..., :12], cos, sin), rtol=0, atol=0)


def test_half_precision_is_rotated_in_full():
    x, position = draw(5)
    cos, sin = RotaryEncoding(SPACE, WIDTH, shortest=3.0, base=20.0)(position.float())
    turned = rotate(x.bfloat16(), cos, sin)
    assert turned.dtype == torch.bfloat16
    torch.testing.assert_close(turned, rotate(x.bfloat16().float(), cos, sin).bfloat16(), rtol=0, atol=0)


def test_leaves_heads_after_tokens_in_memory():
    x, position = draw(6)
    turned = rotate(x, *RotaryEncoding(SPACE, WIDTH, shortest=3.0, base=20.0)(position))
    assert turned.transpose(1, 2).is_contiguous()
