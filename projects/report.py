"""`mlflow run . -e report`: a report of one tracked run, or of a comparison of several."""

import sys
from collections.abc import Sequence

from actiontrack.analysis import load_records
from actiontrack.reporting import log_report, query_report
from actiontrack.reporting.document import Report
from actiontrack.store import RunInfo, Store
from projects.params.comparing import CompareParams
from projects.params.reading import parse, run_main

__all__ = ["main", "report"]


def main(argv: Sequence[str]) -> None:
    """Report on the runs that the command line chooses, in a run of its own."""
    params = parse(CompareParams, argv)
    store = Store()
    with store.run(name="report") as run:
        report(params, store, run)
        root = store.local_root(run)
    print(f"report     {root or run.artifact_uri}/report/report.html")


def report(params: CompareParams, store: Store, run: RunInfo) -> Report:
    """Make the report and save it in `run`."""
    records = load_records(params.query(run.experiment), store=store)
    document = query_report(
        records,
        score=params.score,
        n_bootstrap=params.bootstrap,
        on_mismatch=params.on_mismatch,
        up_to_step=params.step_limit,
    )
    log_report(store, run.run_id, document, "report")
    return document


if __name__ == "__main__":
    sys.exit(run_main(main))
