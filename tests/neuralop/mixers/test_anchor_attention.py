"""Who sees whom, and memories read together."""

import pytest
import torch

from neuralop.encodings import RotaryEncoding
from neuralop.layers import TransformerBlock
from neuralop.mixers import AnchorAttention, Place, SelfAttention, Streams, visible
from neuralop.mixers.attention import join


def test_patterns():
    names = ("surface", "volume", "wake")
    assert visible("self", "volume", names) == ("volume",)
    assert visible("cross", "volume", names) == ("surface", "wake")
    assert visible("joint", "volume", names) == names
    assert visible("cross", "surface", ("surface",)) == ("surface",)


def draw(tokens, offsets=None, measure=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    batch = 2 if offsets is None else 1
    memory = {name: torch.randn(batch, 3, tokens, 4, generator=generator) for name in ("key", "value")}
    if measure:
        memory["log_measure"] = torch.randn(batch, tokens, generator=generator)
    if offsets is not None:
        memory["offsets"] = torch.tensor(offsets)
    return memory


def test_joined_memories_each_count_one():
    joined = join([draw(5), draw(7, measure=False, seed=1)])
    assert joined["key"].shape[2] == 12
    measure = joined["log_measure"].exp()
    torch.testing.assert_close(measure[:, :5].sum(1), torch.ones(2))
    torch.testing.assert_close(measure[:, 5:], torch.full((2, 7), 1 / 7))
    assert "log_measure" not in join([draw(5, measure=False), draw(7, measure=False)])


def test_joined_memories_keep_samples_apart():
    one, other = draw(7, [0, 3, 7]), draw(5, seed=1)
    joined = join([one, other])
    assert joined["offsets"].tolist() == [0, 8, 17]
    torch.testing.assert_close(joined["key"][:, :, :3], one["key"][:, :, :3])
    torch.testing.assert_close(joined["key"][:, :, 3:8], other["key"][:1])
    torch.testing.assert_close(joined["value"][:, :, 12:], other["value"][1:])


def test_an_only_branch_reads_itself_in_cross_layers():
    torch.manual_seed(0)
    block = TransformerBlock(SelfAttention(8, 2), 8)
    tokens = torch.randn(1, 5, 8)
    streams = Streams.of({"surface": tokens}, {"surface": Place()})
    layers = [AnchorAttention([block], ["surface"], pattern) for pattern in ("self", "cross", "joint")]
    found = [layer([streams], [()])[0][0].tokens for layer in layers]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    torch.testing.assert_close(found[0], block(tokens, Place()))


@pytest.mark.parametrize("pattern", ["self", "cross", "joint"])
def test_branches_together_are_branches_apart(pattern):
    """Whether tokens of branches pass a layer together or apart, with queries after their anchors or without."""
    torch.manual_seed(0)
    block = TransformerBlock(SelfAttention(8, 2, qk_norm=True), 8).double()
    layer = AnchorAttention([block], ["surface", "volume"], pattern)
    angles = RotaryEncoding(2, 4, shortest=2.0, base=8.0)
    sizes = {"surface": (5, 2), "volume": (3, 4)}
    anchors = {name: torch.randn(2, count, 8).double() for name, (count, _) in sizes.items()}
    queries = {name: torch.randn(2, count, 8).double() for name, (_, count) in sizes.items()}
    places = {name: Place(angles(torch.randn(2, count, 2).double())) for name, (count, _) in sizes.items()}
    asking = {name: angles(torch.randn(2, count, 2).double()) for name, (_, count) in sizes.items()}

    both = {name: torch.cat((anchors[name], queries[name]), 1) for name in sizes}
    whole = Streams.of(both, places, {name: (queries[name].shape[1], asking[name]) for name in sizes})
    (together,), memories = layer([whole], [()])
    apart, same = layer([Streams.of({name: anchors[name]}, {name: places[name]}) for name in sizes], [()])
    for alone, (name, stream) in zip(apart, together.apart().items(), strict=True):
        known, asked = stream.tokens.split(stream.layout[0], 1)
        torch.testing.assert_close(known, alone.tokens)
        torch.testing.assert_close(asked, layer.read(name, queries[name], Place(asking[name]), same, [()]))
        torch.testing.assert_close(memories[name]["key"], same[name]["key"])


def test_attention_settings_that_cannot_be():
    with pytest.raises(ValueError, match="10 features cannot be shared by 4 heads"):
        SelfAttention(10, 4)
    with pytest.raises(ValueError, match="cannot reserve 1 of 4 channels"):
        SelfAttention(8, 2, reserved=1)
    block = TransformerBlock(SelfAttention(8, 2), 8)
    with pytest.raises(ValueError, match="3 branches need one shared block or one each, got 2"):
        AnchorAttention([block, block], ["a", "b", "c"], "self")
