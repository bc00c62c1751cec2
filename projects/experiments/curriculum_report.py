"""The page of the curriculum experiment (section 4.5, Fig. 13), and its finding in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from actiontrack import plots
from actiontrack.reporting.document import Report, Section
from projects.experiments.curriculum_chunks import (
    BEST_RANDOM,
    EASIEST,
    GREEDY,
    HARDEST,
    LEFT_OVER,
    RANDOM,
    Chunks,
    chunk_summary,
    gaps,
    strategy_lines,
)

__all__ = ["Results", "curriculum_report", "describe_curriculum"]

_WHOLE = {"by": "accuracy", "measure": "accuracy"}
_HALVES = {"by": "choosing_accuracy", "measure": "held_out_accuracy"}
_SHOWN = [
    *("strategy", "chosen_by", "chosen", "chunk", "repeat", "n_images", "mean_action"),
    *("accuracy", "choosing_accuracy", "held_out_accuracy", "seconds", "initial_weights"),
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """All that was measured. Frames have a row per training, with the columns of `Outcome`.

    Attributes:
        greedy: chosen by the accuracy on all test images, one row per size: chunk, mean_action,
            n_candidates.
        greedy_held_out: the same, chosen by the accuracy on one half of them.
        fixed: random subsets, easiest first, hardest first: strategy, repeat, mean_action.
        candidates: trainings of each greedy step: chosen (chunks so far), chunk, chosen_by.
        scores: (N,), the action of the training images.
        chunks: (N,), the chunk of each.
        setting: how it was trained, in words.
    """

    greedy: pd.DataFrame
    greedy_held_out: pd.DataFrame
    fixed: pd.DataFrame
    candidates: Sequence[pd.DataFrame]
    scores: NDArray[np.float64]
    chunks: Chunks
    setting: str

    @property
    def lines(self) -> pd.DataFrame:
        """The curves as the paper measures them, see `strategy_lines`."""
        return strategy_lines(self.greedy, self.fixed, **_WHOLE)

    @property
    def held_out_lines(self) -> pd.DataFrame:
        """The curves on the half of the test images that has no part in any choice."""
        return strategy_lines(self.greedy_held_out, self.fixed, **_HALVES)

    @property
    def n_random(self) -> int:
        """Random subsets of each size."""
        return int(self.fixed["repeat"].max()) + 1


def describe_curriculum(results: Results) -> str:
    """The finding in plain sentences with numbers."""
    paper = gaps(results.lines, GREEDY, BEST_RANDOM)
    held_out = gaps(results.held_out_lines, GREEDY, BEST_RANDOM)
    orders = [
        f"{name} {gaps(results.held_out_lines, name, RANDOM).mean():+.3f}"
        for name in (EASIEST, HARDEST)
    ]
    action = results.greedy.set_index("n_images")["mean_action"]
    sizes = f"{paper.index.min()} to {paper.index.max()} of {action.index.max()} images"
    return (
        f"On {sizes}, the best chunk by test accuracy (the paper's protocol) beats the best of "
        f"{results.n_random} random subsets at {_won(paper)}; chosen on one half of the test "
        f"images and measured on the other, at {_won(held_out)}. Without any choice, against the "
        f"mean of the random subsets: {', '.join(orders)}. The mean action of the chosen images "
        f"goes from {action.iloc[0]:.3g} to {action.iloc[-1]:.3g} and is highest at "
        f"{action.idxmax()} images ({action.max():.3g})."
    )


def _won(gap: "pd.Series[float]") -> str:
    return f"{int((gap > 0).sum())} of {len(gap)} sizes ({gap.mean():+.3f} on average)"


def curriculum_report(results: Results) -> Report:
    """Accuracy by both measures, mean action, order of the chunks, all trainings."""
    sections = [
        _accuracy(results),
        _held_out(results),
        _mean_action(results),
        _order(results),
        _chunks(results),
        Section(
            heading="All trainings",
            text="Each starts from the same initial weights: see the digest in the last column. "
            "A row that both choices have come to was trained once.",
            frame=_trainings(results),
        ),
        Section(heading="How to read this", text=_how_to_read(results)),
    ]
    return Report(title="Does a curriculum by action score help?", sections=sections)


def _accuracy(results: Results) -> Section:
    return Section(
        heading="Accuracy as the paper measures it",
        text=f"Each step keeps the chunk of the highest accuracy on all test images, and that "
        f"same accuracy is drawn, against the best of {results.n_random} random subsets by the "
        "same accuracy. The choice is among more candidates than the baseline has, and it is "
        "made on the images that it is measured on: both favour the curriculum.",
        frame=_by_size(results.lines),
        figure=_figure(plots.learning_curves(results.lines)),
        caption="Accuracy on all test images; the band spans the random subsets of one size "
        "(paper, Fig. 13 left).",
    )


def _held_out(results: Results) -> Section:
    return Section(
        heading="Accuracy on images that have no part in the choice",
        text="The same, but chunks and the best random subset are chosen on one half of the test "
        "images, class by class, and the accuracy on the other half is drawn. Easiest first and "
        "hardest first choose nothing at all.",
        frame=_by_size(results.held_out_lines),
        figure=_figure(plots.learning_curves(results.held_out_lines)),
        caption="Accuracy on the held-out half of the test images; the band spans the random "
        "subsets of one size.",
    )


def _by_size(lines: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by size and strategy, the spread of the random subsets and the gap."""
    wide = lines.pivot_table(
        index="n_images", columns="strategy", values="accuracy", sort=False
    ).sort_index()
    random = lines[lines["strategy"] == RANDOM].groupby("n_images")["accuracy"]
    wide = wide.rename(columns={RANDOM: "random, mean"})
    wide["random, lowest"], wide["random, highest"] = random.min(), random.max()
    wide["gap to the best random"] = wide[GREEDY] - wide[BEST_RANDOM]
    return wide.rename_axis(columns=None).reset_index()


def _mean_action(results: Results) -> Section:
    held_out = results.held_out_lines
    other = held_out[held_out["strategy"] == GREEDY].assign(strategy="best chunk by one half")
    lines = results.lines
    chosen = lines[lines["strategy"] == GREEDY].assign(strategy="best chunk by all")
    rest = lines[lines["strategy"].isin((RANDOM, EASIEST, HARDEST))]
    return Section(
        heading="Mean action of the training images",
        text="The best chunk is chosen by the accuracy on all test images, or on one half of them. "
        "Which one was added is written at each point, 0 the easiest.",
        figure=_figure(plots.mean_score_curves(pd.concat([chosen, other, rest]))),
        caption="Mean action of the training images of each step (paper, Fig. 13 right).",
    )


def _order(results: Results) -> Section:
    columns = {
        "chunk": "chunk added",
        "n_candidates": "candidates",
        "mean_action": "mean action",
        "accuracy": "accuracy",
        "choosing_accuracy": "choosing half",
        "held_out_accuracy": "held-out half",
    }
    parts = [
        frame[["n_images", *columns]].rename(columns=columns).assign(**{"chosen on": name})
        for name, frame in (
            ("all test images", results.greedy),
            ("one half", results.greedy_held_out),
        )
    ]
    return Section(
        heading="Order of the chunks",
        text=f"Chosen on all test images: {_sequence(results.greedy)}. Chosen on one half: "
        f"{_sequence(results.greedy_held_out)}. The last chunk is what remains.",
        frame=pd.concat(parts, ignore_index=True)[["chosen on", "n_images", *columns.values()]],
    )


def _sequence(greedy: pd.DataFrame) -> str:
    return ", ".join(greedy["chunk"].astype(str))


def _chunks(results: Results) -> Section:
    first = results.candidates[0][["chunk", "accuracy"]]
    summary = chunk_summary(results.scores, results.chunks)
    left = int((results.chunks == LEFT_OVER).sum())
    return Section(
        heading="The chunks",
        text="Every class is ranked by itself, so the action of neighbouring chunks overlaps. "
        f"{left} of {len(results.chunks)} training images are left over, spread evenly over the "
        "ranks of their class.",
        frame=summary.merge(first.rename(columns={"accuracy": "accuracy_alone"}), on="chunk"),
    )


def _trainings(results: Results) -> pd.DataFrame:
    candidates = pd.concat(results.candidates, ignore_index=True).assign(strategy="candidate")
    whole = results.fixed[results.fixed["n_images"] == results.fixed["n_images"].max()]
    fixed = results.fixed.drop(whole.index)
    frames = [candidates, fixed, whole.head(1).assign(strategy="all chunks")]
    trainings = pd.concat(frames, ignore_index=True)[_SHOWN]
    table: pd.DataFrame = trainings.astype({"chunk": "Int64", "repeat": "Int64"})
    return table


def _how_to_read(results: Results) -> str:
    last = results.greedy.iloc[-1]
    n_test = int(last["n_test"])
    whole, half = (
        f"{np.sqrt(last[name] * (1 - last[name]) / n):.3f}"
        for name, n in (("accuracy", n_test), ("held_out_accuracy", n_test - n_test // 2))
    )
    return (
        f"{results.setting} Chunk 0 holds the lowest action of every class, and every chunk as "
        "many images of each class; random subsets have the same number of each class. A gap "
        "above 0 says that the curriculum is more accurate than the best random subset of the "
        "same size.\n\n"
        f"An accuracy of {last['accuracy']:.3f} on {n_test} test images has a standard error of "
        f"{whole}, on the held-out half {half}; the spread of the random subsets shows how much "
        "the choice of images adds to that. All trainings share one seed: other initial weights "
        "may choose other chunks.\n\n"
        "The paper leaves open which training gives the action and how long it lasts, and what "
        "is done with classes of different size. With all images every strategy has the same "
        "set, which was trained once; the averages leave it out."
    )


def _figure(axes: Any) -> Figure:
    figure = axes.figure
    assert isinstance(figure, Figure)  # noqa: S101 - plots make their own figures
    return figure
