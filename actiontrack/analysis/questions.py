"""What can be asked of records: one table for the API, the pages and the command line.

A question has a name, a function, options with their rules, and columns that its answer always
has. Whoever asks opens the records; the function computes.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pandas as pd

from actiontrack.analysis import verdicts
from actiontrack.analysis.agreement import contrasts, correlation_by_quantile
from actiontrack.analysis.alignment import align
from actiontrack.analysis.comparison import Comparison, compare_runs
from actiontrack.analysis.curves import curve_clusters, loss_curves
from actiontrack.analysis.exploration import (
    action_and_entropy,
    choose_samples,
    score_histogram,
    score_pairs,
    verdict_precision,
)
from actiontrack.analysis.features import neighbours
from actiontrack.analysis.fixes import label_fixes, wrong_label_counts
from actiontrack.analysis.loading import score_frame
from actiontrack.analysis.options import (
    ByMethodOptions,
    ClustersOptions,
    Compared,
    ContrastsOptions,
    CorrelationsOptions,
    CurvesOptions,
    FixesOptions,
    HistogramOptions,
    NeighboursOptions,
    Options,
    OrderedOptions,
    PrecisionOptions,
    SampleOptions,
    Scored,
    SlicesOptions,
    VerdictsOptions,
    WrongLabelsOptions,
    validated,
)
from actiontrack.analysis.samples import class_distributions
from actiontrack.analysis.slices.answers import rows_in_slices, slices_of
from actiontrack.analysis.tables import positions
from actiontrack.compare import Method
from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.store import StoredRecord

__all__ = [
    "MAX_RECORDS",
    "QUESTIONS",
    "Question",
    "ask",
    "compare_records",
    "precision_of",
    "score_table_of",
]

#: Records that a server takes for one question.
MAX_RECORDS = 100
_Value = TypeVar("_Value")

# Functions: from records and options to a frame


def score_table_of(record: StoredRecord) -> pd.DataFrame:
    """Every score of every sample of a record, computed once, see `analysis.score_frame`."""
    return record.cached("score table", lambda: score_frame([record]))


def precision_of(
    record: StoredRecord, current: pd.DataFrame, options: PrecisionOptions
) -> pd.DataFrame:
    """Precision at k of the verdicts that count, see `analysis.verdict_precision`."""
    table = score_table_of(record)
    return verdict_precision(table, current, score=options.score, ks=options.ks or None)


def _shared(
    records: Sequence[StoredRecord], what: Hashable, compute: Callable[[], _Value]
) -> _Value:
    """A value that is derived from some records alone, computed once per cache of the first."""
    return records[0].cache.get((*(record.key for record in records), what), compute)


def compare_records(
    records: Sequence[StoredRecord],
    options: Compared,
    *,
    n_bootstrap: int = 0,
    method: Method | None = None,
) -> Comparison:
    """Correlations of runs, see `analysis.compare_runs`.

    Args:
        records: open records of two runs or more.
        options: the score, and what to do where runs differ.
        n_bootstrap: resamples for the intervals; 0 for none.
        method: the only correlation to compute. Default: both.
    """
    methods: tuple[Method, ...] = ("spearman", "pearson") if method is None else (method,)

    def compute() -> Comparison:
        return compare_runs(records, methods=methods, n_bootstrap=n_bootstrap, **options.choice)

    key = ("comparison", *options.choice.items(), n_bootstrap, methods)
    return _shared(records, key, compute)


def _scores(records: Sequence[StoredRecord], options: OrderedOptions) -> pd.DataFrame:
    return choose_samples(
        rows_in_slices(records[0], score_table_of(records[0]), options),
        options.sample_filter,
        score=options.score,
        order=options.order,
    )


def _distributions(records: Sequence[StoredRecord], options: HistogramOptions) -> pd.DataFrame:
    table = rows_in_slices(records[0], score_table_of(records[0]), options)
    chosen = choose_samples(table, options.sample_filter, score=options.score)
    by_class = options.by == "class"
    return score_histogram(chosen, score=options.score, bins=options.bins, by_class=by_class)


def _classes(records: Sequence[StoredRecord], options: Scored) -> pd.DataFrame:
    return class_distributions(score_table_of(records[0]), score=options.score)


def _curves(records: Sequence[StoredRecord], options: CurvesOptions) -> pd.DataFrame:
    return loss_curves(records, _distinct(options.ids) or None, n=options.n)


def _clusters(records: Sequence[StoredRecord], options: ClustersOptions) -> pd.DataFrame:
    return curve_clusters(records[0], options.k, n_closest=options.n)


def _neighbours(records: Sequence[StoredRecord], options: NeighboursOptions) -> pd.DataFrame:
    ids = _distinct(options.ids) or None
    return neighbours(records[0], ids, n=options.n, k=options.k, score=options.score)


def _correlations(records: Sequence[StoredRecord], options: CorrelationsOptions) -> pd.DataFrame:
    """Without intervals both methods take a moment; with them each costs its resamples."""
    n_bootstrap = 0 if options.between == "runs" else options.bootstrap
    method = options.method if n_bootstrap else None
    comparison = compare_records(records, options, n_bootstrap=n_bootstrap, method=method)
    frame = comparison.pairs if options.between == "runs" else comparison.groups
    return _of_method(frame, options.method)


def _quantiles(records: Sequence[StoredRecord], options: ByMethodOptions) -> pd.DataFrame:
    frame = _shared(
        records,
        ("quantiles", *options.choice.items()),
        lambda: correlation_by_quantile(records, **options.choice),
    )
    return _of_method(frame, options.method)


def _of_method(frame: pd.DataFrame, method: str | None) -> pd.DataFrame:
    if method is None:
        return frame
    chosen: pd.DataFrame = frame.loc[frame["method"] == method].reset_index(drop=True)
    return chosen


def _pairs(records: Sequence[StoredRecord], options: Compared) -> pd.DataFrame:
    return score_pairs(*records, **options.choice)


def _contrasts(records: Sequence[StoredRecord], options: ContrastsOptions) -> pd.DataFrame:
    return contrasts(align(records, **options.choice), n=options.n)


def _entropy(records: Sequence[StoredRecord], _options: Options) -> pd.DataFrame:
    return action_and_entropy(records)


def _boxes(records: Sequence[StoredRecord], options: SampleOptions) -> pd.DataFrame:
    record = records[0]
    row = positions(record, [options.sample_id])[0]
    if record.boxes is None:
        run = record.run
        raise NotFoundError(
            f"record {record.name} of run {run.run_id} ({run.name}) holds no boxes. "
            "Record them with Recorder.log_boxes."
        )
    ids = record.boxes["sample_id"].to_numpy()
    chosen: pd.DataFrame = record.boxes.loc[ids == record.samples.sample_ids[row]]
    return chosen.reset_index(drop=True)


def _verdicts(records: Sequence[StoredRecord], options: VerdictsOptions) -> pd.DataFrame:
    every_verdict = verdicts.read(records[0])
    return verdicts.current(every_verdict) if options.current else every_verdict


def _precision(records: Sequence[StoredRecord], options: PrecisionOptions) -> pd.DataFrame:
    return precision_of(records[0], verdicts.current(verdicts.read(records[0])), options)


def _fixes(records: Sequence[StoredRecord], options: FixesOptions) -> pd.DataFrame:
    return label_fixes(records[0], at_least=options.at_least, up_to_step=options.up_to_step)


def _wrong_labels(records: Sequence[StoredRecord], options: WrongLabelsOptions) -> pd.DataFrame:
    by_class = options.by == "class"
    return wrong_label_counts(records, by_class=by_class, up_to_step=options.up_to_step)


def _slices(records: Sequence[StoredRecord], options: SlicesOptions) -> pd.DataFrame:
    return slices_of(records, options).table


def _distinct(ids: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(ids))


# The table


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question of the table.

    Attributes:
        name: of the question.
        about: what it answers, one sentence.
        function: from open records and options to the answer.
        options: which there are, with their rules.
        columns: columns that the answer has whatever the records hold.
        least: number of records that it needs.
        most: number of records that it takes; where it is `MAX_RECORDS`, from a server only.
        changes: whether the answer may change while the records do not.
        is_small: whether the answer is small for what it costs, and worth being remembered.
    """

    name: str
    about: str
    function: Callable[[Sequence[StoredRecord], Any], pd.DataFrame]
    options: type[Options]
    columns: tuple[str, ...]
    least: int = 1
    most: int = 1
    changes: bool = False
    is_small: bool = True


_RUN = ("run_id", "run_name", "model")

_TABLE = (
    Question(
        name="scores",
        about="Every score of every sample of a run.",
        function=_scores,
        options=OrderedOptions,
        columns=(*_RUN, "record", "complete", "sample_id", "class", "action", "n_steps"),
        is_small=False,
    ),
    Question(
        name="distributions",
        about="Histogram of a score: how many samples lie from low to high.",
        function=_distributions,
        options=HistogramOptions,
        columns=("class", "low", "high", "count"),
    ),
    Question(
        name="classes",
        about="Distribution of a score per class, hardest class first.",
        function=_classes,
        options=Scored,
        columns=(*_RUN, "rank", "class", "n", "mean", "std", "median", "q05", "q95"),
    ),
    Question(
        name="curves",
        about="Loss against step of some samples, or of the n hardest of each run.",
        function=_curves,
        options=CurvesOptions,
        columns=(*_RUN, "sample_id", "step", "loss", "action"),
        most=MAX_RECORDS,
        is_small=False,
    ),
    Question(
        name="clusters",
        about="K-means of all loss curves: centres, and the curves closest to each.",
        function=_clusters,
        options=ClustersOptions,
        columns=(*_RUN, "cluster", "trend", "kind", "rank", "sample_id", "step", "loss"),
    ),
    Question(
        name="neighbours",
        about="Nearest neighbours of samples in feature space.",
        function=_neighbours,
        options=NeighboursOptions,
        columns=(*_RUN, "query_id", "query_class", "rank", "sample_id", "class", "distance"),
    ),
    Question(
        name="correlations",
        about="Correlation of a score between models or runs, overall and per class. Rows of the "
        "kind same-model are the ceiling of the others.",
        function=_correlations,
        options=CorrelationsOptions,
        columns=("method", "class", "n_samples", "n_dropped"),
        least=2,
        most=MAX_RECORDS,
    ),
    Question(
        name="quantiles",
        about="Correlation among the samples above each quantile of the score.",
        function=_quantiles,
        options=ByMethodOptions,
        columns=("method", "kind", "model_a", "model_b", "quantile", "mean", "n_samples"),
        least=2,
        most=MAX_RECORDS,
    ),
    Question(
        name="pairs",
        about="One score of two runs side by side.",
        function=_pairs,
        options=Compared,
        columns=("sample_id", "class", "score_a", "score_b"),
        least=2,
        most=2,
    ),
    Question(
        name="contrasts",
        about="Samples that are hard for one model and easy for another.",
        function=_contrasts,
        options=ContrastsOptions,
        columns=("hard_for", "easy_for", "place", "sample_id", "class", "difference"),
        least=2,
        most=MAX_RECORDS,
    ),
    Question(
        name="entropy",
        about="Action against predictive entropy, of one run or of an ensemble of runs.",
        function=_entropy,
        options=Options,
        columns=("sample_id", "class", "action", "entropy", "correct"),
        most=MAX_RECORDS,
    ),
    Question(
        name="boxes",
        about="Annotated and predicted boxes of a sample.",
        function=_boxes,
        options=SampleOptions,
        columns=("sample_id", "kind", "class", "score", "left", "top", "right", "bottom"),
        is_small=False,
    ),
    Question(
        name="verdicts",
        about="What people said of samples.",
        function=_verdicts,
        options=VerdictsOptions,
        columns=verdicts.COLUMNS,
        changes=True,
    ),
    Question(
        name="precision",
        about="Precision at k from the verdicts: how many of the hardest have a wrong label.",
        function=_precision,
        options=PrecisionOptions,
        columns=("k", "n_judged", "n_wrong", "n_ambiguous", "n_fine", "precision"),
        changes=True,
    ),
    Question(
        name="fixes",
        about="Labels that are likely to be wrong, and the class that is likely to be right.",
        function=_fixes,
        options=FixesOptions,
        columns=("sample_id", "class", "p_wrong", "suggested_class", "p_suggested", "verdict"),
        changes=True,
    ),
    Question(
        name="wrong_labels",
        about="How many labels of a run are wrong, or of each class.",
        function=_wrong_labels,
        options=WrongLabelsOptions,
        columns=(*_RUN, "record", "n_samples", "n_wrong", "share"),
        most=MAX_RECORDS,
    ),
    Question(
        name="slices",
        about="Groups of the attributes of samples that are harder, or easier, than their classes.",
        function=_slices,
        options=SlicesOptions,
        columns=("slice", "n", "rank_difference", "p_harder", "p_value", "q_value"),
        most=MAX_RECORDS,
        changes=True,
    ),
)

#: Every question by its name.
QUESTIONS: Mapping[str, Question] = {question.name: question for question in _TABLE}


def _check_number(question: Question, n_records: int, *, limited: bool) -> None:
    least, most = question.least, question.most
    is_open = most == MAX_RECORDS and not limited
    if n_records < least or (n_records > most and not is_open):
        upper = " or more" if is_open else "" if most == least else f" to {most}"
        rule = f"must be {least}{upper} for the question {question.name}"
        raise ParameterError("number of runs", rule, n_records, "Choose as many runs.")


def ask(
    name: str,
    records: Sequence[StoredRecord],
    options: Mapping[str, Any] | None = None,
    *,
    limited: bool = False,
) -> pd.DataFrame:
    """The answer to a question of the table.

    Args:
        name: of the question.
        records: open records, as many as the question needs.
        options: of the question; those left out have their default.
        limited: whether the limits of a server hold, see `options.ServerLimit`.

    Returns:
        A frame that may be shared with others that ask: change nothing in place.

    Raises:
        ParameterError: if there is no such question, or an option or the number of records breaks
            a rule.
    """
    question = QUESTIONS.get(name)
    if question is None:
        rule = f"must be one of {', '.join(QUESTIONS)}"
        raise ParameterError("question", rule, name, "Choose one of these.")
    _check_number(question, len(records), limited=limited)
    choice = validated(question.options, options or {}, limited=limited)
    if question.changes or not question.is_small or getattr(choice, "slices", None):
        return question.function(records, choice)
    key = (name, choice.model_dump_json())
    return _shared(records, key, lambda: question.function(records, choice))
