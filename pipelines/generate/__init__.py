"""Raw cases from families of flows, laid out as a solver would leave them."""

from pipelines.generate.stokes import generate_stokes

__all__ = ["FAMILIES", "generate_stokes"]

FAMILIES = {"stokes": generate_stokes}
