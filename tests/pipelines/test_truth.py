"""A mismatch with reported coefficients names what went wrong, for each thing that goes wrong."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.forces import Conventions, ForceConfig, coefficients, integrate
from pipelines.truth import compare

PARAMETERS = {"speed": 20.0}
RIGHT = Conventions(pressure="kinematic", shear="on_fluid", density=1.2)
CONFIG = ForceConfig(reference_area=0.04, tolerance=1e-4)
REPORTED = ("drag_coefficient", "lift_coefficient")


def forces(conventions: Conventions):
    rng = np.random.default_rng(0)
    return integrate(
        rng.normal(size=(40, 3)) * 1e-2,
        200 * rng.normal(size=40),
        20 + rng.normal(size=(40, 3)),
        conventions,
        PARAMETERS,
    )


def reported() -> dict[str, float]:
    right = coefficients(forces(RIGHT), CONFIG, PARAMETERS)
    return {name: getattr(right, name) for name in REPORTED}


def test_agreement_is_silent():
    told, mismatch = compare(forces(RIGHT), CONFIG, PARAMETERS, reported())
    assert mismatch is None
    assert max(abs(value) for value in told["difference"].values()) < 1e-12
    assert told["reported"] == reported()


@pytest.mark.parametrize(
    ("conventions", "config", "cause"),
    [
        (replace(RIGHT, shear="on_body"), CONFIG, "the wall shear stress has the other sign"),
        (replace(RIGHT, pressure="gauge"), CONFIG, "pressure and shear are over density"),
        (RIGHT, replace(CONFIG, reference_area=0.08), "the reference area is twice that of the solver"),
        (RIGHT, replace(CONFIG, reference_area=0.02), "the reference area is half that of the solver"),
        (RIGHT, replace(CONFIG, drag_direction=(-1.0, 0.0, 0.0), lift_direction=(0.0, 0.0, -1.0)), "drag and lift"),
        (replace(RIGHT, shear="on_body"), replace(CONFIG, reference_area=0.02), "half that .* and the wall"),
        (RIGHT, replace(CONFIG, reference_area=0.031), "no single sign, density or half area explains it"),
        (RIGHT, replace(CONFIG, reference_area=0.0408), "close, so likely fields and coefficients are of different"),
    ],
)  # fmt: skip
def test_the_likely_cause_is_named(conventions, config, cause):
    _, mismatch = compare(forces(conventions), config, PARAMETERS, reported())
    assert mismatch is not None
    with pytest.raises(ValueError, match=cause):
        raise ValueError(mismatch)
    assert mismatch.startswith("drag_coefficient is ")


def test_a_given_reference_force_needs_no_area():
    right = coefficients(forces(RIGHT), CONFIG, PARAMETERS)
    config = replace(CONFIG, reference_force=right.reference_force)
    assert compare(forces(RIGHT), config, PARAMETERS, reported())[1] is None
    _, mismatch = compare(forces(replace(RIGHT, shear="on_body")), config, PARAMETERS, reported())
    assert mismatch is not None
    assert "other sign" in mismatch
