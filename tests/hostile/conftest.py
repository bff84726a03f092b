from tiny_classifier import cached, tiny

__all__ = ["cached", "tiny"]
