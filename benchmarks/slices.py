"""Slices of a million samples, all pairs of 20 attributes: `python -m benchmarks.slices`.

Beside it pandas does what a user would write, pair by pair: the ranks within the classes, grouped
by both columns, with size and mean. It computes neither p-values nor the comparison with the rest
of the classes. Seconds are of the processor. Memory is the highest that allocators hold while
the slices are computed, without the inputs.
"""

import itertools
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from actiontrack.analysis import slices
from actiontrack.store import Store, StoredRecord
from actiontrack.testing import make_history, record_history
from benchmarks.measure import Figure, Spread, in_turns, keep, options, ratios

N_COLUMNS = 20


def attributes(n_samples: int) -> pd.DataFrame:
    """Half of the columns numbers, half of them one of five values."""
    rng = np.random.default_rng(0)
    half = N_COLUMNS // 2
    numbers = {f"number {column}": rng.normal(size=n_samples) for column in range(half)}
    values = {f"value {column}": rng.integers(5, size=n_samples) * 1.0 for column in range(half)}
    return pd.DataFrame({"sample_id": np.arange(n_samples), **numbers, **values})


def grouped_by_pandas(sample_set: slices.Sliced) -> int:
    """Ranks within classes of every attribute and pair, grouped one after the other."""
    frame = pd.DataFrame({one.name: one.codes for one in sample_set.attributes})
    hardness = pd.Series(sample_set.hardness[0])
    frame["rank"] = hardness.groupby(sample_set.of_class.codes).rank(pct=True)
    names = [one.name for one in sample_set.attributes]
    pairs = itertools.combinations(names, 2)
    return sum(
        len(frame.groupby(list(columns))["rank"].agg(["size", "mean"]))
        for columns in [*([name] for name in names), *pairs]
    )


def recorded(n_samples: int, folder: Path) -> StoredRecord:
    """A record of one step of so many samples."""
    store = Store(f"sqlite:///{folder}/mlflow.db")
    with store.run(name="slices") as run:
        history = make_history(n_steps=1, n_samples=n_samples, n_classes=10)
        record_history(history, run.run_id, store, folder / "spool")
    return store.open_record(run.run_id)


def main(argv: Sequence[str]) -> int:
    """Measure time and memory."""
    given = options(__doc__, argv, n_samples=1_000_000, turns=3)
    with TemporaryDirectory() as folder:
        record, frame = recorded(given.n_samples, Path(folder)), attributes(given.n_samples)
        sample_set = slices.sliced([record], frame)
        ways = {
            "ours": lambda: slices.slices(slices.sliced([record], frame)),
            "effects": lambda: slices.slices(sample_set),
            "pandas": lambda: grouped_by_pandas(sample_set),
        }
        seconds = in_turns(ways, turns=given.turns, warm_up=1, clock=time.process_time)
        tracemalloc.start()
        slices.slices(slices.sliced([record], frame))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    n_bytes = frame.memory_usage(deep=True).sum()
    name = f"slices of {given.n_samples:,} samples by {N_COLUMNS} attributes and all pairs"
    memory = peak / n_bytes
    keep(
        Figure(name=f"{name}, with bins", against="nothing", value=Spread.of(seconds["ours"]),
               unit="s", target="<= 10"),
        Figure(name=name, against="pandas, pair by pair: times faster",
               value=ratios(seconds, "pandas", "effects"), target=">= 10"),
        Figure(name=f"{name}, memory", against="the attributes",
               value=Spread(memory, memory, memory), target="<= 2"),
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
