"""What the tests of the recorder share: a split of eleven samples with losses of their own."""

from dataclasses import replace

import numpy as np

N = 11
LABELS = np.arange(N) % 3
LOGITS = np.random.default_rng(5).normal(size=(2, N, 3)).astype(np.float32)


def losses_at(epoch, ids=None):
    """A loss for each sample and epoch, all of them different."""
    grid = np.random.default_rng(epoch).gamma(1, 1, N).astype(np.float32)
    return grid if ids is None else grid[ids]


def one_epoch(recorder, epoch, **options):
    """Record all samples once."""
    recorder.update(np.arange(N), losses_at(epoch), labels=LABELS)
    return recorder.end_epoch(epoch, **options)


def part_of_epoch(recorder, ids, epoch=None, losses_of=9, **options):
    """Record some samples as an epoch."""
    recorder.update(np.array(ids), losses_at(losses_of, ids), labels=LABELS[ids])
    return recorder.end_epoch(epoch, **options)


def files(store, run_id, name="test-probe"):
    """Content of every file of a record, manifest excepted; files of losses by their order.

    What number a file of losses has depends on how often the upload came between two epochs.
    """
    record = store.open_record(run_id, name)
    order = {block.path: f"losses {row}" for row, block in enumerate(record.manifest.blocks)}
    return {
        order.get(path, path): record.fetch(path).read_bytes() for path in record.manifest.files
    }


def without_traces(manifest):
    """A manifest without what depends on how often the upload came between two epochs."""
    order = {block.path: f"losses {row}" for row, block in enumerate(manifest.blocks)}
    return replace(
        manifest,
        revision=0,
        log=0,
        files={order.get(path, path): entry for path, entry in manifest.files.items()},
        blocks=tuple(replace(block, path=order[block.path]) for block in manifest.blocks),
    )


def files_below(folder):
    """Every file of a spool."""
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
