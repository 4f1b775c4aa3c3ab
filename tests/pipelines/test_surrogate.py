from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stokes_store import build_store, experiment

from meshes.fields import FieldSpec
from meshes.stores import Store
from pipelines.bodies import measure_body
from pipelines.generate.stokes import icosphere
from pipelines.settings import to_dict
from pipelines.specification import Sites, SurrogateSpec, Units, non_dimensional
from pipelines.specify import pool_template, specify
from pipelines.surrogate import Surrogate, Wall, build_operator


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    opened = Store(build_store(tmp_path_factory.mktemp("surrogate") / "store"))
    yield opened
    opened.close()


def make(store, **inputs):
    config = experiment(store.path)
    spec = specify(
        store,
        operator=to_dict(config.operator),
        sampling=config.training.sampling,
        inputs=replace(config.training.inputs, **inputs),
        conventions=config.data.conventions,
        forces=None,
    )
    return Surrogate(spec, build_operator(spec), template=pool_template(store, Units(spec)))


@pytest.fixture(scope="module")
def surrogate(store):
    return make(store)


@pytest.fixture(scope="module")
def absolute(store):
    return make(store, frame="absolute")


def test_a_specification_reads_back_equal(surrogate):
    assert SurrogateSpec.from_json(surrogate.spec.to_json()) == surrogate.spec


def test_what_never_varied_is_recorded_and_not_standardised(surrogate):
    assert surrogate.spec.conditions == ("speed", "viscosity")
    assert surrogate.spec.constants == {"density": 1.0}
    assert surrogate.needed == {"speed", "viscosity"}


def test_training_conditions_are_standardised(store, surrogate):
    names = store.splits["training"]
    values = np.array([surrogate.standardised(store.case(name).parameters) for name in names])
    np.testing.assert_allclose(values.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(values.std(0), 1, rtol=1e-5)


def test_a_missing_condition_is_named_with_its_range(surrogate, store):
    vertices, triangles = store.case("stokes_00").geometry()
    body = surrogate.body(vertices, triangles)
    with pytest.raises(ValueError, match=r"needs the condition viscosity \(from [\d.]+ to [\d.]+ in training\)"):
        surrogate.complete({"speed": 1.0}, body)
    assert surrogate.complete({"speed": 1.0, "viscosity": 2.0, "density": 3.0}, body)["density"] == 3.0


@pytest.mark.parametrize("field", ["velocity", "vorticity"])
def test_normalising_is_undone_by_denormalising(surrogate, store, field):
    case = store.case("stokes_01")
    values = case.read("volume")[field]
    there = surrogate.normalise("volume", field, values, case.parameters)
    np.testing.assert_allclose(
        surrogate.denormalise("volume", field, there, case.parameters), values, rtol=1e-5, atol=1e-5
    )


def test_training_values_are_standardised(surrogate, store):
    parts = [
        surrogate.normalise("surface", "shear", store.case(name).read("surface")["shear"], store.case(name).parameters)
        for name in store.splits["training"]
    ]
    together = np.concatenate(parts).astype(np.float64)
    np.testing.assert_allclose(together.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(together.std(0), 1, rtol=1e-4)


def places(store, name):
    case = store.case(name)
    surface, volume = case.read("surface"), case.read("volume")
    return {
        "surface": Sites(surface["position"], surface["normal"], measure=surface["measure"]),
        "volume": Sites(volume["position"], volume["normal"], volume["distance"]),
    }


def read(surrogate, store, name, factor=1.0, parameters=None):
    case, rng = store.case(name), np.random.default_rng(3)
    vertices, triangles = case.geometry()
    surface = places(store, name)["surface"]
    surface = replace(surface, position=factor * surface.position)
    anchors = surrogate.anchors({"surface": surface}, factor * vertices, triangles, rng)
    given_ = case.parameters if parameters is None else parameters
    return surrogate.encode(factor * vertices, triangles, anchors, given_, generator=rng)


def test_chunks_change_nothing_and_the_last_one_counts(surrogate, store):
    encoding = read(surrogate, store, "stokes_05")
    sites = places(store, "stokes_05")["volume"]
    whole = surrogate.decode(encoding, "volume", sites)
    parts = surrogate.decode(encoding, "volume", sites, chunk=317)
    for name, values in whole.items():
        assert values.shape == (len(sites), 3)
        np.testing.assert_allclose(parts[name], values, rtol=1e-4, atol=1e-4)
    empty = surrogate.decode(encoding, "volume", sites.take(slice(0, 0)))
    assert empty["velocity"].shape == (0, 3)


class Small(torch.nn.Module):
    """An operator on a device that holds no more than so many queries."""

    def __init__(self, operator, most):
        super().__init__()
        self.operator, self.most, self.tried = operator, most, []

    def encode(self, *args, **kwargs):
        return self.operator.encode(*args, **kwargs)

    def decode(self, context, branch, queries=None):
        self.tried.append(queries.position.shape[1])
        if self.tried[-1] > self.most:
            raise torch.OutOfMemoryError("no")
        return self.operator.decode(context, branch, queries)


def test_chunks_too_large_for_the_memory_are_halved(store, surrogate, caplog):
    sites = places(store, "stokes_05")["volume"]
    small = Surrogate(surrogate.spec, Small(surrogate.operator, 300), template=surrogate.template)
    encoding = read(small, store, "stokes_05")
    whole = surrogate.decode(encoding, "volume", sites)
    for _ in range(2):
        for name, values in small.decode(encoding, "volume", sites, chunk=1000).items():
            np.testing.assert_allclose(values, whole[name], rtol=1e-4, atol=1e-4)
    # Found out once, told once.
    assert [size for size in small.operator.tried if size > 300] == [1000, 500]
    assert small.largest == 250
    assert "a chunk of 1,000 places is too large for the memory" in caplog.text
    assert caplog.text.count("too large") == 1


def test_where_no_chunk_fits_one_sentence_says_so(store, surrogate):
    small = Surrogate(surrogate.spec, Small(surrogate.operator, 100), template=surrogate.template)
    encoding = read(small, store, "stokes_05")
    message = r"a chunk of 128 places does not fit.*: [\d,]+ bytes are free on cpu; .* with --device"
    with pytest.raises(MemoryError, match=message):
        small.decode(encoding, "volume", places(store, "stokes_05")["volume"], chunk=1000)


@pytest.mark.gpu
def test_a_gpu_with_little_memory_takes_smaller_chunks(store):
    fast = make(store)
    surrogate = Surrogate(fast.spec, build_operator(fast.spec), template=fast.template, device="cuda")
    sites = places(store, "stokes_05")["volume"]
    sites = sites.take(np.tile(np.arange(len(sites)), 1 + 2_000_000 // len(sites)))
    encoding = read(surrogate, store, "stokes_05")
    whole = surrogate.decode(encoding, "volume", sites)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (256 << 20)) / total)
    try:
        limited = surrogate.decode(encoding, "volume", sites, chunk=len(sites))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert surrogate.largest is not None
    for name, values in limited.items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-3, atol=1e-3)


def test_anchors_are_predicted_without_being_asked_again(surrogate, store):
    case, rng = store.case("stokes_05"), np.random.default_rng(0)
    anchors = surrogate.anchors({"surface": places(store, "stokes_05")["surface"]}, *case.geometry(), rng)
    encoding = surrogate.encode(*case.geometry(), anchors, case.parameters, generator=rng)
    for branch, sites in anchors.items():
        assert len(sites) == surrogate.spec.anchors[branch]
        kept, asked = surrogate.decode(encoding, branch), surrogate.decode(encoding, branch, sites)
        for name, values in kept.items():
            np.testing.assert_allclose(asked[name], values, rtol=1e-3, atol=1e-4)


def test_in_the_frame_of_the_body_size_does_not_matter(surrogate, store):
    """The same shape twice as large, at a speed that keeps the scales, is the same flow twice as large."""
    small, large = read(surrogate, store, "stokes_05"), read(surrogate, store, "stokes_05", factor=2.0)
    assert large.frame.length == pytest.approx(2 * small.frame.length)
    sites = places(store, "stokes_05")["surface"]
    first = surrogate.decode(small, "surface", sites)
    second = surrogate.decode(large, "surface", replace(sites, position=2 * sites.position))
    # Pressure and stress scale with viscosity * speed / length.
    for name, values in first.items():
        np.testing.assert_allclose(2 * second[name], values, rtol=1e-3, atol=1e-3 * np.abs(values).max())


def test_in_the_absolute_frame_positions_stay(absolute):
    frame = absolute.frame(measure_body(*icosphere(1)))
    assert frame.length == absolute.spec.length
    position = np.array([[3.0, -1.0, 2.0]])
    back = absolute.scaled(position, frame).astype(np.float64) * frame.length + frame.centre
    np.testing.assert_allclose(back, position, rtol=1e-6)


@pytest.mark.parametrize("frame", ["body", "absolute"])
def test_anchors_keep_their_wall_distance_on_a_new_body(store, request, frame):
    """Transported near the wall, training points have the distances they had, and none falls inside."""
    surrogate = request.getfixturevalue("surrogate" if frame == "body" else "absolute")
    sphere, triangles = icosphere(3)
    vertices = 0.8 * sphere
    body_frame = surrogate.frame(surrogate.body(vertices, triangles))
    sites = surrogate.transport("volume", vertices, triangles, body_frame, np.random.default_rng(0))
    assert len(sites) == 64
    radius = np.linalg.norm(sites.position, axis=1)
    assert (radius > 0.79).all()
    np.testing.assert_allclose(sites.distance, radius - 0.8, atol=0.01)
    aligned = (sites.normal * sites.position).sum(1) / radius
    np.testing.assert_allclose(aligned, 1, atol=1e-2)
    template = surrogate.template["volume"][:, 3] * body_frame.length
    assert (sites.distance < 0.1).mean() == pytest.approx((template < 0.1).mean(), abs=0.2)


def test_a_body_that_fills_the_template_is_told(surrogate):
    sphere, triangles = icosphere(2)
    frame = surrogate.frame(measure_body(sphere, triangles))
    with pytest.raises(ValueError, match="is it far larger than the training bodies, or in other units"):
        surrogate.transport("volume", 1000 * sphere, triangles, frame, np.random.default_rng(0))


def test_the_generator_alone_decides_anchors(surrogate, store):
    case = store.case("stokes_04")
    surface = {"surface": places(store, "stokes_04")["surface"]}
    first, again, other = (
        surrogate.anchors(surface, *case.geometry(), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    for branch in first:
        np.testing.assert_array_equal(first[branch].position, again[branch].position)
        assert not np.array_equal(first[branch].position, other[branch].position)


def test_missing_features_are_named(surrogate, store):
    encoding = read(surrogate, store, "stokes_05")
    with pytest.raises(ValueError, match="'volume' was trained with the wall distance of each point"):
        surrogate.decode(encoding, "volume", Sites(np.ones((2, 3)), normal=np.ones((2, 3))))


def test_a_wall_is_seen_from_both_sides():
    vertices, triangles = icosphere(4)
    wall = Wall(vertices, triangles, [0, 1, 2])
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(50, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    radius = np.concatenate([rng.uniform(1.05, 5, 25), rng.uniform(0.5, 0.95, 25)])
    distance, away, inside = wall.look(radius[:, None] * direction)
    np.testing.assert_allclose(distance, np.abs(radius - 1), atol=0.01)
    np.testing.assert_array_equal(inside, radius < 1)
    np.testing.assert_allclose((away * direction).sum(1), 1, atol=0.01)


def test_on_the_wall_the_direction_is_the_normal():
    vertices, triangles = icosphere(1)
    centres = vertices[triangles].mean(1)
    distance, direction, inside = Wall(vertices, triangles, [0, 1, 2]).look(centres)
    np.testing.assert_allclose(distance, 0, atol=1e-12)
    assert not inside.any()
    normal = np.cross(*(vertices[triangles][:, k] - vertices[triangles][:, 0] for k in (1, 2)))
    np.testing.assert_allclose(direction, normal / np.linalg.norm(normal, axis=1, keepdims=True), atol=1e-9)


def test_a_strip_is_a_wall_in_the_plane():
    """A square, one cell thick, whose corners are sharp: places behind an edge are outside."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    vertices = np.concatenate([np.c_[corners, np.zeros(4)], np.c_[corners, np.full(4, 0.1)]])
    triangles = np.array(
        [[k, (k + 1) % 4, 4 + k] for k in range(4)] + [[(k + 1) % 4, 4 + (k + 1) % 4, 4 + k] for k in range(4)]
    )
    place = np.array([[1.5, 0.5], [1.3, 1.4], [0.5, 0.9], [-0.3, -0.4]])
    distance, direction, inside = Wall(vertices, triangles, [0, 1]).look(place)
    np.testing.assert_allclose(distance, [0.5, 0.5, 0.1, 0.5], atol=1e-9)
    np.testing.assert_array_equal(inside, [False, False, True, False])
    np.testing.assert_allclose(direction, [[1, 0], [0.6, 0.8], [0, 1], [-0.6, -0.8]], atol=1e-9)


@given(
    factor=st.floats(1e-3, 1e3),
    shift=st.tuples(*[st.floats(-10, 10)] * 3),
    angle=st.floats(-3, 3),
)
def test_the_measure_of_a_body_follows_its_motion(factor, shift, angle):
    sphere, triangles = icosphere(1)
    vertices = sphere * [1.0, 0.5, 0.25]
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    before = measure_body(vertices, triangles)
    after = measure_body(factor * vertices @ turn.T + np.array(shift), triangles)
    assert after.length == pytest.approx(factor * before.length, rel=1e-6, abs=1e-9 * np.abs(shift).max())
    np.testing.assert_allclose(after.centre, factor * turn @ before.centre + shift, atol=1e-6 * (factor + 10))


def test_length_is_the_diagonal_of_a_sphere_and_half_a_body_counts_as_whole():
    vertices, triangles = icosphere(3)
    assert measure_body(vertices, triangles).length == pytest.approx(2 * np.sqrt(3), rel=1e-2)
    half = triangles[vertices[triangles][:, :, 1].min(1) > -1e-9]
    body = measure_body(vertices, half, symmetry=1)
    whole = measure_body(vertices, triangles, symmetry=1)
    assert body.length == pytest.approx(whole.length, rel=1e-2)
    np.testing.assert_allclose(body.lower[1], -body.upper[1])
    with pytest.raises(ValueError, match="of 1 triangles has no area"):
        measure_body(np.zeros((3, 3)), np.array([[0, 1, 2]]))


def test_scales_must_be_positive_and_free_streams_complete():
    with pytest.raises(ValueError, match=r"the scale 'speed' of the array 'p' is 0\.0; it must be positive"):
        non_dimensional(FieldSpec(array="p", unit="Pa", scale="speed"), 1, {"speed": 0.0})
    with pytest.raises(ValueError, match="free_stream of the array 'U' has 1 components, the field 3"):
        non_dimensional(FieldSpec(array="U", unit="m/s", free_stream=("1",)), 3, {})


def test_a_store_of_other_scales_is_refused(store, monkeypatch):
    other = {**store.fields, "surface": dict(store.fields["surface"])}
    other["surface"]["pressure"] = replace(other["surface"]["pressure"], scale="3 * speed")
    monkeypatch.setattr(store, "fields", other)
    with pytest.raises(ValueError, match=r"was prepared with scale [\d.]+ and free"):
        make(store)


def test_the_box_tells_where_a_place_is_from_the_body_whatever_the_body(store):
    """Places as far behind, beside and before two bodies carry the same features on that side."""
    units = make(store, frame="absolute", features=("box",))
    vertices, triangles = icosphere(1)
    short, long = (
        units.frame(units.body(vertices * stretch, triangles)) for stretch in ([1.0, 1.0, 1.0], [3.0, 1.0, 1.0])
    )
    outside = np.array([[0.2, 0.0, 0.5], [1.7, -0.3, 0.1], [0.01, 2.0, -1.0]])

    def features(frame, corner):
        sites = Sites(np.asarray(corner) + outside)
        return units.arrays("volume", sites, frame)["features"].reshape(len(outside), -1, 2, 3)

    behind = [features(frame, [frame.upper[0], 0.0, 0.0])[:, :, 1] for frame in (short, long)]
    np.testing.assert_allclose(*behind, atol=1e-6)
    assert (behind[0][..., 0] > 0).all()
    before = [features(frame, [frame.lower[0], 0.0, 0.0])[:, :, 0] for frame in (short, long)]
    np.testing.assert_allclose(*before, atol=1e-6)
    # From the far side the long body differs, at the greatest width most.
    assert (
        np.abs(features(short, [short.upper[0], 0, 0]) - features(long, [long.upper[0], 0, 0]))[:, 0, 0, 0].min() > 0.01
    )
    assert units.spec.feature_widths()["volume"] == {"box": 18}
