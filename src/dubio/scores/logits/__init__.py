"""Scores of the logits alone: nothing is learned, or one temperature."""
