"""Scores of stored cases: the same anchors and points each time, on the path that predictions take."""

import numpy as np

from pipelines.batches import Sampler, check_generator
from pipelines.specification import Sites
from pipelines.surrogate import Surrogate


def validate(
    surrogate: Surrogate, sampler: Sampler, *, points: int | None = None, split: str = "validation"
) -> dict[str, float]:
    """Score a surrogate on the cases of a split, its anchors drawn from the cells of each case as in training.

    Args:
        surrogate: operator and specification.
        sampler: draws anchors from the store's cases; its seed decides them.
        points: how many points of each branch and case are scored; they are stored shuffled, so the first will do.
            `None` scores all.
        split: which cases.

    Returns:
        For each field the relative L2 error in physical units, mean over the cases; and `SPLIT/score`, the mean
        over fields and cases of the relative L2 error of standardised values. There, a free stream or a mean pressure
        does not hide errors, and every field counts alike.
    """
    store, spec = sampler.store, surrogate.spec
    errors: dict[str, list[float]] = {}
    scores = []
    for number, name in enumerate(store.splits[split]):
        case, generator = store.case(name), check_generator(sampler.seed, number)
        vertices, triangles = sampler.body(name)
        anchors: dict[str, Sites] = {}
        for branch, count in spec.anchors.items():
            by_measure = spec.placement[branch] == "measure"
            anchors[branch], _ = sampler.points(case, branch, count, generator, by_measure=by_measure)
        encoding = surrogate.encode(vertices, triangles, anchors, case.parameters, generator=generator)
        for branch, fields in spec.fields.items():
            block = case.read(branch, 0, min(points or case.count(branch), case.count(branch)))
            sites = Sites(block["position"], block.get("normal"), block.get("distance"))
            predicted = surrogate.decode(encoding, branch, sites)
            for field in fields:
                truth = block[field].astype(np.float64)
                error = relative(predicted[field], truth)
                errors.setdefault(f"{split}/{branch}_{field}", []).append(error)
                standardised = [
                    surrogate.normalise(branch, field, values, encoding.parameters)
                    for values in (predicted[field], truth)
                ]
                scores.append(relative(*standardised))
    return {f"{split}/score": float(np.mean(scores))} | {name: float(np.mean(each)) for name, each in errors.items()}


def relative(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Compute the L2 error of values relative to their own size, in float64."""
    truth = truth.astype(np.float64)
    size = np.linalg.norm(truth)
    return float(np.linalg.norm(predicted - truth) / max(size, np.finfo(np.float64).tiny))
