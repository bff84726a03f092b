"""The base model: where it lies, what its config says, and that it is a classifier."""
