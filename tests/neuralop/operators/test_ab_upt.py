"""AB-UPT against its published size, against a slow twin, and who sees whom."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.nn.functional import gelu, layer_norm

from neuralop.layers import PerceiverBlock, TransformerBlock
from neuralop.mixers import CrossAttention, SelfAttention
from neuralop.operators import ABUPT, ABUPTConfig, Branch
from neuralop.points import Points

FIELDS = {"surface": {"pressure": 1, "wall_shear_stress": 3}, "volume": {"pressure": 1, "velocity": 3, "vorticity": 3}}
SMALL = ABUPTConfig(
    width=24, heads=2, trunk=("perceiver", "self", "cross"), depth=1, supernodes=6, radius=1.0, shortest=2.0, base=8.0,
    rotary_shortest=3.0, rotary_base=8.0,
)  # fmt: skip


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def branches(depth=6):
    return {name: Branch(fields, depth) for name, fields in FIELDS.items()}


def build(config=SMALL, condition=0, seed=0):
    torch.manual_seed(seed)
    operator = config.build(space=3, branches=FIELDS, condition=condition).double()
    with torch.no_grad():
        for parameter in operator.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return operator


def points(seed, count):
    return torch.randn(1, count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs():
    return points(1, 20), {"surface": points(2, 7), "volume": points(3, 9)}


# --- Sizes: section 1.7 of the specification


def test_published_number_of_parameters():
    assert count(ABUPT.reference(branches=branches())) == 8_751_179


def test_parameters_of_the_later_recipe():
    operator = ABUPT(
        space=3, width=192, heads=3, trunk=("perceiver", *("self", "cross") * 4, "self"), branches=branches(2),
        message="absolute", activation="gelu", qk_norm=False, final_norm=False,
    )  # fmt: skip
    assert count(operator) == 7_008_587


@pytest.mark.parametrize("d", [24, 60])
def test_parameters_by_part(d):
    block = TransformerBlock(SelfAttention(d, 2), d)
    perceiver = PerceiverBlock(CrossAttention(d, 2), d)
    assert count(block) == 12 * d**2 + 13 * d
    assert count(perceiver) == 12 * d**2 + 15 * d
    for p in (1, 7):
        conditioned = TransformerBlock(SelfAttention(d, 2), d, condition=p)
        assert count(conditioned) - count(block) == 6 * d * (p + 1) - 4 * d
        conditioned = PerceiverBlock(CrossAttention(d, 2), d, condition=p)
        assert count(conditioned) - count(perceiver) == 8 * d * (p + 1) - 6 * d
    for message, size in (("relative", 4 * d**2 + 3 * d), ("absolute", 5 * d**2 + 3 * d)):
        operator = replace(SMALL, width=d, message=message).build(space=3, branches=FIELDS)
        assert count(operator.geometry_pooling) == size
    assert count(operator.position_mlps) == 4 * d**2 + 4 * d
    plain = replace(SMALL, width=d, final_norm=False).build(space=3, branches=FIELDS)
    assert count(plain.heads) == (4 + 7) * (d + 1)


def test_reference_has_the_published_layout():
    operator = ABUPT.reference(branches=branches(), condition=7)
    assert [len(layers) for layers in operator.decoders.values()] == [6, 6]
    assert [type(layer).__name__ for layer in operator.trunk] == ["GeometryAttention"] + 5 * ["AnchorAttention"]
    assert operator.trunk[2].visible == {"surface": ("volume",), "volume": ("surface",)}
    assert operator.encode_position.ladder.shortest == pytest.approx(2 * math.pi)
    assert operator.trunk[1].blocks[0].modulation.linear.weight.shape == (6 * 192, 7)


# --- A slow twin: all tokens at once, masks instead of caches, loops instead of message passing


def turn(x, position, ladder):
    """Rotate pairs by complex multiplication."""
    angle = ladder.angles(position).flatten(-2)
    angle = torch.nn.functional.pad(angle, (0, x.shape[-1] // 2 - angle.shape[-1]))
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)[:, None]).flatten(-2)


def heads(x, number, norm=None):
    x = x.unflatten(-1, (number, -1)).transpose(1, 2)
    return x if norm is None else layer_norm(x, x.shape[-1:], eps=1e-6) * norm.weight


def masked_attention(operator, mixer, q, k, v, at, of, visible):
    q = turn(heads(q, mixer.heads, mixer.query_norm), at, operator.encode_rotation.ladder)
    k = turn(heads(k, mixer.heads, mixer.key_norm), of, operator.encode_rotation.ladder)
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~visible, -math.inf)
    return mixer.out((scores.softmax(-1) @ heads(v, mixer.heads)).transpose(1, 2).flatten(2))


def finish(block, x, mixed, modulation):
    if modulation is None:
        x = x + mixed
        return x + block.mlp(block.mlp_norm(x))
    gate, scale, shift, mlp_gate = modulation[-4:]
    x = x + gate * mixed
    return x + mlp_gate * block.mlp(block.mlp_norm(x) * (1 + scale) + shift)


def self_block(operator, block, x, position, visible, condition):
    modulation = None if condition is None else block.modulation.linear(condition)[:, None].chunk(6, -1)
    entered = block.mixer_norm(x)
    if modulation is not None:
        entered = entered * (1 + modulation[0]) + modulation[1]
    q, k, v = block.mixer.qkv(entered).chunk(3, -1)
    mixed = masked_attention(operator, block.mixer, q, k, v, position, position, visible)
    return finish(block, x, mixed, modulation)


def pooled(operator, geometry):
    pooling = operator.geometry_pooling
    tokens = []
    for i in range(pooling.supernodes):
        distance = (geometry[0] - geometry[0, i]).norm(dim=-1)
        near = geometry[0, distance <= pooling.radius]
        difference = geometry[0, i] - near
        relative = torch.cat((difference, difference.norm(dim=-1, keepdim=True)), -1)
        messages = pooling.leave(gelu(pooling.enter(pooling.encode_difference(relative[None]))))
        tokens.append(torch.cat((messages.mean(1), pooling.encode(geometry[:, i : i + 1])[:, 0]), -1))
    return pooling.project(torch.stack(tokens, 1))


def twin(operator, geometry, anchors, queries, condition=None):
    """Predictions at anchors and queries of both branches, all in one pass through every layer."""
    if condition is not None and operator.encode_condition is not None:
        condition = operator.encode_condition(condition)
    positions = {name: torch.cat((anchors[name], queries[name]), 1) for name in anchors}
    position = torch.cat(list(positions.values()), 1)
    branch = torch.tensor([i for i, part in enumerate(positions.values()) for _ in range(part.shape[1])])
    anchor = torch.cat([torch.arange(part.shape[1]) < anchors[name].shape[1] for name, part in positions.items()])
    same = branch[:, None] == branch
    masks = {"self": same & anchor, "cross": ~same & anchor, "joint": (same | ~same) & anchor}
    x = torch.cat([operator.position_mlps[name](operator.encode_position(part)) for name, part in positions.items()], 1)
    supernodes = geometry[:, : operator.geometry_pooling.supernodes]
    g = pooled(operator, geometry)
    everything = torch.ones((), dtype=torch.bool)
    for block in operator.geometry_blocks:
        g = self_block(operator, block, g, supernodes, everything, condition)
    for kind, layer in zip(SMALL.trunk, operator.trunk, strict=True):
        block = layer.blocks[0]
        if kind != "perceiver":
            x = self_block(operator, block, x, position, masks[kind], condition)
            continue
        modulation = None if condition is None else block.modulation.linear(condition)[:, None].chunk(8, -1)
        entered, read = block.mixer_norm(x), block.memory_norm(g)
        if modulation is not None:
            entered = entered * (1 + modulation[0]) + modulation[1]
            read = read * (1 + modulation[2]) + modulation[3]
        k, v = block.mixer.kv(read).chunk(2, -1)
        mixed = masked_attention(operator, block.mixer, block.mixer.q(entered), k, v, position, supernodes, everything)
        x = finish(block, x, mixed, modulation)
    found = {}
    for i, name in enumerate(positions):
        own, where = x[:, branch == i], position[:, branch == i]
        for layer in operator.decoders[name]:
            own = self_block(operator, layer.blocks[0], own, where, anchor[branch == i], condition)
        found[name] = operator.heads[name].linear(operator.heads[name].norm(own))
    return found


@pytest.mark.parametrize("condition", [0, 2])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_cached_equals_computed_at_once(condition, qk_norm):
    operator = build(replace(SMALL, qk_norm=qk_norm), condition)
    geometry, anchors = inputs()
    queries = {"surface": points(4, 5), "volume": points(5, 3)}
    scalars = torch.tensor([[0.3, -1.2]], dtype=torch.float64) if condition else None
    expected = twin(operator, geometry, anchors, queries, scalars)
    context = operator.encode(geometry, anchors, condition=scalars)
    for name in FIELDS:
        at_anchors, at_queries = operator.decode(context, name), operator.decode(context, name, queries[name])
        found = torch.cat([torch.cat(list(part.values()), -1) for part in (at_anchors, at_queries)], 1)
        torch.testing.assert_close(found, expected[name])
        at_once = [part[name] for part in operator(geometry, anchors, queries, condition=scalars)]
        found = torch.cat([torch.cat(list(part.values()), -1) for part in at_once], 1)
        torch.testing.assert_close(found, expected[name])


# --- Who sees whom


def surface_pressure(operator, geometry, anchors):
    return operator.decode(operator.encode(geometry, anchors), "surface", points(6, 4))["pressure"]


@pytest.mark.parametrize("trunk", [("perceiver", "self"), ("perceiver", "cross"), ("joint",), ("self",)])
def test_branches_meet_only_in_cross_and_joint_layers(trunk):
    operator = build(replace(SMALL, trunk=trunk))
    geometry, anchors = inputs()
    moved = {**anchors, "volume": anchors["volume"] + 0.1}
    before = surface_pressure(operator, geometry, anchors)
    meet = "cross" in trunk or "joint" in trunk
    assert torch.equal(before, surface_pressure(operator, geometry, moved)) != meet
    assert torch.equal(before, surface_pressure(operator, 1.1 * geometry, anchors)) != ("perceiver" in trunk)


def test_without_a_perceiver_no_geometry_is_asked_for():
    operator = build(replace(SMALL, trunk=("self",)))
    geometry, anchors = inputs()
    assert operator.geometry_pooling is None
    assert torch.equal(surface_pressure(operator, None, anchors), surface_pressure(operator, geometry, anchors))
    with pytest.raises(ValueError, match="reads a geometry, got None"):
        build().encode(None, anchors)


def test_untied_branches_have_weights_of_their_own():
    tied, untied = build(), build(replace(SMALL, share="none"))
    assert count(untied.trunk) == 2 * count(tied.trunk)
    geometry, anchors = inputs()
    loss = untied.decode(untied.encode(geometry, anchors), "surface", points(6, 4))["pressure"].sum()
    loss.backward()
    surface, volume = untied.trunk[2].blocks
    assert surface.mlp.enter.weight.grad.any()
    assert volume.mlp.enter.weight.grad is None


# --- Conditions


def test_conditioned_blocks_begin_as_the_identity():
    torch.manual_seed(0)
    operator = SMALL.build(space=3, branches=FIELDS, condition=2).double()
    geometry, anchors = inputs()
    queries = points(6, 4)

    def predict(*scalars):
        condition = torch.tensor([scalars], dtype=torch.float64)
        return operator.decode(operator.encode(geometry, anchors, condition=condition), "volume", queries)["velocity"]

    tokens = operator.position_mlps["volume"](operator.encode_position(queries))
    torch.testing.assert_close(predict(0.0, 1.0), operator.heads["volume"](tokens)["velocity"], rtol=0, atol=0)
    assert torch.equal(predict(0.0, 1.0), predict(5.0, -3.0))
    operator = build(condition=2)
    assert not torch.allclose(predict(0.0, 1.0), predict(5.0, -3.0))


# --- Neighbours


def test_neighbours_may_be_found_beforehand():
    from neuralop.functional import radius

    operator = build()
    geometry, anchors = inputs()
    batch = torch.cat((geometry, 0.7 * geometry))
    twice = {name: part.repeat(2, 1, 1) for name, part in anchors.items()}
    supernodes = batch[:, : SMALL.supernodes].flatten(0, 1)
    neighbours = radius(
        batch.flatten(0, 1), supernodes, SMALL.radius, SMALL.max_neighbours, torch.tensor([0, 20, 40]),
        torch.tensor([0, 6, 12]),
    )  # fmt: skip
    found = operator.decode(operator.encode(batch, twice, neighbours=neighbours), "surface")
    expected = operator.decode(operator.encode(batch, twice), "surface")
    torch.testing.assert_close(found["pressure"], expected["pressure"], rtol=0, atol=0)
    with pytest.raises(ValueError, match="neighbours of 12 supernodes, got those of 3"):
        operator.encode(batch, twice, neighbours=(torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 2])))


@pytest.mark.parametrize("packed", [False, True])
def test_too_few_geometry_points(packed):
    geometry, anchors = inputs()
    few = Points(geometry[:, :5], offsets=torch.tensor([0, 5]) if packed else None)
    with pytest.raises(ValueError, match="5 points cannot have 6 supernodes"):
        build().encode(few, anchors)


# --- Settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 100, "heads": 3}, "even multiple of heads, got width=100 and heads=3; 102 would do"),
        ({"radius": 0.0}, "radius is a length and must be positive, got 0"),
        ({"depth": -1}, "depth must not be negative"),
        ({"heads": 0}, "heads must be at least 1"),
        ({"supernodes": 0}, "or null for all points, got 0"),
        ({"rotary_base": 0.5}, "ratio of wavelengths"),
        ({"trunk": (), "depth": 0}, "give a trunk or a depth"),
    ],
)
def test_settings_check_themselves(wrong, message):
    with pytest.raises(ValueError, match=message):
        ABUPTConfig(**wrong)


@pytest.mark.parametrize("name", ["wall-1", "keys", "a.b"])
def test_branches_need_names_that_weights_can_have(name):
    with pytest.raises(ValueError, match="letters, digits and underscores"):
        SMALL.build(space=3, branches={name: {"pressure": 1}})


# --- Learning


def test_more_anchors_converge():
    """With measure, anchors are quadrature nodes: their number changes little, and less and less."""
    operator = build(replace(SMALL, measure=True, trunk=("self", "self"), depth=1))
    generator = torch.Generator().manual_seed(0)

    def ring(number):
        # Unevenly laid on purpose: twice as dense on one half, with the measure that says so.
        angle = torch.linspace(0, 2 * math.pi, number + 1, dtype=torch.float64)[:-1]
        angle = angle + 0.5 * angle.sin()
        place = torch.stack((angle.cos(), angle.sin(), 0 * angle), -1)[None]
        around = torch.cat((angle, angle[:1] + 2 * math.pi)).diff()
        return Points(place, measure=((around + around.roll(1)) / 2)[None])

    queries = torch.randn(1, 5, 3, generator=generator, dtype=torch.float64)

    def predict(number):
        context = operator.encode(None, {"surface": ring(number), "volume": ring(number)})
        return operator.decode(context, "surface", queries)["pressure"]

    exact = predict(640)
    errors = [(predict(number) - exact).norm() for number in (10, 20, 40, 80)]
    orders = [(coarse / fine).log2() for coarse, fine in pairwise(errors)]
    assert min(orders) > 1.5


def test_learns_a_field():
    torch.manual_seed(0)
    config = replace(SMALL, width=32, measure=False, supernodes=32)
    operator = config.build(space=3, branches={"surface": {"pressure": 1}})
    generator = torch.Generator().manual_seed(0)
    geometry = torch.nn.functional.normalize(torch.randn(1, 200, 3, generator=generator), dim=-1)
    optimiser = torch.optim.Adam(operator.parameters(), lr=3e-3)
    for _ in range(60):
        place = geometry[:, torch.randperm(200, generator=generator)[:128]]
        context = operator.encode(geometry, {"surface": place[:, :64]})
        predicted = operator.decode(context, "surface", place[:, 64:])["pressure"]
        loss = (predicted - (3 * place[:, 64:, :1]).sin()).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.05  # of a variance of 0.5


@pytest.mark.slow
def test_compiles_as_one_graph():
    """In a process of its own: the shape checker of the tests cannot be traced."""
    program = """
import torch
from neuralop.operators import ABUPTConfig
from neuralop.functional import radius
torch.manual_seed(0)
config = ABUPTConfig(
    width=24, heads=2, trunk=("perceiver", "self", "cross"), depth=1, supernodes=6, radius=1.0, measure=True
)
operator = config.build(space=3, branches={"surface": {"pressure": 1}, "volume": {"velocity": 3}}, condition=2)
geometry, places, queries = torch.randn(1, 20, 3), torch.randn(1, 7, 3), torch.randn(1, 5, 3)
anchors, condition = {"surface": places, "volume": 2 * places}, torch.randn(1, 2)
neighbours = radius(geometry[0], geometry[0, :6], 1.0, 32)

def predict(geometry, anchors, queries, condition):
    context = operator.encode(geometry, anchors, condition=condition, neighbours=neighbours)
    return operator.decode(context, "volume", queries)["velocity"]

compiled = torch.compile(predict, fullgraph=True, backend="aot_eager")
given = geometry, anchors, queries, condition
torch.testing.assert_close(compiled(*given), predict(*given))
"""
    environment = {**os.environ, "JAXTYPING_DISABLE": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
