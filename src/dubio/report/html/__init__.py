"""The HTML report: an evaluation as one page that needs nothing else."""

from dubio.report.html.page import render, write_report

__all__ = ["render", "write_report"]
