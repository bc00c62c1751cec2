"""Chunks of a training set by difficulty, the greedy choice among them, and who wins (section 4.5).

Pure: arrays and frames in, arrays and frames out.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from actiontrack.errors import ParameterError

__all__ = [
    "BEST_RANDOM",
    "EASIEST",
    "GREEDY",
    "HARDEST",
    "LEFT_OVER",
    "RANDOM",
    "best_chunk",
    "chunk_summary",
    "chunks_by_score",
    "gaps",
    "strategy_lines",
]

GREEDY = "best chunk added"
BEST_RANDOM = "best random subset"
RANDOM = "random subsets"
EASIEST = "easiest first"
HARDEST = "hardest first"

#: Chunk of the samples that equal chunks have no place for.
LEFT_OVER = -1

Chunks = NDArray[np.int64]


def chunks_by_score(
    scores: ArrayLike, labels: ArrayLike, sample_ids: ArrayLike, *, n_chunks: int
) -> Chunks:
    """Cut samples into equal chunks of rising score, each with as many samples of every class.

    Each class is ranked by itself, ties by sample id, and chunk j takes the j-th of `n_chunks`
    equal parts of every class ("equally sized chunks with a uniform distribution across classes",
    section 4.5). The smallest class sets how many samples of a class a chunk holds. What is left
    over of a class is spread evenly over its ranks, so that neither end is cut off.

    Args:
        scores: float (N,), high is hard.
        labels: int (N,).
        sample_ids: int or str (N,), unique.
        n_chunks: Number of chunks.

    Returns:
        int64 (N,): the chunk of each sample, 0 the easiest and n_chunks - 1 the hardest, or
        `LEFT_OVER`.

    Raises:
        ParameterError: A score that is not finite, or a class with fewer samples than chunks.
    """
    values, classes = np.asarray(scores, np.float64), np.asarray(labels)
    _check_finite(values)
    present, counts = np.unique(classes, return_counts=True)
    _check_chunks(n_chunks, smallest=int(counts.min(initial=len(values))))
    per_class = int(counts.min()) // n_chunks
    order = np.lexsort((np.asarray(sample_ids), values))
    chunks = np.full(len(values), LEFT_OVER, dtype=np.int64)
    for label in present:
        ranked = order[classes[order] == label]
        placed = ranked[_spread(len(ranked), per_class * n_chunks)]
        chunks[placed] = np.repeat(np.arange(n_chunks), per_class)
    return chunks


def _spread(total: int, count: int) -> NDArray[np.int64]:
    """`count` of the ranks 0..total - 1, ascending, at equal distances up to rounding."""
    return (2 * np.arange(count, dtype=np.int64) + 1) * total // (2 * count)


def _check_finite(values: NDArray[np.float64]) -> None:
    count = int((~np.isfinite(values)).sum())
    if count:
        remedy = "Train with a smaller learning rate, so that no loss overflows."
        raise ParameterError("scores", "must be finite", f"{count} that are not", remedy)


def _check_chunks(n_chunks: int, *, smallest: int) -> None:
    if not 1 <= n_chunks <= smallest:
        rule = f"must be an integer >= 1 and <= {smallest}, the samples of the smallest class"
        raise ParameterError("chunks", rule, n_chunks, "Pass fewer chunks, or use more images.")


def best_chunk(candidates: pd.DataFrame, by: str) -> int:
    """The candidate chunk of the highest accuracy; the easiest of several that are equal.

    Args:
        candidates: One row per candidate: ``chunk`` and the column `by`.
        by: Column of the accuracy to choose by.
    """
    ranked = candidates.sort_values([by, "chunk"], ascending=[False, True], kind="stable")
    return int(ranked["chunk"].iloc[0])


def chunk_summary(scores: ArrayLike, chunks: ArrayLike) -> pd.DataFrame:
    """What each chunk holds.

    Args:
        scores: float (N,).
        chunks: int (N,), as `chunks_by_score` gives them.

    Returns:
        chunk (0 the easiest), n_images, mean_action, min_action, max_action; leftovers not
        included.
    """
    frame = pd.DataFrame({"chunk": np.asarray(chunks), "action": np.asarray(scores, np.float64)})
    grouped = frame[frame["chunk"] != LEFT_OVER].groupby("chunk")["action"]
    summary = grouped.agg(n_images="size", mean_action="mean", min_action="min", max_action="max")
    return summary.reset_index()


def gaps(lines: pd.DataFrame, strategy: str, baseline: str) -> pd.Series:
    """How much more accurate a strategy is than a baseline, by the number of images.

    Args:
        lines: ``strategy``, ``n_images``, ``accuracy``; several trainings of one size are averaged.
        strategy: Name of the strategy.
        baseline: Name of what it is compared with.

    Returns:
        Difference of accuracy, indexed by n_images. The largest size, at which every strategy has
        all images, is left out.
    """
    means = _means(lines, [strategy, baseline])
    difference: pd.Series = means[strategy] - means[baseline]
    return difference.sort_index().iloc[:-1]


def _means(lines: pd.DataFrame, strategies: Sequence[str]) -> pd.DataFrame:
    chosen = lines[lines["strategy"].isin(strategies)]
    return chosen.pivot_table(index="n_images", columns="strategy", values="accuracy")


def strategy_lines(
    greedy: pd.DataFrame, fixed: pd.DataFrame, *, by: str, measure: str
) -> pd.DataFrame:
    """The curves of all strategies: how accurate and how hard a set of each size is.

    Args:
        greedy: One row per size: ``chunk`` that was added, ``n_images``, ``mean_action`` and the
            accuracies.
        fixed: The trainings that no accuracy has chosen, with ``strategy``, one of which is
            `RANDOM`, ``n_images``, ``mean_action`` and the accuracies.
        by: Accuracy by which the best of the random subsets is chosen.
        measure: Accuracy to report.

    Returns:
        strategy, n_images, accuracy, mean_action, added (the chunk as text, or ""), with one row
        per training.
    """
    best = fixed[fixed["strategy"] == RANDOM].groupby("n_images")[by].idxmax()
    parts = [
        greedy.assign(strategy=GREEDY, added=greedy["chunk"].astype(str)),
        fixed.loc[best].assign(strategy=BEST_RANDOM, added=""),
        fixed.assign(added=""),
    ]
    columns = ["strategy", "n_images", measure, "mean_action", "added"]
    lines = pd.concat([part[columns] for part in parts], ignore_index=True)
    return lines.rename(columns={measure: "accuracy"})
