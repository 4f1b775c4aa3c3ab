"""What every operator on anchors and queries promises. Add a member to `CASES` and it meets every test."""

import copy
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from neuralop.operators import ABUPT, ABUPTConfig, Branch
from neuralop.points import Points

FIELDS = {"surface": {"pressure": 1, "shear": 3}, "volume": {"velocity": 3}}
FEATURES = {"geometry": {"normal": 3}, "surface": {"normal": 3}, "volume": {"normal": 3, "distance": 1}}


@dataclass
class Case:
    """An operator and what it is given."""

    config: ABUPTConfig
    space: int = 3
    fields: dict = field(default_factory=lambda: FIELDS)
    features: dict = field(default_factory=lambda: FEATURES)
    condition: int = 2
    counts: dict = field(default_factory=lambda: {"geometry": 23, "surface": 9, "volume": 11})

    def build(self, dtype=torch.float64):
        """Build the operator with every weight in use: gates, biases and heads begin at or near zero."""
        torch.manual_seed(0)
        operator = self.config.build(
            space=self.space, branches=self.fields, features=self.features, condition=self.condition
        )
        with torch.no_grad():
            for parameter in operator.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        return operator.to(dtype)

    def points(self, name, count, seed, batch=1, dtype=torch.float64):
        generator = torch.Generator().manual_seed(seed)
        features = sum(self.features.get(name, {}).values())

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        return Points(
            draw(batch, count, self.space),
            measure=draw(batch, count).exp(),
            features=draw(batch, count, features) if features else None,
        )

    def inputs(self, seed=0, batch=1, more=0, dtype=torch.float64):
        """Geometry, anchors and condition; `more` makes the sample larger."""
        points = {
            name: self.points(name, count + more, 10 * seed + i, batch, dtype)
            for i, (name, count) in enumerate(self.counts.items())
        }
        generator = torch.Generator().manual_seed(seed + 1000)
        condition = torch.randn(batch, self.condition, generator=generator, dtype=torch.float64).to(dtype)
        return points.pop("geometry"), points, condition if self.condition else None

    def queries(self, branch, seed=7, count=8, batch=1, dtype=torch.float64):
        return self.points(branch, count, seed, batch, dtype)


SMALL = ABUPTConfig(
    width=24, heads=2, trunk=("perceiver", "self", "cross"), depth=1, supernodes=6, radius=1.0, max_neighbours=100,
    shortest=2.0, base=8.0, rotary_shortest=3.0, rotary_base=8.0,
)  # fmt: skip

CASES = {
    "default": Case(SMALL),
    "measure": Case(replace(SMALL, measure=True)),
    "joint": Case(replace(SMALL, trunk=("perceiver", "joint", "cross"), measure=True)),
    "untied": Case(replace(SMALL, share="none", activation="swiglu", norm="rms", message="absolute"), condition=0),
    "plain": Case(replace(SMALL, qk_norm=False, final_norm=False, supernodes=None), features={}, condition=0),
    "surface_alone": Case(
        replace(SMALL, measure=True), fields={"surface": {"pressure": 1}}, counts={"geometry": 23, "surface": 9}
    ),
    "three_branches_in_the_plane": Case(
        replace(SMALL, trunk=("cross", "perceiver", "cross"), depth=0),
        space=2,
        fields={**FIELDS, "wake": {"velocity": 2}},
        counts={"geometry": 23, "surface": 9, "volume": 11, "wake": 5},
    ),
    "ensemble": Case(replace(SMALL, members=2)),
    "no_geometry": Case(replace(SMALL, trunk=("joint",), depth=2)),
}


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return CASES[request.param]


def take(points, index):
    """Pick some of the points."""
    return Points(
        *(None if part is None else part[:, index] for part in (points.position, points.measure, points.features))
    )


def pack(points):
    """Put samples one after the other."""
    lengths = [one.position.shape[1] for one in points]

    def together(name):
        parts = [getattr(one, name) for one in points]
        return None if parts[0] is None else torch.cat(parts, 1)

    return Points(
        together("position"), together("measure"), together("features"), torch.tensor([0, *lengths]).cumsum(0)
    )


def assert_close(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], **tolerance)


def test_fields_have_their_shapes(case):
    operator, (geometry, anchors, condition) = case.build(), case.inputs(batch=2)
    context = operator.encode(geometry, anchors, condition=condition)
    for branch, fields in case.fields.items():
        for queries, count in ((None, case.counts[branch]), (case.queries(branch, batch=2), 8)):
            found = operator.decode(context, branch, queries)
            assert {name: tuple(value.shape) for name, value in found.items()} == {
                name: (2, count, channels) for name, channels in fields.items()
            }


@pytest.mark.parametrize("packed", ["nothing", "geometry", "everything"])
def test_one_pass_gives_what_two_give(case, packed):
    """Anchors and queries of a training step at once; without queries of the first of several branches, too."""
    operator, batch = case.build(), 2
    geometry, anchors, condition = case.inputs(batch=batch)
    queries = {branch: case.queries(branch, batch=batch) for branch in list(case.fields)[-2:]}

    def packing(points):
        return pack([Points(*(None if part is None else part[i : i + 1] for part in parts(points))) for i in range(2)])

    def parts(points):
        return points.position, points.measure, points.features

    if packed != "nothing":
        geometry = packing(geometry)
    if packed == "everything":
        anchors, queries = ({name: packing(each) for name, each in given.items()} for given in (anchors, queries))
    anchored, asked = operator(geometry, anchors, queries, condition=condition)
    context = operator.encode(geometry, anchors, condition=condition)
    assert anchored.keys() == case.fields.keys()
    assert asked.keys() == queries.keys()
    for branch in case.fields:
        assert_close(anchored[branch], operator.decode(context, branch))
    for branch, points in queries.items():
        assert_close(asked[branch], operator.decode(context, branch, points))
    with pytest.raises(ValueError, match="expected queries of"):
        operator(geometry, anchors, {"nowhere": next(iter(anchors.values()))}, condition=condition)


def test_queries_do_not_see_each_other(case):
    operator, (geometry, anchors, condition) = case.build(), case.inputs()
    context = operator.encode(geometry, anchors, condition=condition)
    order = torch.tensor([3, 0, 7, 7, 2])
    for branch in case.fields:
        queries = case.queries(branch)
        whole = operator.decode(context, branch, queries)
        some = operator.decode(context, branch, take(queries, order))
        assert_close(some, {name: value[:, order] for name, value in whole.items()})
        chunks = [operator.decode(context, branch, take(queries, slice(i, i + 3))) for i in range(0, 8, 3)]
        assert_close({name: torch.cat([chunk[name] for chunk in chunks], 1) for name in whole}, whole)


def test_a_query_at_an_anchor_is_predicted_what_the_anchor_is(case):
    operator, (geometry, anchors, condition) = case.build(), case.inputs()
    context = operator.encode(geometry, anchors, condition=condition)
    for branch in case.fields:
        assert_close(operator.decode(context, branch, anchors[branch]), operator.decode(context, branch))


def test_queries_read_everything_they_should(case):
    """Anchors of every branch, and the geometry, have a say in queries; the measure of queries has none."""
    operator, (geometry, anchors, condition) = case.build(), case.inputs()
    moved = [replace(points, position=points.position.requires_grad_()) for points in (geometry, *anchors.values())]
    context = operator.encode(moved[0], dict(zip(anchors, moved[1:], strict=True)), condition=condition)
    for branch in case.fields:
        queries = case.queries(branch)
        found = operator.decode(context, branch, queries)
        gradients = torch.autograd.grad(
            sum(value.square().sum() for value in found.values()),
            [points.position for points in moved],
            retain_graph=True,
            allow_unused=True,
        )
        assert (gradients[0] is None) == ("perceiver" not in case.config.trunk)
        read = [gradient for gradient in gradients if gradient is not None]
        assert all(gradient.any() for gradient in read)
        assert len(read) == len(moved) - (gradients[0] is None)
        assert_close(operator.decode(context, branch, replace(queries, measure=None)), found, rtol=0, atol=0)


def test_decoding_leaves_the_context_as_it_was(case):
    operator, (geometry, anchors, condition) = case.build(), case.inputs()
    context = operator.encode(geometry, anchors, condition=condition)
    before = tree_map(torch.clone, context)
    for branch in case.fields:
        operator.decode(context, branch, case.queries(branch))
    for one, other in zip(tree_leaves(context), tree_leaves(before), strict=True):
        assert torch.equal(one, other)


def test_a_context_is_tensors_that_can_be_saved(case, tmp_path):
    operator, (geometry, anchors, condition) = case.build(), case.inputs()
    with torch.no_grad():
        context = operator.encode(geometry, anchors, condition=condition)
        assert all(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(context))
        torch.save(context, tmp_path / "context.pt")
        again = torch.load(tmp_path / "context.pt", weights_only=True)
        for branch in case.fields:
            queries = case.queries(branch)
            assert_close(
                operator.decode(again, branch, queries), operator.decode(context, branch, queries), rtol=0, atol=0
            )


def test_order_of_anchors_changes_nothing(case):
    operator, (geometry, anchors, condition) = case.build(), case.inputs()
    generator = torch.Generator().manual_seed(5)
    orders = {name: torch.randperm(points.position.shape[1], generator=generator) for name, points in anchors.items()}
    context = operator.encode(geometry, anchors, condition=condition)
    permuted = {name: take(points, orders[name]) for name, points in anchors.items()}
    shuffled = operator.encode(geometry, permuted, condition=condition)
    for branch in case.fields:
        queries = case.queries(branch)
        assert_close(operator.decode(shuffled, branch, queries), operator.decode(context, branch, queries))
        assert_close(
            operator.decode(shuffled, branch),
            {name: value[:, orders[branch]] for name, value in operator.decode(context, branch).items()},
        )


def test_order_of_geometry_points_changes_nothing(case):
    """Supernodes among themselves, and the other points among themselves."""
    operator, (geometry, anchors, condition) = case.build(), case.inputs()
    first = case.config.supernodes or geometry.position.shape[1]
    generator = torch.Generator().manual_seed(6)
    rest = geometry.position.shape[1] - first
    order = torch.cat((torch.randperm(first, generator=generator), first + torch.randperm(rest, generator=generator)))
    context = operator.encode(geometry, anchors, condition=condition)
    shuffled = operator.encode(take(geometry, order), anchors, condition=condition)
    for branch in case.fields:
        queries = case.queries(branch)
        assert_close(operator.decode(shuffled, branch, queries), operator.decode(context, branch, queries))


def test_samples_of_a_batch_do_not_meet(case):
    operator, (geometry, anchors, condition) = case.build(), case.inputs(batch=3)
    context = operator.encode(geometry, anchors, condition=condition)

    def one(points, sample):
        parts = (points.position, points.measure, points.features)
        return Points(*(None if part is None else part[sample : sample + 1] for part in parts))

    for branch in case.fields:
        queries = case.queries(branch, batch=3)
        together = operator.decode(context, branch, queries)
        for sample in range(3):
            alone = operator.encode(
                one(geometry, sample),
                {name: one(points, sample) for name, points in anchors.items()},
                condition=None if condition is None else condition[sample : sample + 1],
            )
            found = operator.decode(alone, branch, one(queries, sample))
            assert_close(found, {name: value[sample : sample + 1] for name, value in together.items()})


def test_packed_samples_of_unequal_size_equal_each_alone(case):
    operator = case.build()
    samples = [case.inputs(seed, more=seed) for seed in range(3)]
    condition = None if samples[0][2] is None else torch.cat([sample[2] for sample in samples])
    context = operator.encode(
        pack([sample[0] for sample in samples]),
        {name: pack([sample[1][name] for sample in samples]) for name in samples[0][1]},
        condition=condition,
    )
    for branch in case.fields:
        queries = [case.queries(branch, seed, count=4 + seed) for seed in range(3)]
        found = operator.decode(context, branch, pack(queries))
        at_anchors = operator.decode(context, branch)
        alone = [operator.encode(geometry, anchors, condition=c) for geometry, anchors, c in samples]
        each = [operator.decode(one, branch, some) for one, some in zip(alone, queries, strict=True)]
        assert_close(found, {name: torch.cat([one[name] for one in each], 1) for name in found})
        each = [operator.decode(one, branch) for one in alone]
        assert_close(at_anchors, {name: torch.cat([one[name] for one in each], 1) for name in found})


def test_packed_queries_read_stacked_anchors(case):
    operator, (geometry, anchors, condition) = case.build(), case.inputs(batch=2)
    context = operator.encode(geometry, anchors, condition=condition)
    for branch in case.fields:
        queries = case.queries(branch, batch=2)
        apart = [
            Points(
                queries.position[i : i + 1], features=None if queries.features is None else queries.features[i : i + 1]
            )
            for i in range(2)
        ]
        found = operator.decode(context, branch, pack(apart))
        expected = operator.decode(context, branch, queries)
        assert_close(found, {name: value.flatten(0, 1)[None] for name, value in expected.items()})


def test_every_parameter_has_a_gradient(case):
    operator, (geometry, anchors, condition) = case.build(), case.inputs()
    context = operator.encode(geometry, anchors, condition=condition)
    loss = sum(
        value.square().sum()
        for branch in case.fields
        for value in operator.decode(context, branch, case.queries(branch)).values()
    )
    loss.backward()
    for name, parameter in operator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_autocast_rounds_features_and_not_positions(case):
    """Far from the origin, rounding a position to eight bits would turn every angle by whole periods."""
    operator, (geometry, anchors, condition) = case.build(torch.float32), case.inputs(dtype=torch.float32)
    far = {name: replace(points, position=points.position + 100) for name, points in anchors.items()}
    for branch in case.fields:
        exact = operator.decode(operator.encode(geometry, far, condition=condition), branch, far[branch])
        with torch.autocast("cpu", torch.bfloat16):
            context = operator.encode(geometry, far, condition=condition)
            rounded = operator.decode(context, branch, far[branch])
        for name, value in rounded.items():
            assert value.dtype == torch.float32
            assert (value - exact[name]).norm() < 0.1 * exact[name].norm()


def test_weights_are_saved_without_sharing_and_load_again(case):
    operator, other = case.build(), case.build()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    state = {name: value.clone() for name, value in operator.state_dict().items()}
    assert len({value.data_ptr() for value in operator.state_dict().values()}) == len(state)
    assert sum(value.numel() for value in state.values()) == sum(value.numel() for value in operator.parameters())
    other.load_state_dict(state)
    geometry, anchors, condition = case.inputs()
    for branch in case.fields:
        found = [one.decode(one.encode(geometry, anchors, condition=condition), branch) for one in (operator, other)]
        assert_close(*found, rtol=0, atol=0)


def test_builds_on_the_meta_device_and_copies(case):
    with torch.device("meta"):
        operator = case.config.build(
            space=case.space, branches=case.fields, features=case.features, condition=case.condition
        )
    assert all(parameter.is_meta for parameter in operator.parameters())
    assert sum(p.numel() for p in copy.deepcopy(case.build()).parameters()) == sum(
        p.numel() for p in operator.parameters()
    )


WEIGHTED = [name for name, case in CASES.items() if case.config.measure]


def halve(points, share):
    """Each point twice at the same place, with parts of its measure."""
    doubled = take(points, torch.arange(2 * points.position.shape[1]) % points.position.shape[1])
    return replace(doubled, measure=torch.cat((points.measure * share, points.measure * (1 - share)), 1))


@pytest.mark.parametrize("name", WEIGHTED)
def test_splitting_points_into_parts_of_their_measure_changes_nothing(name):
    case = replace(CASES[name], config=replace(CASES[name].config, supernodes=None))
    operator, (geometry, anchors, condition) = case.build(), case.inputs()
    context = operator.encode(geometry, anchors, condition=condition)
    split = operator.encode(
        halve(geometry, 0.3), {name: halve(points, 0.6) for name, points in anchors.items()}, condition=condition
    )
    for branch in case.fields:
        queries = case.queries(branch)
        assert_close(operator.decode(split, branch, queries), operator.decode(context, branch, queries))


@pytest.mark.parametrize("name", WEIGHTED)
def test_points_of_measure_zero_are_padding(name):
    case = CASES[name]
    operator, (geometry, anchors, condition) = case.build(), case.inputs()
    context = operator.encode(geometry, anchors, condition=condition)

    def padded(points):
        longer = take(points, torch.arange(points.position.shape[1] + 4) % points.position.shape[1])
        measure = longer.measure.clone()
        measure[:, -4:] = 0
        return replace(longer, position=longer.position.requires_grad_(), measure=measure)

    longer = {name: padded(points) for name, points in anchors.items()}
    longer_geometry = padded(geometry)
    other = operator.encode(longer_geometry, longer, condition=condition)
    for branch in case.fields:
        queries = case.queries(branch)
        found = operator.decode(other, branch, queries)
        assert_close(found, operator.decode(context, branch, queries))
        positions = [points.position for points in (longer_geometry, *longer.values())]
        loss = sum(value.square().sum() for value in found.values())
        for gradient in torch.autograd.grad(loss, positions, retain_graph=True):
            assert gradient.any()
            assert not gradient[:, -4:].any()


@pytest.mark.parametrize("name", WEIGHTED)
def test_units_of_measure_change_nothing(name):
    case = CASES[name]
    operator, (geometry, anchors, condition) = case.build(), case.inputs()
    scaled = {name: replace(points, measure=points.measure * 1e-6) for name, points in anchors.items()}
    for branch in case.fields:
        queries = case.queries(branch)
        assert_close(
            operator.decode(operator.encode(geometry, scaled, condition=condition), branch, queries),
            operator.decode(operator.encode(geometry, anchors, condition=condition), branch, queries),
        )


@pytest.mark.parametrize("wrong", ["branch", "axes", "features", "condition", "samples", "anchors"])
def test_says_what_does_not_fit(wrong):
    case = CASES["default"]
    operator, (geometry, anchors, condition) = case.build(), case.inputs()
    context = operator.encode(geometry, anchors, condition=condition)
    bare = Points(torch.zeros(1, 4, 3, dtype=torch.float64))
    calls = {
        "branch": (lambda: operator.decode(context, "wall", bare), r"\['surface', 'volume'\], got 'wall'"),
        "axes": (lambda: operator.decode(context, "surface", bare.position[..., :2]), "2 axes, expected 3"),
        "features": (lambda: operator.decode(context, "volume", bare), r"must carry 4 features .*'distance': 1.*got 0"),
        "condition": (lambda: operator.encode(geometry, anchors), "expected 2 condition scalars a sample, got 0"),
        "samples": (
            lambda: operator.encode(geometry, anchors, condition=condition.expand(2, -1)),
            "equally many samples, got .*'condition': 2",
        ),
        "anchors": (lambda: operator.encode(geometry, {}, condition=condition), r"anchors of \['surface', 'volume'\]"),
    }
    call, message = calls[wrong]
    with pytest.raises(ValueError, match=message):
        call()


def test_reference_is_an_operator_too():
    operator = ABUPT.reference(branches={"surface": Branch({"pressure": 1}, depth=1)}, supernodes=4)
    points = 1000 * torch.rand(1, 9, 3, generator=torch.Generator().manual_seed(0))
    found = operator.decode(operator.encode(points, {"surface": points}), "surface", points)
    assert found["pressure"].shape == (1, 9, 1)
