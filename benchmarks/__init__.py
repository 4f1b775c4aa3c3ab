"""Timings, each beside the floor that bounds it, measured in the same run."""
