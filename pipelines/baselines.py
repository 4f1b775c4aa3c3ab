"""What costs nothing to predict: the answers that a surrogate has to beat.

Each baseline is a weighted sum of training cases, carried over to the places of a new case by nearest points in the
frame that the operator sees, in non-dimensional form:

    f(x) = Σ_i w_i f_i(nearest point of case i to x),    Σ_i w_i = 1

`nearest_case` has one weight, `mean_field` equal ones. Those of `ridge` follow from regressing every value on
descriptors of the case: a ridge regression is linear in the values, so all of them share the weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.spatial import KDTree

from meshes.stores import Store, StoredCase
from pipelines.specification import Units

NAMES = ("nearest_case", "mean_field", "ridge")

# Points of all training cases together that mean field and ridge keep, and points of the nearest case. 4 million
# points with eight numbers each are 200 MB; a block of a store is a random subset, so nothing but sharpness is lost.
KEPT = 4_000_000
KEPT_NEAREST = 2_000_000
OUTLINE = 512
PENALTIES = np.logspace(-6, 3, 19)
NODES = np.array([[1, 1, 1], [1.8, 0.6, 0.6], [0.6, 1.8, 0.6], [0.6, 0.6, 1.8]]) / 3
NODE_WEIGHTS = np.array([-27, 25, 25, 25]) / 48


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


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points of one branch of a training case, with non-dimensional values."""

    tree: KDTree
    values: dict[str, Float[np.ndarray, "point _component"]]


class Baselines:
    """The training split of a store, ready to answer for other cases.

    Args:
        store: its training split is all that is used.
        units: the frame that shapes and places are compared in.
    """

    def __init__(self, store: Store, units: Units) -> None:
        self.store = store
        self.units = units
        self.names = list(store.splits["training"])
        self._clouds: dict[tuple[str, str], Cloud] = {}
        self._whole: dict[tuple[str, str], Cloud] = {}

    @cached_property
    def described(self) -> list[Descriptors]:
        """Descriptors of the training cases."""
        return [self.describe(self.store.case(name)) for name in self.names]

    def describe(self, case: StoredCase) -> Descriptors:
        """Describe the shape and the condition of a case."""
        from meshes.sampling import sample_surface

        vertices, triangles = case.geometry()
        generator = np.random.default_rng(0)
        position, _ = sample_surface(vertices, triangles, count=OUTLINE, generator=generator)
        outline = self._place(case, position[:, self.units.spec.axes])
        moments = surface_moments(self._place(case, vertices[:, self.units.spec.axes]), vertices, triangles)
        return Descriptors(outline, moments, np.array([case.parameters[name] for name in self.store.conditions]))

    def weights(self, case: StoredCase, branch: str) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, str]]:
        """Weigh the training cases for a new one.

        Returns:
            For each baseline and field of the branch a weight for each training case that has the branch, and for each
            baseline that cannot be had the reason.
        """
        having = self._having(branch)
        fields = list(self.store.fields[branch])
        if not having:
            return {}, dict.fromkeys(NAMES, f"no training case has the branch {branch}")
        count, target = len(having), self.describe(case)
        described = [self.described[self.names.index(name)] for name in having]
        one = np.zeros(count)
        one[nearest(target, described)] = 1.0
        weights = {
            "nearest_case": dict.fromkeys(fields, one),
            "mean_field": dict.fromkeys(fields, np.full(count, 1 / count)),
        }
        if count < 3:
            return weights, {"ridge": f"a regression needs three training cases, there are {count}"}
        features = np.array([np.concatenate([each.condition, each.shape]) for each in described])
        varying = np.ptp(features, axis=0) > 1e-6 * (1 + np.abs(features).max(axis=0))
        if not varying.any():
            return weights, {"ridge": "neither the conditions nor the shape vary over the training cases"}
        new = np.concatenate([target.condition, target.shape])[varying]
        ridge = Ridge(features[:, varying])
        samples = self._samples(branch)
        weights["ridge"] = {name: ridge.weights(new, samples[name]) for name in fields}
        return weights, {}

    def predict(
        self,
        case: StoredCase,
        branch: str,
        position: Shaped[np.ndarray, "point space"],
        weights: Mapping[str, Mapping[str, np.ndarray]],
    ) -> dict[str, dict[str, Float[np.ndarray, "point _component"]]]:
        """Answer for places of a case, in the units of its files.

        Args:
            case: whose places and conditions they are; its fields are not looked at.
            branch: which branch.
            position: places [m].
            weights: from `weights`.

        Returns:
            Values by baseline and field.
        """
        having, place = self._having(branch), self._place(case, position)
        fields = list(self.store.fields[branch])
        answers: dict[str, dict[str, np.ndarray]] = {
            baseline: {name: np.zeros(()) for name in fields} for baseline in weights
        }
        dense = [baseline for baseline in weights if baseline != "nearest_case"]
        for index, name in enumerate(having):
            if dense:
                cloud = self._cloud(name, branch)
                _, closest = cloud.tree.query(place)
                for baseline in dense:
                    for field in fields:
                        part = weights[baseline][field][index] * cloud.values[field][closest]
                        answers[baseline][field] = answers[baseline][field] + part
            if "nearest_case" in weights and weights["nearest_case"][fields[0]][index] == 1:
                cloud = self._cloud(name, branch, whole=True)
                _, closest = cloud.tree.query(place)
                answers["nearest_case"] = {field: cloud.values[field][closest] for field in fields}
        for each in answers.values():
            for field in fields:
                scale, free_stream = case.scale(branch, field)
                each[field] = each[field] * scale + free_stream
        return answers

    # --- Parts

    def _having(self, branch: str) -> list[str]:
        return [name for name in self.names if self.store.case(name).count(branch)]

    def _place(self, case: StoredCase, position: Shaped[np.ndarray, "point space"]) -> np.ndarray:
        frame = self.units.frame(self.units.body(*case.geometry()))
        return self.units.scaled(position, frame).astype(np.float64)

    def _cloud(self, name: str, branch: str, *, whole: bool = False) -> Cloud:
        """Read points of a training case: as many as are kept of every case, or nearly all, of one case at a time."""
        case, key = self.store.case(name), (name, branch)
        few = min(case.count(branch), max(4096, KEPT // len(self.names)))
        many = min(case.count(branch), KEPT_NEAREST)
        if whole and many > few:
            if key not in self._whole:
                self._whole = {key: self._read(case, branch, many)}
            return self._whole[key]
        if key not in self._clouds:
            self._clouds[key] = self._read(case, branch, few)
        return self._clouds[key]

    def _read(self, case: StoredCase, branch: str, count: int) -> Cloud:
        fields = list(self.store.fields[branch])
        arrays = case.read(branch, 0, count, ["position", *fields])
        values = {}
        for field in fields:
            scale, free_stream = case.scale(branch, field)
            values[field] = (arrays[field].astype(np.float64) - free_stream) / scale
        return Cloud(KDTree(self._place(case, arrays["position"])), values)

    def _samples(self, branch: str, count: int = 1024) -> dict[str, Float[np.ndarray, "case _value"]]:
        """Values of every training case at the same few places: what the penalty of the regression is chosen on."""
        having = self._having(branch)
        first = self.store.case(having[0])
        places = first.read(branch, 0, min(count, first.count(branch)), ["position"])["position"]
        place = self._place(first, places)
        rows: dict[str, list[np.ndarray]] = {field: [] for field in self.store.fields[branch]}
        for name in having:
            cloud = self._cloud(name, branch)
            _, closest = cloud.tree.query(place)
            for field, row in rows.items():
                row.append(cloud.values[field][closest].ravel())
        return {field: np.array(row) for field, row in rows.items()}


class Ridge:
    """Ridge regression seen as weights of the training cases.

    With standardised features X, centred, the prediction for x is Σ_i w_i y_i with w = 1/n + xᵀ(XᵀX + λ)⁻¹Xᵀ. The
    penalty λ is the one with the smallest leave-one-out error, (y_i − ŷ_i)/(1 − H_ii) in closed form.
    """

    def __init__(self, features: Float[np.ndarray, "case feature"]) -> None:
        self.mean, self.std = features.mean(axis=0), features.std(axis=0)
        self.left, self.size, self.right = np.linalg.svd((features - self.mean) / self.std, full_matrices=False)

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
        projected = self.right @ ((feature - self.mean) / self.std)
        return 1 / count + self.left @ (self.size / (self.size**2 + penalty) * projected)


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
