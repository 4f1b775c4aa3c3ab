from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from stokes_store import build_store, experiment

from meshes.geometry.wall_distance import ClosestPoints
from meshes.stores import Store
from pipelines.batches import MirrorConfig, Sampler, SamplingConfig, batches, collate, random_turn
from pipelines.generate.ellipsoid import Ellipsoid, StokesFlow
from pipelines.specification import InputConfig, Units
from pipelines.specify import specify


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    opened = Store(build_store(tmp_path_factory.mktemp("batches") / "store"))
    yield opened
    opened.close()


def make(store, *, queries=96, seed=0, moves=None, symmetry=None, **sampling):
    config = experiment(store.path)
    settings = replace(config.training.sampling, **sampling)
    spec = specify(
        store,
        operator={"kind": "ab_upt"},
        sampling=settings,
        inputs=InputConfig(frame="body"),
        conventions=replace(config.data.conventions, symmetry=symmetry),
        forces=None,
    )
    counts = dict.fromkeys(spec.fields, queries)
    spec = replace(spec, conditions=("speed",), condition_mean=(1.0,), condition_std=(0.5,))
    return Sampler(store, store.splits["training"], Units(spec), queries=counts, seed=seed, **(moves or {}))


def flat(batch):
    tensors = {"geometry": batch.geometry.position, "condition": batch.condition}
    for role in ("anchors", "queries"):
        for branch, points in getattr(batch, role).items():
            tensors |= {
                f"{role}/{branch}/{name}": getattr(points, name) for name in ("position", "measure", "features")
            }
    for role in ("anchor_values", "query_values"):
        for branch, values in getattr(batch, role).items():
            tensors |= {f"{role}/{branch}/{name}": value for name, value in values.items()}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def same(first, second):
    first, second = flat(first), flat(second)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_do_not_depend_on_workers_or_where_they_start(store, workers):
    expected = [collate([make(store).sample(n), make(store).sample(n + 1)]) for n in (0, 2, 4, 6)]
    drawn = batches(make(store), start=0, size=2, workers=workers)
    assert all(same(each, other) for each, other in zip(expected, islice(drawn, 4), strict=True))
    drawn.close()
    resumed = batches(make(store), start=4, size=2, workers=workers)
    assert same(expected[2], next(resumed))
    resumed.close()


def test_every_epoch_sees_each_case_once_in_an_order_of_its_own(store):
    sampler = make(store)
    epochs = [[sampler.sample(4 * epoch + index).case for index in range(4)] for epoch in range(6)]
    assert all(sorted(epoch) == store.splits["training"] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    other = [make(store, seed=1).sample(number).case for number in range(24)]
    assert other != [case for epoch in epochs for case in epoch]


def test_a_case_is_drawn_afresh_in_each_epoch(store):
    sampler = make(store)
    first = {sampler.sample(n).case: sampler.sample(n) for n in range(4)}
    again = {sampler.sample(n).case: sampler.sample(n) for n in range(4, 8)}
    for name, sample in first.items():
        assert not np.array_equal(sample.anchors["surface"]["position"], again[name].anchors["surface"]["position"])


def test_values_belong_to_their_places(store):
    """The standardised values at drawn places are those of the exact flow there."""
    sampler = make(store)
    sample = sampler.sample(0)
    case = store.case(sample.case)
    whole = case.read("volume")
    units = sampler.units
    frame = units.frame(units.body(*case.geometry()))
    scaled = units.scaled(whole["position"], frame)
    rows = {row.tobytes(): number for number, row in enumerate(scaled)}
    at = [rows[row.tobytes()] for row in sample.queries["volume"]["position"]]
    assert len(set(at)) == len(at) == 96
    expected = units.normalise("volume", "velocity", whole["velocity"], case.parameters)[at]
    np.testing.assert_allclose(sample.query_values["volume"]["velocity"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_a_turned_flow_is_the_flow_past_the_turned_body(seed):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.linalg.det(rotation)
    stream, axes = np.array([1.3, 0, 0]), np.array([1.0, 0.6, 0.4])
    turn = random_turn(0, rng)
    sign = np.linalg.det(turn)
    np.testing.assert_allclose(turn @ stream, stream)
    place = 1.5 * rng.normal(size=(20, 3))
    place /= np.minimum(1, np.linalg.norm(place, axis=1, keepdims=True) / 1.2)
    body = Ellipsoid(axes=axes, rotation=rotation, centre=np.zeros(3))
    # An ellipsoid is its own mirror image, so the mirrored body is a rotated one.
    turned = Ellipsoid(axes=axes, rotation=sign * turn @ rotation, centre=np.zeros(3))
    after = StokesFlow(ellipsoid=turned, stream=stream, viscosity=0.7).volume(place @ turn.T)
    before = StokesFlow(ellipsoid=body, stream=stream, viscosity=0.7).volume(place)
    np.testing.assert_allclose(after.velocity, before.velocity @ turn.T, atol=1e-10)
    np.testing.assert_allclose(after.pressure, before.pressure, atol=1e-10)
    np.testing.assert_allclose(after.vorticity, sign * before.vorticity @ turn.T, atol=1e-10)


def test_turning_keeps_what_does_not_depend_on_the_frame(store):
    plain, turned = make(store), make(store, moves={"turn_about": "x"})
    for number in range(4):
        generators = [np.random.default_rng([5, number]) for _ in range(2)]
        random_turn(0, generators[0])  # what `turned` draws first
        first = plain.draw("stokes_00", generators[0])
        second = turned.draw("stokes_00", generators[1])
        for branch in ("surface", "volume"):
            places = first.queries[branch], second.queries[branch]
            np.testing.assert_allclose(places[0]["position"][:, 0], places[1]["position"][:, 0], atol=1e-5)
            lengths = [np.linalg.norm(each["position"], axis=1) for each in places]
            np.testing.assert_allclose(*lengths, rtol=1e-4)
            if branch == "volume":
                np.testing.assert_allclose(places[0]["features"][:, 3:], places[1]["features"][:, 3:], atol=1e-5)
        np.testing.assert_allclose(
            first.query_values["surface"]["pressure"], second.query_values["surface"]["pressure"], atol=1e-5
        )
        assert not np.allclose(first.geometry["position"], second.geometry["position"])


def test_a_shift_moves_all_places_together_and_nothing_else(store):
    plain, shifted = make(store), make(store, moves={"shift": {"x": 0.5, "z": 0.1}})
    moves = []
    for number in range(40):
        generators = [np.random.default_rng([5, number]) for _ in range(2)]
        second = shifted.draw("stokes_00", generators[1])
        generators[0].standard_normal(3)  # what `shifted` draws first
        first = plain.draw("stokes_00", generators[0])
        moved = second.geometry["position"] - first.geometry["position"]
        moves.append(moved[0])
        for before, after in ((first.anchors, second.anchors), (first.queries, second.queries)):
            for branch, places in before.items():
                np.testing.assert_allclose(after[branch]["position"], places["position"] + moved[0], atol=1e-5)
                np.testing.assert_array_equal(after[branch]["features"], places["features"])
        for branch, values in first.query_values.items():
            for name, value in values.items():
                np.testing.assert_array_equal(second.query_values[branch][name], value)
    spread = np.std(moves, axis=0)
    assert spread[1] < 1e-6
    np.testing.assert_allclose(spread[[0, 2]], [0.5, 0.1], rtol=0.4)


def test_a_mirrored_draw_is_of_the_mirrored_flow(store):
    """Places, vectors and conditions change sign as they should; the test of turns shows that such flows are true."""
    mirrored = make(store, moves={"mirror": MirrorConfig(axis="y", conditions=("speed",))})
    plain = make(store)
    vertices, triangles = store.case("stokes_00").geometry()
    seen = set()
    for number in range(8):
        generators = [np.random.default_rng([7, number]) for _ in range(2)]
        flip = generators[0].random() < 0.5  # what `mirrored` draws first
        seen.add(flip)
        first, second = plain.draw("stokes_00", generators[0]), mirrored.draw("stokes_00", generators[1])
        image = np.array([1.0, -1.0, 1.0]) if flip else np.ones(3)
        parts = {"pressure": np.ones(1), "velocity": image, "vorticity": image.prod() * image}
        places = first.queries["volume"]["position"], second.queries["volume"]["position"]
        np.testing.assert_allclose(places[1], places[0] * image, atol=1e-5)
        frame = plain.units.frame(plain.units.body(vertices, triangles))
        on_body = second.geometry["position"] * image * frame.length + np.array(frame.centre)
        assert ClosestPoints(vertices, triangles).query(on_body.astype(np.float64))[0].max() < 1e-5
        for name in first.query_values["volume"]:
            signs = parts[name]
            known = mirrored.units.spec.statistics["volume"][name]
            raw = [
                each.query_values["volume"][name] * np.array(known["std"]) + np.array(known["mean"])
                for each in (first, second)
            ]
            np.testing.assert_allclose(raw[1], raw[0] * signs, atol=1e-5)
        speeds = [float(each.condition[0]) * 0.5 + 1.0 for each in (first, second)]
        assert speeds[1] == pytest.approx(-speeds[0] if flip else speeds[0])
    assert seen == {True, False}


def test_mirrors_that_cannot_be(store):
    with pytest.raises(ValueError, match="names the condition 'angle'; there are: speed"):
        make(store, moves={"mirror": MirrorConfig(axis="y", conditions=("angle",))})
    with pytest.raises(ValueError, match=r"axis is y, which .* mirrors already .*: name another axis, or leave"):
        make(store, symmetry="y", moves={"mirror": MirrorConfig(axis="y")})


def test_noise_on_conditions_leaves_their_mean_and_the_places(store):
    plain, noisy = make(store), make(store, moves={"condition_noise": {"speed": 0.3}})
    first = plain.draw("stokes_00", np.random.default_rng(0))
    draws = [noisy.draw("stokes_00", np.random.default_rng(0))]
    np.testing.assert_array_equal(draws[0].queries["volume"]["position"], first.queries["volume"]["position"])
    draws += [noisy.draw("stokes_00", np.random.default_rng([1, number])) for number in range(200)]
    conditions = np.array([each.condition for each in draws])
    assert conditions.dtype == np.float32
    np.testing.assert_allclose(conditions.mean(0), first.condition, atol=0.07)
    np.testing.assert_allclose(conditions.std(0), 0.3, rtol=0.2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shift": {"x": -1.0}}, "deviations are not negative"),
        ({"condition_noise": {"speed": -0.1}}, "deviations are not negative"),
    ],
)
def test_deviations_that_cannot_be(wrong, message):
    with pytest.raises(ValueError, match=message):
        SamplingConfig(**wrong)


def test_moves_of_what_is_not_there(store):
    with pytest.raises(ValueError, match=r"training\.sampling\.shift names w; the store has x, y, z"):
        make(store, moves={"shift": {"w": 1.0}})
    with pytest.raises(ValueError, match=r"sampling\.condition_noise names sped; the store has speed"):
        make(store, moves={"condition_noise": {"sped": 1.0}})


def test_unequal_samples_are_packed(store):
    sampler = make(store)
    small, large = make(store, queries=10).sample(0), sampler.sample(1)
    batch = collate([small, large])
    queries = batch.queries["volume"]
    assert queries.position.shape == (1, 106, 3)
    assert queries.offsets.tolist() == [0, 10, 106]
    assert batch.anchors["surface"].offsets is None
    assert batch.query_values["volume"]["velocity"].shape == (1, 106, 3)
    np.testing.assert_array_equal(queries.position[0, 10:].numpy(), large.queries["volume"]["position"])


def test_anchors_drawn_by_measure_follow_area_and_carry_none(store):
    sampler = make(store, anchors={"surface": 300, "volume": 100})
    case = store.case("stokes_01")
    small, large = [], []
    for number in range(30):
        sites, _ = sampler.points(case, "surface", 40, np.random.default_rng(number), by_measure=True)
        assert sites.measure is None
        evenly, _ = sampler.points(case, "surface", 40, np.random.default_rng(number), by_measure=False)
        whole = case.read("surface", names=["position", "measure"])
        rows = {row.tobytes(): m for row, m in zip(whole["position"], whole["measure"], strict=True)}
        large += [rows[row.tobytes()] for row in sites.position]
        small += [rows[row.tobytes()] for row in evenly.position]
    measure = case.read("surface", names=["measure"])["measure"]
    assert np.mean(small) == pytest.approx(measure.mean(), rel=0.03)
    assert np.mean(large) == pytest.approx((measure**2).sum() / measure.sum(), rel=0.03)


def test_counts_that_do_not_fit_the_store_are_refused(store):
    with pytest.raises(ValueError, match=r"names the branches surface; the store has surface, volume"):
        make(store, anchors={"surface": 3})
    with pytest.raises(ValueError, match=r"placement names wake; the store has surface, volume"):
        make(store, placement={"wake": "cells"})
    with pytest.raises(ValueError, match=r"sampling.anchors of surface is 0; expected at least 1"):
        SamplingConfig(anchors={"surface": 0})
