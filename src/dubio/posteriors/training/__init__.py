"""Many adapters trained at once: their parameters, the optimiser, checkpoints, records."""
