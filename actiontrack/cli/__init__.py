"""The command line: `actiontrack COMMAND`, on the runs of a tracking server.

Exit codes: 0 success, 2 wrong usage, and those of `actiontrack.errors`. Tables go to stdout,
everything else to stderr, so that output can be piped. One module per group of commands; importing
it adds its commands to `cli`. A module imports what its options need, and a command the rest when
it runs: help pages, completion and wrong usage answer at once.
"""

from actiontrack.cli import (
    comparing,
    demo,
    pictures,
    reports,
    reviewing,
    serving,
    slicing,
    tables,
    upkeep,
)
from actiontrack.cli.root import cli, main

__all__ = [
    "cli",
    "comparing",
    "demo",
    "main",
    "pictures",
    "reports",
    "reviewing",
    "serving",
    "slicing",
    "tables",
    "upkeep",
]
