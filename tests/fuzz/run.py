"""Coverage-guided fuzzing of every surface that reads what others wrote.

    python tests/fuzz/run.py                        # every target, a million inputs in all
    python tests/fuzz/run.py --total 50000          # fewer
    python tests/fuzz/run.py --target files --runs 10000
    python tests/fuzz/run.py --target files --input finds/files-….bin   # one input again

Each target runs in a process of its own, one after the other. An input that breaks the contract of
`fuzz_contract.check` is kept in the folder `finds`, and the exit code is 1. Needs the extra `fuzz`.
"""

import argparse
import contextlib
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]


def main():
    """Parse the words, then fuzz one target here or all in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--total", type=int, default=1_000_000, help="inputs of all targets")
    parser.add_argument("--target", help="only this one")
    parser.add_argument("--runs", type=int, help="inputs of that target")
    parser.add_argument("--input", type=Path, help="feed this file once, without the fuzzer")
    parser.add_argument("--finds", type=Path, default=Path("finds"), help="where finds are kept")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.finds = options.finds.absolute()
    if options.here or options.input:
        fuzz(options)
        return 0
    return every(options)


def every(options):
    """Fuzz the targets one after the other and print a table."""
    from fuzz_targets import TARGETS

    if options.target:
        wanted = {options.target: options.runs or options.total}
    else:
        shares = sum(each.share for each in TARGETS.values())
        wanted = {name: -(-options.total * each.share // shares) for name, each in TARGETS.items()}
    options.finds.mkdir(exist_ok=True)
    done, found = 0, 0
    print(f"{'target':<16} {'inputs':>9} {'seconds':>8} {'per s':>7}  finds", flush=True)
    for name, runs in wanted.items():
        start = time.monotonic()
        inputs, finds = one(name, runs, options)
        seconds = time.monotonic() - start
        done, found = done + inputs, found + len(finds)
        print(f"{name:<16} {inputs:>9,} {seconds:>8.0f} {inputs / seconds:>7.0f}  ", end="")
        print(", ".join(finds) or "-", flush=True)
    print(f"{'all':<16} {done:>9,}                   {found}", flush=True)
    return 1 if found or done < sum(wanted.values()) else 0


def one(name, runs, options):
    """Fuzz one target until its inputs are spent, going on after a find; inputs and finds."""
    inputs, finds, seed = 0, [], options.seed
    while inputs < runs and len(finds) < 10:
        command = [sys.executable, __file__, "--here", "--target", name]
        command += [
            "--runs",
            str(runs - inputs),
            "--seed",
            str(seed),
            "--finds",
            str(options.finds),
        ]
        log = options.finds / f"{name}.log"
        with log.open("ab") as file:
            file.truncate(0)
            subprocess.run(command, stdout=file, stderr=file, check=False)
        said = log.read_text(errors="replace")
        counted = [int(each) for each in re.findall(r"^#(\d+)", said, re.MULTILINE)]
        inputs += max([1, *counted])
        kept = re.findall(r"Test unit written to (\S+)", said)
        if kept:
            finds += [Path(each).name for each in kept]
            print(said[-3000:], file=sys.stderr)
        elif "DONE" not in said:
            print(said[-3000:], file=sys.stderr)
            return inputs, [*finds, f"ended early, see {log}"]
        seed += 1
    return inputs, finds


def fuzz(options):
    """Fuzz one target in this process; libFuzzer ends it."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.disable()
    scratch = contextlib.ExitStack()
    if options.input:
        with _target(options.target, scratch) as (target, check):
            check(target, options.input.read_bytes())
        return
    import atheris

    # What reads; instrumenting pandas or MLflow would cost more than it finds.
    with atheris.instrument_imports(
        include=["actiontrack", "projects"], enable_loader_override=False
    ):
        import fuzz_targets  # noqa: F401
    with _target(options.target, scratch) as (target, check):
        corpus = Path(scratch.enter_context(tempfile.TemporaryDirectory()))
        largest = 0
        for place, each in enumerate(target.seeds()):
            (corpus / f"seed-{place}").write_bytes(each)
            largest = max(largest, len(each))
        words = [
            sys.argv[0], str(corpus), f"-runs={options.runs}", f"-seed={options.seed}",
            "-timeout=60", "-rss_limit_mb=6000", f"-max_len={largest + 4096}",
            f"-artifact_prefix={options.finds / options.target}-", "-print_final_stats=1",
        ]  # fmt: skip
        atheris.Setup(words, lambda data: check(target, data))
        atheris.Fuzz()


@contextlib.contextmanager
def _target(name, scratch):
    from fuzz_targets import TARGETS, check, scratch_root, surround

    folder = scratch.enter_context(tempfile.TemporaryDirectory(dir=scratch_root()))
    surround(Path(folder), os.environ.__setitem__, setattr, os.chdir)
    with scratch:
        yield TARGETS[name](Path(folder)), check


if __name__ == "__main__":
    sys.exit(main())
