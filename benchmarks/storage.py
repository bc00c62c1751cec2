"""Bytes of a stored loss, and how fast it is read: `python -m benchmarks.storage`.

The losses are those of a training on digits, 360 test images x EPOCHS, repeated to the size of
50,000 samples with the noise of their last bits renewed, so that a codec meets the exponents and
the entropy of real losses. They are written by the record's own code, one block per epoch, and
read by `read_history` with the check of every digest; beside it the raw array, and Parquet and
NumPy as people use them by default.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from actiontrack import artifact
from actiontrack.artifact import Manifest
from benchmarks.measure import Figure, Spread, keep, options

Losses = NDArray[np.float32]


def main(argv: Sequence[str]) -> int:
    """Write, read and print."""
    given = options(__doc__, argv, samples=50_000, epochs=100, turns=5)
    losses = real_losses(given.samples, given.epochs)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        ours = _ours(folder, losses, given.turns)
        rows = {"record": ours}
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
    details = {
        name: f"{size:.2f} bytes a value, write {_rate(write)}, read {_rate(read)}"
        for name, (size, write, read) in rows.items()
    }
    size, _, read = ours
    name = f"losses of {given.samples:,} samples x {given.epochs} epochs"
    keep(
        Figure(
            name=name,
            against="raw float32, 4.00",
            value=Spread.of([size]),
            unit="bytes a value",
            target="<= 3.4",
            details=details,
        ),
        Figure(
            name=f"{name}, read with digests checked",
            against="-",
            value=Spread.of(read),
            unit="MB/s",
            target=">= 300",
        ),
    )
    return 0


def real_losses(n_samples: int, n_epochs: int) -> Losses:
    """Losses (n_epochs, n_samples) of a multi-layer perceptron on digits, after each epoch."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - of an extra
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415

    inputs, labels = load_digits(return_X_y=True)
    model = MLPClassifier((64,), learning_rate_init=0.002, random_state=0)
    rows = []
    for _ in range(n_epochs):
        model.partial_fit(inputs[::2], labels[::2], classes=range(10))
        chances = model.predict_proba(inputs)[np.arange(len(labels)), labels]
        rows.append(-np.log(np.maximum(chances, 1e-30)))
    rng = np.random.default_rng(0)
    picked = rng.integers(len(labels), size=n_samples)
    losses = np.asarray(rows)[:, picked]
    return (losses * (1 + rng.normal(0, 1e-3, losses.shape))).astype(np.float32)


def _ours(folder: Path, losses: Losses, turns: int) -> tuple[float, list[float], list[float]]:
    n_epochs, n_samples = losses.shape
    samples = artifact.Samples(sample_ids=np.arange(n_samples))
    files = {artifact.SAMPLES: artifact.write_samples(folder, samples)}
    rates_read, rates_written = [], []
    for _ in range(turns):
        start = time.perf_counter()
        blocks = {
            artifact.block_path(step): artifact.write_block(folder, step, {"loss": row})
            for step, row in enumerate(losses, start=1)
        }
        rates_written.append(losses.nbytes / 1e6 / (time.perf_counter() - start))
    manifest = Manifest(
        split="test",
        mode="probe",
        loss_name="cross_entropy",
        delta_kind="epoch",
        n_samples=n_samples,
        id_type="int64",
        digests={},
        steps=tuple(artifact.StepEntry(step, 1.0, n_samples) for step in range(1, n_epochs + 1)),
        files=files | blocks,
    )
    for _ in range(turns):
        start = time.perf_counter()
        history = artifact.read_history(manifest, lambda path: folder / path)
        rates_read.append(losses.nbytes / 1e6 / (time.perf_counter() - start))
    np.testing.assert_array_equal(history.losses, losses)
    return sum(each.bytes for each in blocks.values()) / losses.size, rates_written, rates_read


def _one_file(
    path: Path,
    losses: Losses,
    turns: int,
    write: Callable[[Path], object],
    read: Callable[[Path], object],
) -> tuple[float, list[float], list[float]]:
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for way, found in zip((write, read), rates, strict=True):
            start = time.perf_counter()
            way(path)
            found.append(losses.nbytes / 1e6 / (time.perf_counter() - start))
    return path.stat().st_size / losses.size, *rates


def _names(losses: Losses) -> list[str]:
    return [f"epoch {each}" for each in range(1, len(losses) + 1)]


def _rate(values: Sequence[float]) -> str:
    return f"{Spread.of(values)} MB/s"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
