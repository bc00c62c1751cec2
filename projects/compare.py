"""`mlflow run . -e compare`: correlate a score between tracked runs (section 4.6, Table 1)."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from actiontrack.analysis import Comparison, compare_runs, load_records
from actiontrack.reporting import comparison_report, describe_comparison, log_report
from actiontrack.store import RunInfo, Store, StoredRecord
from projects.params.comparing import CompareParams
from projects.params.reading import parse, run_main

__all__ = ["compare", "compare_as_asked", "main"]


def main(argv: Sequence[str]) -> None:
    """Compare the runs that the command line chooses, in a run of their own."""
    params = parse(CompareParams, argv)
    store = Store()
    with store.run(name="compare") as run:
        comparison = compare(params, store, run)
    print(comparison.table().round(3).to_string())
    print(describe_comparison(comparison))


def compare(params: CompareParams, store: Store, run: RunInfo) -> Comparison:
    """Compare runs and save tables, figures and the report in `run`."""
    records = load_records(params.query(run.experiment), store=store)
    comparison = compare_as_asked(params, records)
    _save(store, run, records, comparison)
    return comparison


def compare_as_asked(params: CompareParams, records: Sequence[StoredRecord]) -> Comparison:
    """Correlate the score that the parameters name, with their options."""
    return compare_runs(
        records,
        score=params.score,
        n_bootstrap=params.bootstrap,
        on_mismatch=params.on_mismatch,
        up_to_step=params.step_limit,
    )


def _save(
    store: Store, run: RunInfo, records: Sequence[StoredRecord], comparison: Comparison
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for path in comparison.save(Path(folder)):
            store.upload(run.run_id, path, "compare/tables")
    log_report(store, run.run_id, comparison_report(records, comparison), "compare")


if __name__ == "__main__":
    sys.exit(run_main(main))
