"""Functions, points or images to tokens."""
