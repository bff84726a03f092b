"""Grids of experiments: models, sets, seeds and methods, run once each, resumed, and tabulated."""
