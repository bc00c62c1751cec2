"""One call of the recorder for one batch: `python -m benchmarks.updates`.

An epoch of updates of 51,200 samples, without the end of the epoch: ids and losses against
`index_copy_` into an array that was allocated before, the least that can keep a loss. The package
`aum` (1.0.2) is given logits and keeps one score of them: against its `update` stand ours of losses
that the loop has computed already, and ours of logits, which computes and keeps eight columns: the
measures that a call puts off are computed within its time. Times are those of the processor.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from actiontrack.recorder import Recorder
from actiontrack.store import Store
from benchmarks.measure import Figure, Spread, in_turns, keep, options, ratios

SAMPLES, CLASSES = 51_200, 10


def main(argv: Sequence[str]) -> int:
    """Time each batch size and print."""
    given = options(__doc__, argv, turns=7)
    torch.set_num_threads(1)
    for batch in (128, 512, 4096):
        keep(*measure(batch, given.turns))
    return 0


def measure(batch: int, turns: int) -> list[Figure]:
    """Both figures of one batch size."""
    from aum import AUMCalculator  # noqa: PLC0415 - of the extra

    torch.manual_seed(0)
    ids = torch.randperm(SAMPLES).split(batch)
    logits = torch.randn(SAMPLES, CLASSES).split(batch)
    labels = torch.randint(CLASSES, (SAMPLES,)).split(batch)
    losses = torch.rand(SAMPLES).split(batch)
    numbers = [each.numpy() for each in ids]
    names = [each.tolist() for each in ids]
    kept = torch.empty(SAMPLES)

    def limit() -> None:
        for own, values in zip(ids, losses, strict=True):
            kept.index_copy_(0, own, values)

    with tempfile.TemporaryDirectory() as folder, _recorder(Path(folder)) as recorder:
        forget = recorder.discard_epoch

        def ours() -> None:
            for own, values in zip(numbers, losses, strict=True):
                recorder.update(own, values)

        def ours_of_logits() -> None:
            for own, values, truth in zip(numbers, logits, labels, strict=True):
                recorder.update(own, logits=values, labels=truth)
            recorder._state.buffer._measure()  # noqa: SLF001 - what was put off

        def aum() -> None:
            calculator = AUMCalculator(folder, compressed=True)
            for own, values, truth in zip(names, logits, labels, strict=True):
                calculator.update(values, truth, own)

        clock = time.process_time
        seconds = in_turns({"ours": ours, "limit": limit}, turns=turns, clock=clock, after=forget)
        by_aum = {"ours of losses": ours, "logits": ours_of_logits, "aum": aum}
        seconds |= in_turns(by_aum, turns=turns, clock=clock, after=forget)
    per_batch = {
        name: f"{Spread.of(np.array(values) / len(ids) * 1e6)} µs a batch"
        for name, values in seconds.items()
    }
    return [
        Figure(
            name=f"Recorder.update of losses, batch {batch}",
            against="index_copy_ into an array",
            value=ratios(seconds, "ours", "limit"),
            target="<= 3",
            details={name: per_batch[name] for name in ("ours", "limit")},
        ),
        Figure(
            name=f"Recorder.update of losses, batch {batch}",
            against="AUM's update: times faster",
            value=ratios(seconds, "aum", "ours of losses"),
            target=">= 50",
        ),
        Figure(
            name=f"Recorder.update of logits (eight columns of them), batch {batch}",
            against="AUM's update: times faster",
            value=ratios(seconds, "aum", "logits"),
            target=">= 50",
            details={name: per_batch[name] for name in ("logits", "aum")},
        ),
    ]


def _recorder(folder: Path) -> Recorder:
    store = Store(f"sqlite:///{folder / 'mlflow.db'}")
    with store.run(name="updates") as run:
        return Recorder(run_id=run.run_id, store=store, spool=folder / "spool")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
