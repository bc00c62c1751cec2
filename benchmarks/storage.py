"""Bytes of a stored loss, and how fast it is read: `python -m benchmarks.storage`.

The losses are those of trainings on digits, as many models as it takes to have 50,000 samples, so
that a codec meets real losses: no value is repeated or made up. They are written by the record's
own code, in as many files as a finished record has, and read by `read_history`, which checks every
digest, footer and page, and by PyArrow alone, as the peers are read, which check nothing. Beside it
the raw array, Parquet as people use it by default, the record's encoding with more effort, and
Blosc2 with zstd on shuffled bytes, the best of the lossless codecs that were tried.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import blosc2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from actiontrack.record.losses import read_history, write_losses
from actiontrack.record.manifest import Manifest
from actiontrack.record.paths import SAMPLES, losses_path
from actiontrack.record.samples import Samples, write_samples
from actiontrack.record.steps import Block, StepEntry, StepTotals
from actiontrack.recorder.packing import Limits, ranges
from actiontrack.scores import classification_measures
from benchmarks.measure import Figure, Spread, keep, options

Losses = NDArray[np.float32]
_READS = 3  # for every time that a record is written
Row = tuple[float, list[float], list[float]]  # bytes a value, MB/s written, MB/s read


def main(argv: Sequence[str]) -> int:
    """Write, read and print."""
    given = options(__doc__, argv, samples=50_000, epochs=100, turns=5)
    losses = real_losses(given.samples, given.epochs)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        checked, ours = _ours(folder, losses, given.turns)
        rows = {"record, checked": checked, "record, by PyArrow alone": ours}
        rows["Parquet, pandas' defaults"] = _one_file(
            folder / "default.parquet",
            losses,
            given.turns,
            lambda path: pd.DataFrame(losses.T, columns=_names(losses)).to_parquet(path),
            lambda path: pd.read_parquet(path).to_numpy(),
        )
        rows["NumPy npy (raw)"] = _one_file(
            folder / "raw.npy",
            losses,
            given.turns,
            lambda path: np.save(path, losses),
            np.load,
        )
        rows["Parquet, zstd 12, BYTE_STREAM_SPLIT"] = _one_file(
            folder / "effort.parquet",
            losses,
            1,
            lambda path: _with_effort(path, losses),
            pq.read_table,
        )
        rows["Blosc2, zstd, shuffle"] = _one_file(
            folder / "losses.b2nd",
            losses,
            given.turns,
            lambda path: _blosc(path, losses),
            lambda path: blosc2.open(str(path))[:],
        )
        many = real_losses(262_144, 10)
        (large, *_), _ = _ours(folder, many, 1)
    details = {
        name: f"{size:.2f} bytes a value, write {_rate(write)}, read {_rate(read)}"
        for name, (size, write, read) in rows.items()
    }
    size, *_ = ours
    name = f"losses of {given.samples:,} samples x {given.epochs} epochs"
    keep(
        Figure(
            name=name,
            against="raw float32, 4.00",
            value=Spread.of([size]),
            unit="bytes a value",
            target="<= 3.25",
            details=details,
        ),
        Figure(
            name="losses of 262,144 samples x 10 epochs",
            against="raw float32, 4.00",
            value=Spread.of([large]),
            unit="bytes a value",
            target="<= 3.25",
        ),
        *(
            Figure(
                name=f"{name}, read {how}",
                against="-",
                value=Spread.of(rates),
                unit="MB/s",
                target=bound,
            )
            for how, bound, (_, _, rates) in (
                ("by PyArrow alone", "", ours),
                ("with digests, footers and pages checked", ">= 1000", checked),
            )
        ),
    )
    return 0


def real_losses(n_samples: int, n_epochs: int) -> Losses:
    """Losses (n_epochs, n_samples) after each epoch of as many models on digits as it takes.

    The models are two layers deep, start apart and learn at once; half of the images are held out.
    """
    import torch  # noqa: PLC0415 - of an extra
    from sklearn.datasets import load_digits  # noqa: PLC0415
    from torch.nn.functional import cross_entropy  # noqa: PLC0415

    images, classes = load_digits(return_X_y=True)
    inputs = torch.tensor(images / 16, dtype=torch.float32)
    labels = torch.tensor(classes)
    n_models = -(-n_samples // len(labels))
    random = torch.Generator().manual_seed(0)
    weights = [
        (torch.randn(n_models, *shape, generator=random) * scale).requires_grad_()
        for shape, scale in (((64, 64), 1 / 8), ((1, 64), 0), ((64, 10), 1 / 8), ((1, 10), 0))
    ]
    optimizer = torch.optim.Adam(weights, lr=2e-3)

    def logits(batch: torch.Tensor) -> torch.Tensor:
        first, bias, second, last = weights
        hidden = torch.baddbmm(bias, batch.expand(n_models, -1, -1), first).relu()
        return torch.baddbmm(last, hidden, second).flatten(0, 1)

    rows, seen = [], torch.arange(0, len(labels), 2)
    for _ in range(n_epochs):
        for batch in seen[torch.randperm(len(seen), generator=random)].split(64):
            optimizer.zero_grad()
            losses = cross_entropy(
                logits(inputs[batch]), labels[batch].repeat(n_models), reduction="sum"
            )
            (losses / len(batch)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            measures = classification_measures(logits(inputs), labels.repeat(n_models))
        rows.append(measures["cross_entropy"][:n_samples].numpy())
    return np.stack(rows)


def write_files(folder: Path, losses: Losses) -> Manifest:
    """Write losses (n_epochs, n_samples) as a finished record has them; its manifest."""
    n_epochs, n_samples = losses.shape
    files = {SAMPLES: write_samples(folder, Samples(sample_ids=np.arange(n_samples)))}
    steps = [StepEntry(step, 1.0, n_samples) for step in range(1, n_epochs + 1)]
    blocks = []
    for number, rows in enumerate(ranges(n_epochs, Limits.of(n_samples)), start=1):
        path, part = losses_path(number), steps[rows.start : rows.stop]
        files[path] = write_losses(folder, path, part, {"loss": losses[rows.start : rows.stop]})
        blocks.append(Block.of(path, part))
    return Manifest(
        split="test",
        mode="probe",
        loss_name="cross_entropy",
        delta_kind="epoch",
        n_samples=n_samples,
        id_type="int64",
        digests={},
        blocks=tuple(blocks),
        totals=StepTotals.of(steps),
        files=files,
    )


def _ours(folder: Path, losses: Losses, turns: int) -> tuple[Row, Row]:
    """The record, read with its checks and by PyArrow alone."""
    checked, bare, rates_written = [], [], []
    for _ in range(turns):
        start = time.perf_counter()
        manifest = write_files(folder, losses)
        rates_written.append(losses.nbytes / 1e6 / (time.perf_counter() - start))
    for _ in range(_READS * turns + 1):
        start = time.perf_counter()
        history = read_history(manifest, lambda path: folder / path)
        checked.append(losses.nbytes / 1e6 / (time.perf_counter() - start))
    for _ in range(_READS * turns + 1):
        grid = np.empty_like(losses)
        start = time.perf_counter()
        for block in manifest.blocks:
            file = pq.ParquetFile(pa.BufferReader((folder / block.path).read_bytes()))
            column = file.read(columns=["loss"], use_threads=False)["loss"].to_numpy()
            rows = slice(block.first_step - 1, block.last_step)
            grid[rows] = column.reshape(-1, block.n_steps).T
        bare.append(losses.nbytes / 1e6 / (time.perf_counter() - start))
    np.testing.assert_array_equal(history.losses, losses)
    np.testing.assert_array_equal(grid, losses)
    size = sum(manifest.files[block.path].bytes for block in manifest.blocks) / losses.size
    # The first reading warms up.
    return (size, rates_written, checked[1:]), (size, rates_written, bare[1:])


def _one_file(
    path: Path,
    losses: Losses,
    turns: int,
    write: Callable[[Path], object],
    read: Callable[[Path], object],
) -> Row:
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for way, found in zip((write, read), rates, strict=True):
            start = time.perf_counter()
            way(path)
            found.append(losses.nbytes / 1e6 / (time.perf_counter() - start))
    return path.stat().st_size / losses.size, *rates


def _with_effort(path: Path, losses: Losses) -> None:
    names = _names(losses)
    pq.write_table(
        pa.table(dict(zip(names, losses, strict=True))),
        path,
        compression="zstd",
        compression_level=12,
        use_dictionary=False,
        column_encoding=dict.fromkeys(names, "BYTE_STREAM_SPLIT"),
    )


def _blosc(path: Path, losses: Losses) -> None:
    effort = blosc2.CParams(
        codec=blosc2.Codec.ZSTD, clevel=1, filters=[blosc2.Filter.SHUFFLE], nthreads=1
    )
    options = {"urlpath": str(path), "mode": "w", "cparams": effort}
    blosc2.asarray(losses, chunks=(1, losses.shape[1]), **options)


def _names(losses: Losses) -> list[str]:
    return [f"epoch {each}" for each in range(1, len(losses) + 1)]


def _rate(values: Sequence[float]) -> str:
    return f"{Spread.of(values)} MB/s"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
