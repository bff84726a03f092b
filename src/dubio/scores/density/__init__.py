"""Scores of how far the features lie from those of the training rows."""
