"""``epam-extract bench``: how fast this machine is, stage by stage and end to end."""

from .run import report_json, run_bench

__all__ = ["report_json", "run_bench"]
