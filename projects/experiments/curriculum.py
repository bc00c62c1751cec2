"""`mlflow run . -e curriculum`: which images to train on first, by action (section 4.5, Fig. 13)?

The paper does not say which training ranks its images, nor what "uniform across classes" does with
classes of different size. Here a model of its own is trained on all images (`score_model`,
`score_epochs`), an evaluation pass over the training images after each epoch gives their action,
and every chunk holds as many images of each class.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from actiontrack.analysis import save_frame
from actiontrack.record.digest import digest_ids, digest_input, digest_inputs, digest_labels
from actiontrack.store import RunInfo, Store, StoredRecord
from projects.datasets.split import Ids
from projects.datasets.stratify import pick_per_class
from projects.experiments.curriculum_chunks import (
    EASIEST,
    HARDEST,
    LEFT_OVER,
    RANDOM,
    Chunks,
    best_chunk,
    chunks_by_score,
)
from projects.experiments.curriculum_report import Results, curriculum_report, describe_curriculum
from projects.experiments.curriculum_training import PartTrainer, part_trainer
from projects.experiments.experiment import Experiment, experiment, training_identity
from projects.params.experiments import ExperimentParams, auto
from projects.params.fields import MAX_SEED, ModelName
from projects.params.reading import parse, run_main

__all__ = ["CurriculumParams", "Ranking", "Steps", "main"]

_FOLDER, _TABLE = "curriculum", "trainings"


class CurriculumParams(ExperimentParams):
    """Rank the training images by action, then train on growing sets of chunks of them."""

    presets: ClassVar = {
        "smoke": {"chunks": 3, "epochs": 6, "score_epochs": 3},
        "cpu": {"chunks": 6, "epochs": 12, "score_epochs": 12, "subset": 4800, "test_subset": 5000},
        "paper": {"chunks": 20, "epochs": 15, "score_epochs": 85},
    }

    model: ModelName = Field("cnn3", description="architecture, see projects/models/README.md")
    chunks: int = auto(ge=2, description="equal parts of the training images, easiest to hardest")
    score_model: ModelName = Field("cnn3", description="architecture whose action ranks the images")
    score_epochs: int = auto(ge=1, description="epochs over which that action is summed")
    random_subsets: int = Field(3, ge=1, description="random subsets of each size")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="of all trainings and random subsets")


def main(argv: Sequence[str]) -> None:
    """Rank, train step by step, and report."""
    params = parse(CurriculumParams, argv)
    with experiment("curriculum", params, Store()) as current:
        ranking = _rank(current, params)
        print(f"\n{ranking.describe()}", flush=True)
        training = params.training(record=("test",))
        with part_trainer(training, parallel=params.parallel) as trainer:
            steps = Steps(current, params, ranking, trainer, training_identity(training))
            results = Results(
                greedy=steps.greedy("accuracy"),
                greedy_held_out=steps.greedy("choosing_accuracy"),
                fixed=steps.fixed(),
                candidates=steps.candidates,
                scores=ranking.scores,
                chunks=ranking.chunks,
                setting=_setting(params),
            )
        current.finish(curriculum_report(results), describe_curriculum(results))


def _setting(params: CurriculumParams) -> str:
    return (
        f"{params.model} is trained from scratch for {params.epochs} epochs on each set. The "
        f"action is that of {params.score_model} trained on all training images, summed over "
        f"{params.score_epochs} epochs. The seed of all trainings is {params.seed}."
    )


def _rank(current: Experiment, params: CurriculumParams) -> "Ranking":
    """Train on all images and record their losses; its action ranks them."""
    scoring = params.training(
        model=params.score_model, epochs=params.score_epochs, record=("train",)
    )
    (run,) = current.train([scoring])
    return Ranking.of(current.store.open_record(run, "train-probe"), n_chunks=params.chunks)


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """Training samples, ranked.

    Attributes:
        sample_ids: int64 or str (N,).
        labels: int64 (N,).
        scores: float64 (N,), the action.
        chunks: int64 (N,), see `chunks_by_score`.
        digest: of ids, labels and scores.
    """

    sample_ids: Ids
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    chunks: Chunks
    digest: str

    @classmethod
    def of(cls, record: StoredRecord, *, n_chunks: int) -> Self:
        """Rank the samples of a record by action.

        Raises:
            ParameterError: A class with fewer samples than chunks, or an action that is not finite.
        """
        frame = record.scores(["sample_id", "label", "action"])
        ids, labels, scores = (frame[column].to_numpy() for column in frame.columns)
        ids = ids.astype(np.int64 if ids.dtype.kind in "iu" else np.str_)
        parts = [digest_ids(ids), digest_labels(labels, record.manifest.class_names)]
        return cls(
            sample_ids=ids,
            labels=labels,
            scores=scores,
            chunks=chunks_by_score(scores, labels, ids, n_chunks=n_chunks),
            digest=digest_inputs([*parts, digest_input(scores)]),
        )

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return int(self.chunks.max()) + 1

    def describe(self) -> str:
        """Size of the chunks, and what is left over."""
        left = int((self.chunks == LEFT_OVER).sum())
        size = (len(self.chunks) - left) // self.n_chunks
        return f"{self.n_chunks} chunks of {size} images, {left} left over"

    def inside(self, chunks: Sequence[int]) -> NDArray[np.int64]:
        """Positions of the samples in some chunks."""
        return np.flatnonzero(np.isin(self.chunks, chunks))

    def random(self, n_chunks: int, seed: int) -> NDArray[np.int64]:
        """Positions of random samples, of each class as many as in `n_chunks` chunks."""
        pool = np.flatnonzero(self.chunks != LEFT_OVER)
        quota = np.bincount(self.labels[self.inside(range(n_chunks))])
        return pool[
            pick_per_class(self.sample_ids[pool], self.labels[pool], quota=quota, seed=seed)
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """A set to train on: positions of its samples, and the columns that tell what it is."""

    positions: NDArray[np.int64]
    columns: Mapping[str, Any]


class Steps:
    """The steps of the experiment, each a nested run that is done once.

    Args:
        current: the experiment.
        params: its parameters.
        ranking: the training samples in chunks.
        trainer: trains on parts.
        training: identity of one training, whatever its part.

    Attributes:
        candidates: the trainings of each greedy step so far.
    """

    def __init__(
        self,
        current: Experiment,
        params: CurriculumParams,
        ranking: Ranking,
        trainer: PartTrainer,
        training: str,
    ) -> None:
        self._current, self._params, self._ranking = current, params, ranking
        self._trainer, self._training = trainer, training
        self.candidates: list[pd.DataFrame] = []

    def greedy(self, by: str) -> pd.DataFrame:
        """Add the best of the remaining chunks, again and again.

        Args:
            by: accuracy to choose by.

        Returns:
            One row per size: the training that was chosen, with n_candidates.
        """
        chosen: list[int] = []
        rows = []
        for _ in range(self._ranking.n_chunks - 1):
            candidates = self._candidates(chosen).assign(chosen_by=by)
            self.candidates.append(candidates)
            chosen.append(best_chunk(candidates, by))
            best = candidates[candidates["chunk"] == chosen[-1]]
            rows.append(best.assign(n_candidates=len(candidates)))
        (last,) = set(range(self._ranking.n_chunks)) - set(chosen)
        rows.append(self._all_images.assign(chunk=last, n_candidates=1))
        return pd.concat(rows, ignore_index=True)

    def fixed(self) -> pd.DataFrame:
        """Random subsets, the easiest and the hardest chunks of every size: nothing is chosen."""
        sizes = [self._fixed(n_chunks) for n_chunks in range(1, self._ranking.n_chunks)]
        whole = self._all_images
        same = [whole.assign(strategy=strategy) for strategy in (RANDOM, EASIEST, HARDEST)]
        return pd.concat([*sizes, *same], ignore_index=True)

    def _candidates(self, chosen: Sequence[int]) -> pd.DataFrame:
        """Each remaining chunk in turn, together with those chosen so far."""
        have = sorted(chosen)
        chosen_text = ",".join(map(str, have))
        parts = [
            _Part(
                positions=self._ranking.inside([*have, chunk]),
                columns={"chosen": chosen_text, "chunk": chunk},
            )
            for chunk in range(self._ranking.n_chunks)
            if chunk not in have
        ]
        added = f"chunks {chosen_text} and one more" if have else "one chunk"
        return self._step(f"{self._size(len(have) + 1)}: {added}", {"chosen": chosen_text}, parts)

    def _fixed(self, n_chunks: int) -> pd.DataFrame:
        ranking, total = self._ranking, self._ranking.n_chunks
        repeats = self._params.random_subsets
        first = (self._params.seed * total + n_chunks) * repeats
        parts = [
            _Part(
                positions=ranking.random(n_chunks, first + repeat),
                columns={"strategy": RANDOM, "repeat": repeat},
            )
            for repeat in range(repeats)
        ]
        orders = {EASIEST: range(n_chunks), HARDEST: range(total - n_chunks, total)}
        parts += [
            _Part(positions=ranking.inside(chunks), columns={"strategy": name, "repeat": 0})
            for name, chunks in orders.items()
        ]
        identity = {"size": str(n_chunks), "random_subsets": str(repeats)}
        return self._step(f"{self._size(n_chunks)}: random, {EASIEST}, {HARDEST}", identity, parts)

    @cached_property
    def _all_images(self) -> pd.DataFrame:
        whole = self._ranking.inside(range(self._ranking.n_chunks))
        return self._step("all chunks", {}, [_Part(positions=whole, columns={})])

    def _size(self, n_chunks: int) -> str:
        return f"{n_chunks} of {self._ranking.n_chunks} chunks"

    def _step(self, kind: str, identity: Mapping[str, str], parts: Sequence[_Part]) -> pd.DataFrame:
        """Train on each part in a nested run, or read the results of a finished one."""
        identity = {
            "training": self._training,
            "scores": self._ranking.digest,
            "chunks": str(self._ranking.n_chunks),
            **identity,
        }

        def work(run: RunInfo) -> None:
            self._save(run, self._train(parts, kind))

        return self._read(self._current.step(kind, identity, work))

    def _train(self, parts: Sequence[_Part], kind: str) -> pd.DataFrame:
        ranking = self._ranking
        outcomes = self._trainer.train(
            [ranking.sample_ids[part.positions] for part in parts], description=kind
        )
        return pd.DataFrame(
            [
                {
                    **part.columns,
                    "mean_action": ranking.scores[part.positions].mean(),
                    **asdict(outcome),
                }
                for part, outcome in zip(parts, outcomes, strict=True)
            ]
        )

    def _save(self, run: RunInfo, trainings: pd.DataFrame) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for path in save_frame(trainings, Path(folder) / _TABLE):
                self._current.store.upload(run.run_id, path, _FOLDER)

    def _read(self, run: RunInfo) -> pd.DataFrame:
        with tempfile.TemporaryDirectory() as folder:
            path = f"{_FOLDER}/{_TABLE}.parquet"
            return pd.read_parquet(self._current.store.download(run, path, Path(folder)))


if __name__ == "__main__":
    sys.exit(run_main(main))
