"""Sections on where numbers come from: data, runs, and what cannot be compared."""

from collections.abc import Sequence

import pandas as pd

from actiontrack import analysis
from actiontrack.analysis.sentences import count_runs
from actiontrack.reporting.document import Section
from actiontrack.store import StoredRecord

__all__ = ["data_sections", "incomparable_section", "run_section"]


def run_section(record: StoredRecord) -> Section:
    """What was recorded of one run, on which data."""
    return Section(
        heading="Data and run", text="What was recorded, and on which data.", frame=_facts(record)
    )


def data_sections(records: Sequence[StoredRecord]) -> list[Section]:
    """The data and the runs of a comparison, a row each."""
    frame = analysis.runs_frame(records)
    data = pd.DataFrame([_data(record) for record in records])
    data.insert(1, "dataset", frame["dataset"])
    keys = [name for name in data.columns if name != "run_id"]
    grouped = data.groupby(keys, sort=False, dropna=False)["run_id"]
    distinct = grouped.size().rename("n_runs").reset_index()
    frame.insert(
        list(frame.columns).index("record") + 1,
        "mode",
        [record.manifest.mode for record in records],
    )
    frame["untrained_state"] = [record.manifest.has_initial_state for record in records]
    others = [", ".join(_other_records(record)) for record in records]
    text = (
        f"The {count_runs(len(records))}, with seed, loss, Δn and mode (probe: an evaluation pass "
        "after each epoch; inline: the training batches)."
    )
    if any(others):
        frame["other_records"] = others
        text += " Runs with other records are reported by those with --record NAME."
    runs = Section(
        heading="Data and runs",
        text=text,
        frame=frame,
    )
    if len(distinct) == 1:  # one set of data reads better downwards
        distinct = distinct.T.reset_index().set_axis(["what", "value"], axis=1).astype(str)
    digests = Section(
        heading="Data",
        text="The sha256 digests of ids, labels and inputs: runs with equal digests have seen the "
        "same samples. Inputs are unknown where the recorder was given none.",
        frame=distinct,
        level=3,
    )
    return [runs, digests]


def _other_records(record: StoredRecord) -> list[str]:
    """Names of the records that the run holds beside this one, such as that of another split."""
    return [name for name in record.run.records if name != record.name]


def incomparable_section(record: StoredRecord, left_out: pd.DataFrame | None = None) -> Section:
    """What the numbers of a record must not be compared with, and which runs were left out."""
    manifest = record.manifest
    initial = "with" if manifest.has_initial_state else "without"
    mode = (
        "measured by an evaluation pass after each epoch"
        if manifest.mode == "probe"
        else "those of the training batches as they went by"
    )
    text = (
        f"These numbers are sums of {manifest.loss_name} over {manifest.n_steps} steps, {initial} "
        f"the untrained state, Δn counted by {manifest.delta_kind}, {mode}, on "
        f"{manifest.n_samples} samples of {manifest.split}. Runs that differ in one of these are "
        "not comparable: more steps or a longer Δn give larger sums, another loss has another "
        "unit, a loss of a training batch is measured before the model has seen the epoch's other "
        "batches and under augmentation, and a sample is hard relative to what else was learnt."
    )
    if left_out is None or left_out.empty:
        return Section(heading="What is not comparable", text=text)
    count = count_runs(len(left_out))
    verb = "was" if len(left_out) == 1 else "were"
    return Section(
        heading="What is not comparable",
        text=f"{text}\n\n{count.capitalize()} of the query {verb} left out for such a reason.",
        frame=left_out.drop(columns="run_name"),
        caption="Left out, with what differs from the runs of this report.",
    )


def _facts(record: StoredRecord) -> pd.DataFrame:
    manifest, run = record.manifest, record.run
    row = analysis.runs_frame([record]).iloc[0]
    facts = {
        "run": run.run_id,
        "name": run.name,
        "experiment": run.experiment,
        "model": analysis.model_of(record),
        "dataset": row["dataset"] or "not named",
        "seed": row["seed"] or "not recorded",
        "split and mode": f"{manifest.split}, {manifest.mode}",
        "loss": manifest.loss_name,
        "Δn": manifest.delta_kind,
        "untrained state n = 0": "included" if manifest.has_initial_state else "not included",
        "steps": str(manifest.n_steps),
        "samples": str(manifest.n_samples),
        "classes": str(len(manifest.class_names)) if manifest.class_names else "not named",
        "losses that are not finite": str(manifest.totals.n_nonfinite),
        "duplicates dropped": str(manifest.totals.n_duplicates),
        "state": manifest.status,
    }
    optional = {
        "loss of a pixel": manifest.pixel_loss_name,
        "void": manifest.void,
        "parts of the loss": ", ".join(manifest.components),
        "other records of the run": ", ".join(_other_records(record)),
    }
    facts |= {what: value for what, value in optional.items() if value}
    facts |= {f"digest of {part}": value or "unknown" for part, value in manifest.digests.items()}
    facts |= {"digest of the record": record.digest, "written by": manifest.writer or "unknown"}
    return pd.DataFrame({"what": list(facts), "value": list(facts.values())})


def _data(record: StoredRecord) -> dict[str, object]:
    manifest = record.manifest
    return {
        "run_id": record.run.run_id,
        "split": manifest.split,
        "n_samples": manifest.n_samples,
        "n_classes": len(manifest.class_names),
        **{part: value or "unknown" for part, value in manifest.digests.items()},
    }
