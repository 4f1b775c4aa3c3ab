"""What costs nothing to predict: the answers that a surrogate has to beat.

Each baseline is a weighted sum of training cases, carried over to the places of a new case by nearest points in the
frame that the operator sees, in non-dimensional form:

    f(x) = Σ_i w_i f_i(nearest point of case i to x),    Σ_i w_i = 1

`nearest_case` has one weight, `mean_field` equal ones. Those of `ridge` and `quadratic` follow from regressing every
value on descriptors of the case, the second also on their squares and products: a ridge regression is linear in the
values, so all of them share the weights.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.spatial import KDTree

from meshes.stores import Store, StoredCase
from pipelines.specification import Units

NAMES = ("nearest_case", "mean_field", "ridge", "quadratic")

# Points of all training cases together that dense baselines keep, and points of the nearest case. 4 million points
# with eight numbers each are 200 MB; a block of a store is a random subset, so nothing but sharpness is lost.
KEPT = 4_000_000
KEPT_NEAREST = 2_000_000
OUTLINE = 512
PENALTIES = np.logspace(-6, 3, 19)
NODES = np.array([[1, 1, 1], [1.8, 0.6, 0.6], [0.6, 1.8, 0.6], [0.6, 0.6, 1.8]]) / 3
NODE_WEIGHTS = np.array([-27, 25, 25, 25]) / 48

Weights = dict[str, dict[str, Float[np.ndarray, " case"]]]
Answers = dict[str, dict[str, Float[np.ndarray, "point _component"]]]


@dataclass(frozen=True, eq=False)
class Descriptors:
    """What tells one case from another without its fields.

    Attributes:
        outline: points drawn evenly over the body, as the operator sees them.
        shape: moments of the surface up to the third order, in the same frame.
        condition: the conditions of the operator.
    """

    outline: Float[np.ndarray, "point space"]
    shape: Float[np.ndarray, " moment"]
    condition: Float[np.ndarray, " condition"]

    @property
    def features(self) -> Float[np.ndarray, " feature"]:
        """Numbers that regressions take: conditions, then moments."""
        return np.concatenate([self.condition, self.shape])


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points of one branch of a training case, with non-dimensional values."""

    tree: KDTree
    values: dict[str, Float[np.ndarray, "point _component"]]


class TrainingCases(ABC):
    """Where baselines get the training cases from: a store, or what a checkpoint kept of one."""

    @property
    @abstractmethod
    def described(self) -> Sequence[Descriptors]:
        """Descriptors of every training case."""

    @abstractmethod
    def having(self, branch: str) -> list[int]:
        """Numbers of the training cases that have a branch."""

    @abstractmethod
    def cloud(self, number: int, branch: str, *, whole: bool = False) -> Cloud:
        """Points of a training case: as many as are kept of every case, or nearly all, of one case at a time."""


class StoredCases(TrainingCases):
    """The training split of a store, read as it is needed.

    Args:
        store: its training split is all that is used.
        units: the frame that shapes and places are compared in.
        kept: points of all cases together that are kept in memory.
    """

    def __init__(self, store: Store, units: Units, kept: int = KEPT) -> None:
        self.store, self.units, self.kept = store, units, kept
        self.names = list(store.splits["training"])
        self._clouds: dict[tuple[int, str], Cloud] = {}
        self._whole: dict[tuple[int, str], Cloud] = {}

    @cached_property
    def described(self) -> list[Descriptors]:
        """Descriptors of every training case."""
        return [describe(self.units, *case.geometry(), case.parameters) for case in map(self.store.case, self.names)]

    def having(self, branch: str) -> list[int]:
        """Numbers of the training cases that have a branch."""
        return [number for number, name in enumerate(self.names) if self.store.case(name).count(branch)]

    def cloud(self, number: int, branch: str, *, whole: bool = False) -> Cloud:
        """Read points of a training case: as many as are kept of every case, or nearly all, of one case at a time."""
        case, key = self.store.case(self.names[number]), (number, branch)
        few = min(case.count(branch), max(4096, self.kept // len(self.names)))
        many = min(case.count(branch), KEPT_NEAREST)
        if whole and many > few:
            if key not in self._whole:
                self._whole = {key: self._read(case, branch, many)}
            return self._whole[key]
        if key not in self._clouds:
            self._clouds[key] = self._read(case, branch, few)
        return self._clouds[key]

    def _read(self, case: StoredCase, branch: str, count: int) -> Cloud:
        fields = list(self.units.spec.fields[branch])
        arrays = case.read(branch, 0, count, ["position", *fields])
        values = {}
        for field in fields:
            scale, free_stream = case.scale(branch, field)
            values[field] = (arrays[field].astype(np.float64) - free_stream) / scale
        return Cloud(KDTree(place(self.units, *case.geometry(), arrays["position"])), values)


class Baselines:
    """Training cases, ready to answer for other bodies.

    Args:
        cases: the training cases.
        units: the frame that shapes and places are compared in, and what makes values physical.
        names: the baselines that are wanted.
    """

    def __init__(self, cases: TrainingCases, units: Units, names: Sequence[str] = NAMES) -> None:
        self.cases, self.units, self.names = cases, units, tuple(names)
        self._sampled: dict[str, dict[str, Float[np.ndarray, "case _value"]]] = {}

    def weights(self, target: Descriptors, branch: str) -> tuple[Weights, dict[str, str]]:
        """Weigh the training cases for a new one.

        Returns:
            For each baseline and field of the branch a weight for each training case that has the branch, and for each
            baseline that cannot be had the reason.
        """
        having = self.cases.having(branch)
        fields = list(self.units.spec.fields[branch])
        if not having:
            return {}, dict.fromkeys(self.names, f"no training case has the branch {branch}")
        described = [self.cases.described[number] for number in having]
        weights: Weights = {}
        reasons: dict[str, str] = {}
        for name in self.names:
            if name == "nearest_case":
                one = np.zeros(len(having))
                one[nearest(target, described)] = 1.0
                weights[name] = dict.fromkeys(fields, one)
            elif name == "mean_field":
                weights[name] = dict.fromkeys(fields, np.full(len(having), 1 / len(having)))
            elif len(having) < 3:
                reasons[name] = f"a regression needs three training cases, there are {len(having)}"
            else:
                features = np.array([each.features for each in described])
                varying = np.ptp(features, axis=0) > 1e-6 * (1 + np.abs(features).max(axis=0))
                if not varying.any():
                    reasons[name] = "neither the conditions nor the shape vary over the training cases"
                    continue
                ridge = Ridge(features[:, varying], quadratic=name == "quadratic")
                samples = self._samples(branch)
                new = target.features[varying]
                weights[name] = {field: ridge.weights(new, samples[field]) for field in fields}
        return weights, reasons

    def predict(
        self,
        position: Shaped[np.ndarray, "point space"],
        branch: str,
        weights: Weights,
    ) -> Answers:
        """Answer for places of a case, in non-dimensional form.

        Args:
            position: places in the frame that the operator sees.
            branch: which branch.
            weights: from `weights`.

        Returns:
            Values by baseline and field.
        """
        fields = list(self.units.spec.fields[branch])
        answers: Answers = {baseline: {} for baseline in weights}
        dense = [baseline for baseline in weights if baseline != "nearest_case"]
        for index, number in enumerate(self.cases.having(branch)):
            if dense:
                cloud = self.cases.cloud(number, branch)
                _, closest = cloud.tree.query(position)
                for field in fields:
                    values = cloud.values[field][closest]
                    for baseline in dense:
                        part = weights[baseline][field][index] * values
                        answers[baseline][field] = answers[baseline].get(field, 0.0) + part
            if "nearest_case" in weights and weights["nearest_case"][fields[0]][index] == 1:
                cloud = self.cases.cloud(number, branch, whole=True)
                _, closest = cloud.tree.query(position)
                answers["nearest_case"] = {field: cloud.values[field][closest] for field in fields}
        return answers

    def _samples(self, branch: str, count: int = 1024) -> dict[str, Float[np.ndarray, "case _value"]]:
        """Values of every training case at the same few places: what the penalty of the regression is chosen on."""
        if branch not in self._sampled:
            having = self.cases.having(branch)
            places = self.cases.cloud(having[0], branch).tree.data[:count]
            rows: dict[str, list[np.ndarray]] = {field: [] for field in self.units.spec.fields[branch]}
            for number in having:
                cloud = self.cases.cloud(number, branch)
                _, closest = cloud.tree.query(places)
                for field, row in rows.items():
                    row.append(cloud.values[field][closest].ravel())
            self._sampled[branch] = {field: np.array(row) for field, row in rows.items()}
        return self._sampled[branch]


class Ridge:
    """Ridge regression seen as weights of the training cases.

    With standardised features X, centred, the prediction for x is Σ_i w_i y_i with w = 1/n + xᵀ(XᵀX + λ)⁻¹Xᵀ. The
    penalty λ is the one with the smallest leave-one-out error, (y_i − ŷ_i)/(1 − H_ii) in closed form.

    Args:
        features: of each case; none of them constant.
        quadratic: add squares and products of the standardised features. There are many more of these, so they are
            scaled to have the features' variance all together, and so to be penalised more each.
    """

    def __init__(self, features: Float[np.ndarray, "case feature"], *, quadratic: bool = False) -> None:
        self.mean, self.std = features.mean(axis=0), features.std(axis=0)
        self.quadratic, self.products, self.factor = quadratic, np.zeros(0), 1.0
        standard = (features - self.mean) / self.std
        if quadratic:
            products = _products(standard)
            self.products = products.mean(axis=0)
            size = float(np.square(products - self.products).sum())
            self.factor = float(np.sqrt(standard.size / size)) if size > 0 else 0.0
        self.left, self.size, self.right = np.linalg.svd(self._expand(standard), full_matrices=False)

    def _expand(self, standard: Float[np.ndarray, "case feature"]) -> Float[np.ndarray, "case column"]:
        if not self.quadratic:
            return standard
        return np.concatenate([standard, self.factor * (_products(standard) - self.products)], axis=1)

    def weights(
        self, feature: Float[np.ndarray, " feature"], values: Float[np.ndarray, "case value"]
    ) -> Float[np.ndarray, " case"]:
        """Weigh the training cases for a new case, with the penalty that suits these values."""
        count = len(self.left)
        errors = []
        for penalty in PENALTIES * count:
            hat = 1 / count + (self.left * (self.size**2 / (self.size**2 + penalty))) @ self.left.T
            left_out = (values - hat @ values) / np.maximum(1 - np.diag(hat), 1e-12)[:, None]
            errors.append(float(np.square(left_out).sum()))
        penalty = PENALTIES[int(np.argmin(errors))] * count
        projected = self.right @ self._expand((feature - self.mean)[None] / self.std)[0]
        return 1 / count + self.left @ (self.size / (self.size**2 + penalty) * projected)


def _products(standard: Float[np.ndarray, "case feature"]) -> Float[np.ndarray, "case product"]:
    first, second = np.triu_indices(standard.shape[1])
    return standard[:, first] * standard[:, second]


def describe(
    units: Units,
    vertices: Float[np.ndarray, "vertex 3"],
    triangles: Int[np.ndarray, "triangle 3"],
    parameters: Mapping[str, float],
) -> Descriptors:
    """Describe the shape and the condition of a case."""
    from meshes.sampling import sample_surface

    generator = np.random.default_rng(0)
    position, _ = sample_surface(vertices, triangles, count=OUTLINE, generator=generator)
    outline = place(units, vertices, triangles, position[:, units.spec.axes])
    seen = place(units, vertices, triangles, vertices[:, units.spec.axes])
    condition = np.array([parameters[name] for name in units.spec.conditions])
    return Descriptors(outline, surface_moments(seen, vertices, triangles), condition)


def place(
    units: Units,
    vertices: Float[np.ndarray, "vertex 3"],
    triangles: Int[np.ndarray, "triangle 3"],
    position: Shaped[np.ndarray, "point space"],
) -> Float[np.ndarray, "point space"]:
    """Bring places around a body into the frame that the operator sees."""
    return units.scaled(position, units.frame(units.body(vertices, triangles))).astype(np.float64)


def nearest(target: Descriptors, described: list[Descriptors]) -> int:
    """Find the case of the nearest shape and condition.

    Shapes differ by the symmetric mean distance between their outlines, conditions by their standardised difference;
    each is divided by its median over the candidates, so that neither drowns the other.
    """
    trees = [KDTree(each.outline) for each in described]
    own = KDTree(target.outline)
    shape = np.array(
        [
            np.mean(tree.query(target.outline)[0]) + np.mean(own.query(each.outline)[0])
            for tree, each in zip(trees, described, strict=True)
        ]
    )
    conditions = np.array([each.condition for each in described])
    spread = np.where(np.ptp(conditions, axis=0) > 0, conditions.std(axis=0), np.inf)
    condition = np.linalg.norm((conditions - target.condition) / spread, axis=1)
    return int(np.argmin(_over_median(shape) ** 2 + _over_median(condition) ** 2))


def surface_moments(
    place: Float[np.ndarray, "vertex space"],
    vertices: Float[np.ndarray, "vertex 3"],
    triangles: Int[np.ndarray, "triangle 3"],
) -> Float[np.ndarray, " moment"]:
    """Moments of a surface by area up to the third order: mean, then second and third central moments.

    Exact for plane triangles, so meshing a surface again does not change them.

    Args:
        place: where the vertices stand in the frame and the axes that count.
        vertices: where they stand in space [m], for the areas.
        triangles: rows of three indices into both.

    Source:
        Strang and Fix 1973, An analysis of the finite element method: the four-point rule of degree 3.
    """
    corners = np.asarray(vertices, np.float64)[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    part = np.outer(area / area.sum(), NODE_WEIGHTS).ravel()
    nodes = np.einsum("nc,tci->tni", NODES, np.asarray(place, np.float64)[triangles]).reshape(len(part), -1)
    mean = part @ nodes
    from_mean = nodes - mean
    second = np.einsum("t,ti,tj->ij", part, from_mean, from_mean)
    third = np.einsum("t,ti,tj,tk->ijk", part, from_mean, from_mean, from_mean, optimize=True)
    space = range(len(mean))
    return np.array(
        [
            *mean,
            *(second[i, j] for i in space for j in space if i <= j),
            *(third[i, j, k] for i in space for j in space for k in space if i <= j <= k),
        ]
    )


def _over_median(values: Float[np.ndarray, " case"]) -> Float[np.ndarray, " case"]:
    middle = float(np.median(values))
    return values / middle if middle > 0 else values
