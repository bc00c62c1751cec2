"""Writing and reading a record without a recorder."""

import json

import numpy as np
from helpers import message

from actiontrack.record.disk import file_entry
from actiontrack.record.losses import read_history, write_losses
from actiontrack.record.manifest import (
    Manifest,
    manifest_checksum,
    read_manifest,
    write_manifest,
)
from actiontrack.record.paths import losses_path
from actiontrack.record.samples import Samples, write_samples
from actiontrack.record.steps import Block, StepEntry, StepTotals
from actiontrack.record.vectors import (
    read_scores,
    write_scores,
)
from actiontrack.scores import score_table

#: Small, so that every record has several files of losses.
STEPS_OF_A_FILE = 2
#: The files of losses of a record of three steps.
FIRST, LAST = losses_path(1), losses_path(2)


def write(folder, history, **changes):
    """Write a history as a complete record and return its manifest."""
    samples = Samples(
        sample_ids=history.sample_ids, labels=history.labels, true_labels=history.true_labels
    )
    files = {"samples.parquet": write_samples(folder, samples)}
    steps = [
        StepEntry(step, float(history.deltas[row]), int(history.seen[row].sum()))
        for row, step in enumerate(history.steps.tolist())
    ]
    columns = {"loss": history.losses, **history.measures, **history.components}
    blocks = []
    for number, start in enumerate(range(0, len(steps), STEPS_OF_A_FILE), start=1):
        rows = slice(start, start + STEPS_OF_A_FILE)
        path = losses_path(number)
        grids = {name: grid[rows] for name, grid in columns.items()}
        files[path] = write_losses(folder, path, steps[rows], grids, history.seen[rows])
        blocks.append(Block.of(path, steps[rows]))
    files["scores.parquet"] = write_scores(folder, score_table(history))
    manifest = Manifest(
        **{
            "split": history.split,
            "mode": history.mode,
            "loss_name": history.loss_name,
            "delta_kind": history.delta_kind,
            "n_samples": history.n_samples,
            "id_type": "int64" if history.sample_ids.dtype.kind == "i" else "string",
            "digests": {"ids": "0" * 64, "labels": None, "inputs": None},
            "class_names": history.class_names,
            "measures": tuple(history.measures),
            "components": tuple(history.components),
            "blocks": tuple(blocks),
            "totals": StepTotals.of(steps),
            "files": files,
            "status": "complete",
        }
        | changes
    )
    write_manifest(folder, manifest)
    return manifest


def read(folder):
    """Manifest, and a function that finds the files beside it."""
    manifest = read_manifest(folder / "manifest.json")
    return manifest, lambda path: folder / path


def assert_same_history(found, expected):
    for name in ("losses", "sample_ids", "labels", "true_labels", "steps", "deltas", "seen"):
        a, b = getattr(found, name), getattr(expected, name)
        if b is None:
            assert a is None, name
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)
    for grids in ("measures", "components"):
        a, b = getattr(found, grids), getattr(expected, grids)
        assert list(a) == list(b)
        for name in b:
            np.testing.assert_array_equal(a[name][expected.seen], b[name][expected.seen])
    for name in ("class_names", "split", "mode", "delta_kind", "loss_name"):
        assert getattr(found, name) == getattr(expected, name)


def rewrite_manifest(folder, change, *, checksum=True):
    """Change the manifest's JSON in place, with a checksum that fits unless told otherwise."""
    path = folder / "manifest.json"
    body = json.loads(path.read_text())
    change(body)
    if checksum:
        body["checksum"] = manifest_checksum(body)
    path.write_text(json.dumps(body))


def name_blocks(body, steps):
    """Name files of losses in the JSON of a manifest: path -> numbers of its steps, seen by all."""
    numbers = [step for path in steps for step in steps[path]]
    body["blocks"] = [
        {"path": path, "first_step": held[0], "last_step": held[-1], "n_steps": len(held)}
        for path, held in steps.items()
    ]
    body["totals"] = {
        "n_steps": len(numbers),
        "first_step": numbers[0] if numbers else None,
        "last_step": numbers[-1] if numbers else None,
        "delta": float(len(numbers)),
        "n_seen": len(numbers) * body["n_samples"],
        "n_nonfinite": 0,
        "n_duplicates": 0,
    }


def bare(n_samples):
    return Manifest(
        split="test",
        mode="probe",
        loss_name="loss",
        delta_kind="epoch",
        n_samples=n_samples,
        id_type="int64",
        digests={},
    )


def read_all(folder):
    manifest, fetch = read(folder)
    read_history(manifest, fetch)
    read_scores(manifest, fetch)


def altered(name):
    return message(
        f"{name} of test-probe is truncated or altered: its digest is not that of the manifest. "
        "Restore the file, or record the run again."
    )


def missing(name):
    return message(
        f"{name} is named in the manifest of test-probe but missing. "
        "Restore the file, or record the run again."
    )


def promise(record, name):
    """Name the file in the manifest as it is now."""
    entry = file_entry(record / name)
    rewrite_manifest(record, lambda body: body["files"].update({name: entry.body()}))
