"""Real models and data that come as installed packages: for the demo, the grids and the tests."""
