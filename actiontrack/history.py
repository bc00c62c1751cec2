"""The loss history of one split in one run.

Vocabulary:
    sample: one row of the dataset, identified by a stable id, never by its position in a batch.
    step: one recorded state θₙ of the model. Step 0 is the untrained model, step n the model
        after n epochs (or after the n-th recorded interval of updates).
    Δn: the weight of a step in the action sum, see `DELTA_KINDS`.
    mode: how a loss was obtained, see `MODES`.
    missing: the sample was not seen in that step. Missing is not NaN: a NaN loss was seen.
    class index: position in the names of the classes. A negative one means unknown.
"""

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, device

from actiontrack.errors import ParameterError, check_choice

__all__ = [
    "DELTA_KINDS",
    "MEASURES",
    "MODES",
    "UNKNOWN",
    "Classes",
    "FloatArray",
    "IdArray",
    "IntArray",
    "LossHistory",
    "check_choice",
    "classification_measures",
    "id_array",
    "known_truth",
    "wrong_labels",
]

#: Arrays of floats, integers, truth values and ids (int64 or str).
FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.integer]  # integers
BoolArray = npt.NDArray[np.bool_]
IdArray = npt.NDArray[np.generic]  # int64 or str

#: What Δn counts, and its unit.
DELTA_KINDS: Mapping[str, str] = MappingProxyType(
    {"epoch": "epochs", "batch": "updates", "wall_time": "s"}
)

#: probe: an evaluation pass after each epoch (the paper, section 4.1).
#: inline: the losses of the training batches as they went by, each at another θ.
MODES: tuple[str, ...] = ("probe", "inline")

#: Per-sample measures of a classifier that are kept beside the loss at each step.
MEASURES: Mapping[str, str] = MappingProxyType(
    {
        "target_probability": "softmax probability of the label",
        "margin": "logit of the label minus the largest other logit",
        "el2n": "L2 norm of softmax probabilities minus the one-hot label",
        "entropy": "entropy of the softmax probabilities, in nats",
        "predicted": "class index with the largest logit",
        "largest_other": "class index with the largest logit other than the label's",
        "correct": "whether the predicted class is the label",
    }
)

#: Name of the class of an index that is none.
UNKNOWN = "unknown"

_FEW_CLASSES = 64  # up to which a pass over the samples for each class is the faster way

_INT64 = np.iinfo(np.int64)

# Stands for "not passed" in the fields whose default depends on the shape of the losses.
_DEFAULT: npt.NDArray[Any] = np.empty(0)


@dataclass(frozen=True, kw_only=True, eq=False)
class LossHistory:
    """Per-sample losses over the steps of one training run, validated once.

    Attributes:
        losses: (n_steps, n_samples) float32. Entries that are False in `seen` become NaN.
        sample_ids: (n_samples,) int64 or str, unique, ascending.
        labels: (n_samples,) int64 class indices as trained on, or None.
        true_labels: (n_samples,) int64, where the truth behind noisy labels is known, or None;
            -1 for a sample whose truth is unknown.
        steps: (n_steps,) int64, ascending. Default 1..n_steps.
        deltas: (n_steps,) float64, Δn of eq. 3, in the unit of `delta_kind`. Default 1.
        seen: (n_steps, n_samples) bool. Default: everything was seen.
        measures: name -> (n_steps, n_samples), a subset of `MEASURES`.
        components: name -> (n_steps, n_samples) float32, further losses of the same samples.
        class_names: names of the class indices, may be empty.
        split: name of the recorded split, such as "test".
        mode: one of `MODES`.
        delta_kind: one of `DELTA_KINDS`.
        loss_name: what `losses` holds, such as "cross_entropy".

    Raises:
        ParameterError: if shapes disagree, ids are not what `id_array` takes, repeat or descend,
            steps descend, or a Δn is not positive.
    """

    losses: FloatArray
    sample_ids: IdArray
    labels: IntArray | None = None
    true_labels: IntArray | None = None
    steps: IntArray = field(default_factory=lambda: _DEFAULT)
    deltas: FloatArray = field(default_factory=lambda: _DEFAULT)
    seen: BoolArray = field(default_factory=lambda: _DEFAULT)
    measures: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    components: Mapping[str, FloatArray] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    split: str = "test"
    mode: str = "probe"
    delta_kind: str = "epoch"
    loss_name: str = "loss"

    def __post_init__(self) -> None:
        """Fill the defaults, then check everything once."""
        self._fill_defaults()
        check_choice("mode", self.mode, MODES)
        check_choice("delta_kind", self.delta_kind, tuple(DELTA_KINDS))
        self._check_shapes()
        self._check_order()

    @property
    def n_steps(self) -> int:
        """Number of recorded steps."""
        return int(self.losses.shape[0])

    @property
    def n_samples(self) -> int:
        """Number of samples of the split."""
        return int(self.losses.shape[1])

    @property
    def has_initial_state(self) -> bool:
        """Whether the untrained state n = 0 is part of the history, and so of the sum."""
        return self.n_steps > 0 and int(self.steps[0]) == 0

    @property
    def n_nonfinite(self) -> int:
        """Number of seen losses that are NaN or infinite."""
        return int((~np.isfinite(self.losses) & self.seen).sum())

    def _fill_defaults(self) -> None:
        losses = np.asarray(self.losses, dtype=np.float32)
        if losses.ndim != 2:
            rule = "must have shape (n_steps, n_samples)"
            raise ParameterError("losses", rule, losses.shape, "Stack the steps.")
        n_steps = losses.shape[0]
        _set(self, "losses", losses)
        _set(self, "sample_ids", id_array(self.sample_ids))
        for name in ("labels", "true_labels"):
            if getattr(self, name) is not None:
                _set(self, name, np.asarray(getattr(self, name)))
        if self.steps is _DEFAULT:
            _set(self, "steps", np.arange(1, n_steps + 1, dtype=np.int64))
        if self.deltas is _DEFAULT:
            _set(self, "deltas", np.ones(n_steps, dtype=np.float64))
        if self.seen is _DEFAULT:
            _set(self, "seen", np.ones(losses.shape, dtype=np.bool_))
        else:
            _set(self, "seen", np.asarray(self.seen, dtype=np.bool_))
        if self.seen.shape == losses.shape and not np.isnan(losses[~self.seen]).all():
            _set(self, "losses", np.where(self.seen, losses, np.float32(np.nan)))

    def _check_shapes(self) -> None:
        grid, rows = self.losses.shape, (self.n_samples,)
        expected = {"sample_ids": rows, "labels": rows, "true_labels": rows, "seen": grid}
        expected |= {"steps": (self.n_steps,), "deltas": (self.n_steps,)}
        for name, shape in expected.items():
            _check_shape(name, getattr(self, name), shape)
        for name, values in {**self.measures, **self.components}.items():
            _check_shape(name, values, grid)

    def _check_order(self) -> None:
        ids = self.sample_ids
        if ids.size > 1 and not bool((ids[1:] > ids[:-1]).all()):  # type: ignore[operator]
            raise ParameterError(
                "sample_ids", "must be unique and ascending", ids[:5].tolist(), "Sort by id first."
            )
        if self.n_steps > 1 and not bool((np.diff(self.steps) > 0).all()):
            raise ParameterError(
                "steps", "must ascend", self.steps[:5].tolist(), "Sort the steps, drop repeats."
            )
        if not bool((self.deltas > 0).all()):
            lowest, remedy = float(self.deltas.min()), "Pass Δn > 0 for each step."
            raise ParameterError("deltas", "must be positive", lowest, remedy)


@dataclass(frozen=True)
class Classes:
    """Names of class indices.

    Args:
        names: by index; empty where the classes have no names: then an index is its own name.

    >>> Classes(("cat", "dog")).of(1), Classes(("cat", "dog")).of(-1), Classes().of(7)
    ('dog', 'unknown', '7')
    """

    names: tuple[str, ...] = ()

    def of(self, index: float | None) -> str:
        """Name of one index; "unknown" for None, NaN, a negative one, or one beyond the names."""
        if index is None or not index >= 0 or (self.names and index >= len(self.names)):
            return UNKNOWN
        return self.names[int(index)] if self.names else str(int(index))

    def of_each(self, indices: npt.ArrayLike) -> npt.NDArray[np.object_]:
        """Name of each of (n_samples,) indices, as `of` has it."""
        distinct, rows = np.unique(np.asarray(indices), return_inverse=True)
        return np.array([self.of(index) for index in distinct], dtype=object)[rows]

    def coded(self, indices: IntArray) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
        """Indices that are all positions in names: "unknown" becomes a last name if it occurs.

        Returns:
            (n_samples,) int64, and the names: those of the classes, or, where they have none, the
            indices up to the largest.
        """
        codes = np.asarray(indices, dtype=np.int64)
        largest = int(codes.max(initial=-1))
        names = self.names or tuple(str(index) for index in range(largest + 1))
        outside = (codes < 0) | (codes >= len(names))
        if not outside.any():
            return codes, names
        if UNKNOWN not in names:
            names = (*names, UNKNOWN)
        return np.where(outside, names.index(UNKNOWN), codes), names


def known_truth(labels: npt.ArrayLike, true_labels: npt.ArrayLike) -> BoolArray:
    """For which of (n_samples,) samples both are known: negative or missing means unknown."""
    return np.asarray((np.asarray(labels) >= 0) & (np.asarray(true_labels) >= 0))


def wrong_labels(labels: npt.ArrayLike, true_labels: npt.ArrayLike) -> BoolArray:
    """Which labels are wrong: both are known, and they differ.

    >>> wrong_labels([0, 1, 2], [0, 2, -1]).tolist()
    [False, True, False]
    """
    differ = np.asarray(labels) != np.asarray(true_labels)
    return np.asarray(differ & known_truth(labels, true_labels))


def id_array(
    ids: npt.ArrayLike, argument: str = "sample_ids", *, size: str = "n_samples"
) -> IdArray:
    """Ids as int64 or str, each as it was given.

    Args:
        ids: (n,) integers or strings: an array, a list, a tuple or a pandas series.
        argument: name of the argument, for the message.
        size: name of n, for the message.

    Returns:
        (n,) int64 or str.

    Raises:
        ParameterError: if they are not one-dimensional; neither integers nor strings; some of the
            one and some of the other, which NumPy would turn into text; integers that int64 does
            not hold; or strings that end in NUL, which NumPy would cut off.
    """
    try:
        array = np.asarray(ids)
    except ValueError:  # rows of different lengths
        array = np.array(None)
    if array.ndim != 1:
        rule = f"must have shape ({size},)"
        raise ParameterError(argument, rule, array.shape, "Pass one id per sample.")
    if not array.size:
        return array.astype(np.int64)
    if array.dtype.kind in "iu":
        _check_no_truth_value(ids if isinstance(ids, list | tuple) else (), argument)
        _check_range(int(array.min()), int(array.max()), argument)
        return array.astype(np.int64)
    if array.dtype.kind == "U" and isinstance(ids, np.ndarray):
        return array
    return _ids_of_objects(list(ids) if isinstance(ids, list | tuple) else array.tolist(), argument)


def _ids_of_objects(values: list[Any], argument: str) -> IdArray:
    """Ids from Python's own strings or integers, which no NumPy type has changed yet."""
    kinds = str | numbers.Integral
    invalid = [raw for raw in values if isinstance(raw, bool) or not isinstance(raw, kinds)]
    if invalid:
        examples = values[:3] if invalid[0] is values[0] else invalid[:3]
        rule = "must be integers or strings"
        raise ParameterError(argument, rule, examples, "Give each sample a stable id.")
    texts = [value for value in values if isinstance(value, str)]
    if not texts:
        integers = [int(value) for value in values]
        _check_range(min(integers), max(integers), argument)
        return np.array(integers, dtype=np.int64)
    if len(texts) < len(values):
        integer = next(value for value in values if not isinstance(value, str))
        rule, remedy = "must be all integers or all strings", "Turn all of them into text."
        raise ParameterError(argument, rule, [integer, texts[0]], remedy)
    cut = [text for text in texts if text.endswith("\0")]
    if cut:
        remedy = "Rename the sample: NumPy cuts NUL off the end of a text."
        raise ParameterError(argument, "must not end in NUL", cut[0], remedy)
    return np.array(texts, dtype=np.str_)


def _check_no_truth_value(ids: Sequence[Any], argument: str) -> None:
    for value in ids:
        if isinstance(value, bool | np.bool_):
            rule = "must be integers or strings"
            raise ParameterError(argument, rule, bool(value), "Give each sample a stable id.")


def _check_range(lowest: int, highest: int, argument: str) -> None:
    for value in (lowest, highest):
        if not _INT64.min <= value <= _INT64.max:
            rule = "must be integers from -2**63 to 2**63 - 1, or strings"
            remedy = "Pass larger ids as text: [str(id) for id in ids]."
            raise ParameterError(argument, rule, value, remedy)


def _set(history: LossHistory, name: str, value: object) -> None:
    object.__setattr__(history, name, value)


def _check_shape(name: str, values: npt.NDArray[np.generic] | None, shape: tuple[int, ...]) -> None:
    if values is not None and values.shape != shape:
        rule, remedy = f"must have shape {shape}", "Give one value per sample and step."
        raise ParameterError(name, rule, values.shape, remedy)


@np.errstate(invalid="ignore", over="ignore")  # of impossible classes: computed, never chosen
def classification_measures(logits: Any, labels: Any) -> dict[str, Any]:
    """Cross-entropy and the per-sample measures of a batch, for NumPy, PyTorch or JAX arrays.

    One formula for all array libraries, computed where the arrays live, without copying them to
    the host. Cross-entropy is −ln softmax(logits)[label], EL2N after Paul et al. 2021, the margin
    after Pleiss et al. 2020. A logit of −∞ is a class of probability 0.

    Args:
        logits: (batch, n_classes) floating, n_classes ≥ 2. Below 32 bits, computed in float32.
        labels: (batch,) integer class indices of the same array library. An index that is no
            class gives NaN: a loss of 0 would make the sample look easy.

    Returns:
        name -> (batch,) array: "cross_entropy" and the keys of `MEASURES`.
    """
    xp = array_namespace(logits, labels)
    if logits.dtype.itemsize < 4:
        logits = xp.astype(logits, xp.float32)
    n_classes = logits.shape[1]
    # A row for each class, where these are few: one pass over all samples is then long enough to
    # be fast, and a sum over the classes is as exact as in any order.
    by_class = n_classes <= _FEW_CLASSES and str(device(logits)) == "cpu"
    axis = 0 if by_class else 1
    classes = xp.expand_dims(xp.arange(n_classes, device=device(logits)), axis=1 - axis)
    labels = xp.astype(labels, classes.dtype)
    is_class = (labels >= 0) & (labels < n_classes)
    index = labels * is_class
    label, others, places = _parted(logits, index, is_class, classes, axis)
    largest = xp.max(others, axis=axis, keepdims=True)
    rival = _argmax(others, largest, classes) if by_class else xp.argmax(others, axis=axis)
    largest, index = xp.reshape(largest, (-1,)), xp.astype(index, rival.dtype)
    rival += (rival == index) & is_class  # where all others are −∞, as the place of the label is
    top = xp.maximum(label, largest)
    # As `argmax` of all logits has it: the first of the largest, or of those that are NaN.
    is_top, rival_is_top = (label >= top) | xp.isnan(label), (largest >= top) | xp.isnan(largest)
    correct = is_class & is_top & ((index < rival) | ~rival_is_top)
    others -= xp.expand_dims(top, axis=axis)
    if places is not None:
        others.reshape(-1)[places] = xp.finfo(others.dtype).min  # −∞ takes longer
    return _softmax_measures(label - top, others, largest - top, is_class, axis) | {
        "predicted": xp.astype(rival + (index - rival) * correct, classes.dtype),
        "largest_other": xp.astype((rival + 1) * is_class - 1, classes.dtype),
        "correct": correct,
    }


def _parted(logits: Any, index: Any, is_class: Any, classes: Any, axis: int) -> tuple[Any, ...]:
    """Logits of the labels; a new array of the others', −∞ for the labels; NumPy's places of −∞."""
    xp = array_namespace(logits)
    n_classes, is_numpy = logits.shape[1], isinstance(logits, np.ndarray)
    if is_numpy:
        logits = np.array(logits.T if axis == 0 else logits, order="C")
    elif axis == 0:
        logits = xp.reshape(xp.reshape(xp.permute_dims(logits, (1, 0)), (-1,)), (n_classes, -1))
    rows = xp.arange(index.shape[0], device=device(logits))
    position = index * rows.shape[0] + rows if axis == 0 else rows * n_classes + index
    label = xp.take(xp.reshape(logits, (-1,)), position)
    if is_numpy:
        places = position[is_class]
        logits.reshape(-1)[places] = -np.inf
        return label, logits, places
    is_label = (classes == xp.expand_dims(index, axis=axis)) & xp.expand_dims(is_class, axis=axis)
    # Filled on the device: a copy from the host would wait for it.
    nothing = xp.full((), -float("inf"), dtype=logits.dtype, device=device(logits))
    return label, xp.where(is_label, nothing, logits), None


def _softmax_measures(
    label: Any, others: Any, largest: Any, is_class: Any, axis: int
) -> dict[str, Any]:
    """The measures that follow from logits minus their largest, whose classes lie along `axis`."""
    # The label's own numbers, and those of the other classes: each is as exact as it can be, where
    # p - 1 of a sure prediction, or a sum of all minus one, would be rounding noise.
    xp = array_namespace(label)
    number = partial(xp.full, (), dtype=label.dtype, device=device(label))
    least, nothing = number(float(xp.finfo(label.dtype).min)), number(0.0)
    nan_if_none = xp.where(is_class, nothing, number(float("nan")))
    of_label, of_others = xp.where(is_class, xp.exp(label), nothing), xp.exp(others)
    rest = xp.sum(of_others, axis=axis)
    total = rest + of_label
    log_total = xp.log(total)
    # 0 · −∞ is no number, and a class of probability 0 weighs nothing. In place where nobody sees
    # it: fetching memory takes longer here than the arithmetic.
    is_finite = isinstance(others, np.ndarray) and others.min(initial=0) >= least
    terms = others if is_finite else xp.maximum(others, least)
    terms *= of_others
    weighed = xp.sum(terms, axis=axis) + of_label * xp.maximum(label, least)
    of_others *= of_others
    log_p_label = label - log_total + nan_if_none
    return {
        "cross_entropy": 0 - log_p_label,  # a perfect prediction has loss 0.0 and not -0.0
        "target_probability": xp.exp(log_p_label),
        "margin": label - xp.where(largest > least, largest, number(-float("inf"))) + nan_if_none,
        "el2n": xp.sqrt(rest**2 + xp.sum(of_others, axis=axis)) / total + nan_if_none,
        "entropy": log_total - weighed / total,
    }


def _argmax(logits: Any, top: Any, classes: Any) -> Any:
    """Index of the first largest of few logits, or of the first NaN, for each column.

    What `argmax` along the first axis says, in a tenth of its time: ranks in bytes.
    """
    xp = array_namespace(logits)
    n_classes = classes.shape[0]
    ranks = xp.astype(n_classes - classes, xp.int8)
    rank = xp.max((logits >= top) * ranks, axis=0)
    if not (isinstance(logits, np.ndarray) and rank.all()):  # nothing equals NaN
        rank = xp.maximum(rank, xp.max(xp.isnan(logits) * ranks, axis=0))
    return n_classes - rank
