"""What every encoding of positions promises. Add a member to `ENCODINGS` and it meets every test."""

import math

import pytest
import torch

from neuralop.encodings import ConditionEncoding, FourierEncoding, RotaryEncoding

# Each takes (batch, token, 3) and gives one tensor or several.
ENCODINGS = {
    "fourier": lambda: FourierEncoding(3, 22, shortest=0.5, base=30.0),
    "fourier_reference": lambda: FourierEncoding(3, 192),
    "rotary": lambda: RotaryEncoding(3, 22, shortest=0.5, base=30.0),
}


@pytest.fixture(params=ENCODINGS, ids=str)
def encode(request):
    encoding = ENCODINGS[request.param]()
    return lambda position: torch.cat(list(_parts(encoding(position))), -1)


def _parts(encoded):
    return encoded if isinstance(encoded, tuple) else (encoded,)


def draw(dtype=torch.float64):
    return 3 * torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def test_is_a_function_of_each_position_alone(encode):
    position = draw()
    order = torch.randperm(5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(encode(position[:, order]), encode(position)[:, order], rtol=0, atol=0)
    torch.testing.assert_close(encode(position[1:]), encode(position)[1:], rtol=0, atol=0)


def test_stays_in_float32_under_autocast_and_after_casting(encode):
    position = draw(torch.float32) + 100
    expected = encode(position)
    assert expected.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(encode(position), expected, rtol=0, atol=0)
    torch.testing.assert_close(expected.double(), encode(position.double()), rtol=0, atol=2e-4)


def test_is_smooth_and_bounded(encode):
    position = draw().requires_grad_()
    encoded = encode(position)
    assert encoded.abs().max() <= 1
    assert torch.autograd.gradcheck(encode, position[:1, :2])


@pytest.mark.parametrize("kind", [FourierEncoding, RotaryEncoding])
def test_no_weights_and_nothing_to_lose_in_half_precision(kind):
    encoding = kind(2, 16, shortest=0.5, base=30.0)
    assert not list(encoding.parameters())
    assert not list(encoding.buffers())
    assert "shortest=0.5" in repr(encoding)


def test_fourier_layout():
    """For each axis all sines, then all cosines; the rest is zero."""
    position = draw()
    encoded = FourierEncoding(3, 20, shortest=0.5, base=8.0)(position)
    omega = [2 * math.pi / 0.5 * 8.0 ** (-k / 3) for k in range(3)]
    columns = [f(w * position[..., axis]) for axis in range(3) for f in (torch.sin, torch.cos) for w in omega]
    torch.testing.assert_close(encoded[..., :18], torch.stack(columns, -1))
    assert not encoded[..., 18:].any()


def test_rotary_layout():
    """One angle a pair, axis after axis; pairs left over have angle zero."""
    position = draw()
    cos, sin = RotaryEncoding(3, 20, shortest=0.5, base=8.0)(position)
    omega = [2 * math.pi / 0.5 * 8.0 ** (-k / 3) for k in range(3)]
    angle = torch.stack([w * position[..., axis] for axis in range(3) for w in omega], -1)
    torch.testing.assert_close(torch.atan2(sin, cos)[..., :9].sin(), angle.sin())
    torch.testing.assert_close(cos[..., :9], angle.cos())
    assert (cos[..., 9:] == 1).all()
    assert not sin[..., 9:].any()


def test_published_frequencies():
    """32 of them an axis for 192 channels, from one radian a unit down, and 10 an axis for heads of 64."""
    encoded = FourierEncoding(3, 192)(torch.ones(1, 1, 3, dtype=torch.float64)).flatten()
    omega = 10_000.0 ** (-torch.arange(32, dtype=torch.float64) / 32)
    torch.testing.assert_close(encoded[:32], omega.sin())
    torch.testing.assert_close(encoded[32:64], omega.cos())
    sin = RotaryEncoding(3, 64)(torch.ones(1, 1, 3, dtype=torch.float64))[1].flatten()
    torch.testing.assert_close(sin[:10], (10_000.0 ** (-torch.arange(10, dtype=torch.float64) / 10)).sin())
    assert not sin[30:].any()


def test_condition_encoding_tells_samples_apart_and_keeps_them_apart():
    torch.manual_seed(0)
    encode = ConditionEncoding(3, 10).double()
    condition = draw()[0]
    encoded = encode(condition)
    assert encoded.shape == (5, 10)
    torch.testing.assert_close(encode(condition[2:3]), encoded[2:3])
    assert torch.pdist(encoded).min() > 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FourierEncoding(3, 5), "5 channels hold no sine and cosine for each of 3 axes; give 6"),
        (lambda: FourierEncoding(0, 5), "at least one axis, got 0"),
        (lambda: FourierEncoding(2, 8, shortest=-1.0), "shortest > 0"),
        (lambda: RotaryEncoding(3, 9), "must be even, got 9"),
        (lambda: FourierEncoding(2, 8)(torch.zeros(1, 1, 3)), r"expected positions with 2 axes, got shape \(1, 1, 3\)"),
    ],
)
def test_refuses_what_makes_no_sense(make, message):
    with pytest.raises(ValueError, match=message):
        make()
