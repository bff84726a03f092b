"""Figures as people read them: shares in percent, intervals, p values, sizes, the names of methods."""

from dubio.metrics import Metric
from dubio.posteriors.registry import POSTERIORS
from dubio.scores.registry import get_method, is_method


def percent(share: float) -> str:
    """`61.2 %`: one decimal, with a space that does not break."""
    return f"{100 * share:.1f} %"


def budget(risk: float) -> str:
    """`5 %`: as many digits as were given."""
    return f"{100 * risk:.4g} %"


def count(number: int, noun: str) -> str:
    """`1 row`, `1,234 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(stored: int) -> str:
    """Bytes in binary units."""
    value = float(stored)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def interval_of(metric: Metric, pattern: str = "{:.1f}", scale: float = 100) -> str:
    """`a to b`, or why there is no interval."""
    if metric.low is None or metric.high is None:
        return metric.why or "no interval"
    return f"{pattern.format(scale * metric.low)} to {pattern.format(scale * metric.high)}"


def level_of(metric: Metric, pattern: str = "{:.1f}", scale: float = 100) -> str:
    """`95 % interval a to b`, or why there is none."""
    words = interval_of(metric, pattern, scale)
    return words if metric.low is None else f"95 % interval {words}"


def p_value(value: float) -> str:
    """Three digits, or `<0.001`."""
    return "<0.001" if value < 0.0005 else f"{value:.3f}"


def p_words(value: float) -> str:
    """`p = 0.012`, or `p <0.001`."""
    return f"p {p_value(value)}" if value < 0.0005 else f"p = {p_value(value)}"


def is_control(method: str) -> bool:
    """Whether it is a better classifier, shown beside the methods and never chosen."""
    return is_method(method) and get_method(method).control


def title_of(method: str) -> str:
    """A method's name in words, or its key where it is not registered."""
    if is_method(method):
        return get_method(method).title
    return f"{POSTERIORS[method].title}: mean of its samples" if method in POSTERIORS else method


def named(method: str) -> str:
    """A method's name in words with its key behind it, as it stands in commands and files."""
    return f"{title_of(method)} ({method})" if title_of(method) != method else method


def printable(text: str) -> str:
    """The text with control characters and lone surrogates, which no HTML page may hold, replaced by U+FFFD."""
    return "".join(
        c if c in "\t\n" or not (ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000) else "�" for c in text
    )
