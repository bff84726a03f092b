"""Scores that are trained to tell errors: heads, probes, and how one of their settings is chosen without luck."""
