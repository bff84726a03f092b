"""Scores of a posterior's samples."""
