"""What a command takes before it does anything: `python -m benchmarks.start`.

Processor time of whole processes, each a new interpreter that runs what the installed script runs:
a help page, a completion script, the TAB key in bash and wrong usage, beside an interpreter that
imports click, the least that any of these needs.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

from benchmarks.measure import Figure, Spread, in_turns, keep, options, ratios

COMMAND = "import sys; from actiontrack.cli import main; main(sys.argv[1:])"
TAB = {
    "_ACTIONTRACK_COMPLETE": "bash_complete",
    "COMP_WORDS": "actiontrack compare --me",
    "COMP_CWORD": "2",
}
LEAST = "import click"


def main(argv: Sequence[str]) -> int:
    """Time every way and print."""
    turns = options(__doc__, argv, turns=15).turns
    commands = {
        "actiontrack --help": _run(COMMAND, "--help"),
        "actiontrack compare --help": _run(COMMAND, "compare", "--help"),
        "actiontrack completion bash": _run(COMMAND, "completion", "bash"),
        "TAB after actiontrack compare --me": _run(COMMAND, environment=TAB),
        "actiontrack with an unknown command": _run(COMMAND, "runz"),
        "import actiontrack": _run("import actiontrack"),
    }
    seconds = in_turns({**commands, LEAST: _run(LEAST)}, turns=turns, clock=_taken_by_children)
    keep(*(_figure(name, seconds) for name in commands))
    return 0


def _figure(name: str, seconds: Mapping[str, Sequence[float]]) -> Figure:
    """Seconds of one way, and the ratio to the least."""
    return Figure(
        name=f"{name}: processor time",
        against="-",
        value=Spread.of(seconds[name]),
        unit="s",
        target="<= 0.1" if name == "import actiontrack" else "<= 0.35",
        details={f"{name}, by {LEAST}": f"{ratios(seconds, name, LEAST)} x"},
    )


def _run(code: str, *words: str, environment: Mapping[str, str] | None = None) -> Callable[[], int]:
    """What runs code in a new interpreter and returns its exit code."""
    command, variables = [sys.executable, "-c", code, *words], os.environ | (environment or {})

    def run() -> int:
        done = subprocess.run(command, env=variables, check=False, capture_output=True)  # noqa: S603
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return done.returncode

    return run


def _taken_by_children() -> float:
    """Seconds of the processor that all processes of this one took until they ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
