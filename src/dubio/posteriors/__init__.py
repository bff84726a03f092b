"""Posteriors over adapters: each yields an `AdapterStack`, and one engine trains and evaluates stacks on one base."""
