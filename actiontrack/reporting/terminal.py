"""What a terminal shows after a run."""

from urllib.parse import quote

from actiontrack import analysis
from actiontrack.analysis.sentences import short_number
from actiontrack.errors import redact
from actiontrack.reporting.pictures import has_pixel_classes
from actiontrack.store import ARTIFACT_ROOT, RunInfo, Store, StoredRecord

__all__ = ["describe_run"]


def describe_run(
    store: Store, run: RunInfo, record: str | None = None, *, report: bool = True
) -> str:
    """What a terminal shows after a run: scores per class, hardest samples, where things are.

    Args:
        store: the tracking server.
        run: the run.
        record: which of its records. Default: the usual one.
        report: whether the record has a report to name.
    """
    opened = store.open_record(store.get_run(run.run_id), record)
    scores = analysis.score_frame([opened])
    classes = analysis.class_distributions(scores)[["class", "n", "median", "mean", "q95"]]
    columns = ["sample_id", "class", "action", "final_loss", "aum", "forgetting"]
    hardest = analysis.hardest(scores, 5)
    names = [name for name in columns if name in hardest.columns]
    return "\n\n".join(
        [
            f"Action per class, hardest first ({opened.name}, {opened.unit}):\n"
            + classes.to_string(index=False, float_format=short_number),
            "Hardest samples:\n" + hardest[names].to_string(index=False, float_format=short_number),
            *_pixel_ranking(opened),
            _whereabouts(store, opened, report=report),
        ]
    )


def _pixel_ranking(record: StoredRecord) -> list[str]:
    """Classes by the action of their pixels, where the record tells."""
    if not has_pixel_classes(record):
        return []
    names = ["class", "n_pixels", "mean", "std", "share_pixels", "share_action", "lift"]
    table = analysis.pixel_classes(record)[names]
    heading = f"Action of a pixel ({record.manifest.pixel_loss_name}) per class, hardest first:\n"
    return [heading + table.to_string(index=False, float_format=short_number)]


def _whereabouts(store: Store, record: StoredRecord, *, report: bool) -> str:
    run, uri = record.run, redact(store.tracking_uri)
    root = store.local_root(run)
    base = f"{root or run.artifact_uri}/{ARTIFACT_ROOT}/{record.name}"
    if uri.startswith(("http://", "https://")):
        see = f"{uri.rstrip('/')}/#/experiments/{run.experiment_id}/runs/{run.run_id}"
    else:
        see = (
            f"mlflow ui --backend-store-uri {quote(uri, safe=':/.@*')}   then http://localhost:5000"
        )
    lines = {
        "run": run.run_id,
        "artifacts": base,
        **({"report": f"{base}/report/report.html"} if report else {}),
        "see it": see,
    }
    return "\n".join(f"{name:<10} {value}" for name, value in lines.items())
