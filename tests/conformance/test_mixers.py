"""What every mixer of tokens promises. Add a member to `MIXERS` and it meets every test."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from neuralop.encodings import RotaryEncoding
from neuralop.layers import TransformerBlock
from neuralop.mixers import AnchorAttention, CrossAttention, Place, SelfAttention, Streams
from neuralop.mixers.attention import remember

WIDTH, HEADS, READ = 24, 2, 7


@dataclass
class Mixer:
    """A module, and how to let tokens read others: `(module, tokens, place, read, place of these)`."""

    build: Callable
    read: Callable


def _read_alone(module, tokens, place, read, read_place):
    """Tokens that are not read themselves."""
    _, key, value = module.project(read, read_place.rotation, [(read.shape[1], 0)])
    return module.read(module.query(tokens, place.rotation), remember(key, value, read_place), place.offsets)


def _read_other(module, tokens, place, read, read_place):
    return module(tokens, place, module.memory(read, read_place))


def _read_anchors(module, tokens, place, read, read_place):
    others = {"surface": read, "volume": 0.5 * read}
    groups = [Streams.of({name: other}, {name: read_place}) for name, other in others.items()]
    memories = module(groups, [()])[1]
    return module.read("surface", tokens, place, memories, [()])


def anchors(pattern, **settings):
    def build():
        block = TransformerBlock(SelfAttention(WIDTH, HEADS, **settings), WIDTH)
        return AnchorAttention([block], ["surface", "volume"], pattern)

    return Mixer(build, _read_anchors)


MIXERS = {
    "self": Mixer(lambda: SelfAttention(WIDTH, HEADS), _read_alone),
    "self_normed_reserved": Mixer(lambda: SelfAttention(WIDTH, HEADS, qk_norm=True, reserved=2), _read_alone),
    "cross": Mixer(lambda: CrossAttention(WIDTH, HEADS, qk_norm=True), _read_other),
    "cross_reserved": Mixer(lambda: CrossAttention(WIDTH, HEADS, reserved=2), _read_other),
    "anchors_self": anchors("self", qk_norm=True),
    "anchors_cross": anchors("cross", reserved=2),
    "anchors_joint": anchors("joint", qk_norm=True, reserved=2),
}


class Setting:
    def __init__(self, mixer):
        torch.manual_seed(0)
        self.mixer = mixer
        self.module = mixer.build().double()
        reserved = 2 if any(getattr(part, "reserved", 0) for part in self.module.modules()) else 0
        self.angles = RotaryEncoding(3, WIDTH // HEADS - reserved, shortest=2.0, base=8.0)
        generator = torch.Generator().manual_seed(1)

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.tokens, self.position = draw(2, 5, WIDTH), draw(2, 5, 3)
        self.others, self.other_position, self.measure = draw(2, READ, WIDTH), draw(2, READ, 3), draw(2, READ).exp()

    def __call__(self, tokens=slice(None), others=slice(None), measure=None, shift=0.0):
        measure = self.measure if measure is None else measure
        place = Place(self.angles(self.position[:, tokens] + shift))
        other_place = Place(self.angles(self.other_position[:, others] + shift), measure[:, others].log())
        return self.mixer.read(self.module, self.tokens[:, tokens], place, self.others[:, others], other_place)


@pytest.fixture(params=MIXERS, ids=str)
def setting(request):
    return Setting(MIXERS[request.param])


def test_permuting_what_is_read_changes_nothing(setting):
    torch.testing.assert_close(setting(others=torch.tensor([3, 0, 6, 1, 5, 2, 4])), setting())


def test_readers_do_not_see_each_other(setting):
    order = torch.tensor([4, 1, 1])
    torch.testing.assert_close(setting(tokens=order), setting()[:, order])


def test_depends_on_differences_of_position(setting):
    torch.testing.assert_close(setting(shift=torch.tensor([3.0, -8.0, 0.5])), setting())


def test_splitting_a_token_into_parts_of_its_measure_changes_nothing(setting):
    parts = torch.arange(2 * READ) % READ
    share = torch.cat((torch.full((READ,), 0.2), torch.full((READ,), 0.8))).double()
    whole = setting()
    setting.others, setting.other_position = setting.others[:, parts], setting.other_position[:, parts]
    torch.testing.assert_close(setting(measure=setting.measure[:, parts] * share), whole)


def test_a_token_of_measure_zero_has_no_weight_and_no_gradient(setting):
    measure = setting.measure.clone()
    measure[:, 3] = 0
    setting.others.requires_grad_()
    found = setting(measure=measure)
    torch.testing.assert_close(found, setting(others=torch.tensor([0, 1, 2, 4, 5, 6]), measure=measure))
    gradient = torch.autograd.grad(found.sum(), setting.others)[0]
    assert gradient.any()
    assert not gradient[:, 3].any()


def test_packed_equals_stacked(setting):
    flat = {name: getattr(setting, name).flatten(0, 1)[None] for name in ("tokens", "others", "position")}
    place = Place(setting.angles(flat["position"]), offsets=torch.tensor([0, 5, 10]))
    other_place = Place(
        setting.angles(setting.other_position.flatten(0, 1)[None]),
        setting.measure.flatten()[None].log(),
        torch.tensor([0, READ, 2 * READ]),
    )
    found = setting.mixer.read(setting.module, flat["tokens"], place, flat["others"], other_place)
    torch.testing.assert_close(found, setting().flatten(0, 1)[None])


def test_every_parameter_has_a_gradient(setting):
    setting().square().sum().backward()
    unread = []
    for name, parameter in setting.module.named_parameters():
        assert parameter.grad is not None, name
        if not parameter.grad.any():
            unread.append(name)
    # One part of the parameters belongs to the memory's own update, which nothing here looks at.
    assert not unread


def test_gradients_agree_with_differences(setting):
    def function(tokens, others):
        setting.tokens, setting.others = tokens, others
        return setting()

    tokens, others = setting.tokens[:1, :2], setting.others[:1, :3]
    setting.position, setting.other_position = setting.position[:1, :2], setting.other_position[:1, :3]
    setting.measure = setting.measure[:1, :3]
    assert torch.autograd.gradcheck(function, (tokens.clone().requires_grad_(), others.clone().requires_grad_()))
