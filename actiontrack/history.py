"""The loss history of one split in one run.

Vocabulary:
    sample: one row of the dataset, known by a stable id, never by its position in a batch.
    step: one recorded state θₙ of the model. Step 0 is the untrained model, step n the model
        after n epochs (or after the n-th recorded interval of updates).
    Δn: the weight of a step in the action sum, see `DELTA_KINDS`.
    mode: how a loss was obtained, see `MODES`.
    missing: the sample was not seen in that step. Missing is not NaN: a NaN loss was seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from actiontrack.errors import ParameterError

__all__ = [
    "DELTA_KINDS",
    "MEASURES",
    "MODES",
    "FloatArray",
    "IdArray",
    "IntArray",
    "LossHistory",
    "check_choice",
]

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.integer]
BoolArray = npt.NDArray[np.bool_]
IdArray = npt.NDArray[np.generic]

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
        "correct": "whether the predicted class is the label",
    }
)

# Stands for "not given" in the fields whose default depends on the shape of the losses.
_DEFAULT: npt.NDArray[Any] = np.empty(0)


@dataclass(frozen=True, kw_only=True, eq=False)
class LossHistory:
    """Per-sample losses over the steps of one training run, validated once.

    Attributes:
        losses: (n_steps, n_samples) float32. Entries that are False in `seen` become NaN.
        sample_ids: (n_samples,) int64 or str, unique, ascending.
        labels: (n_samples,) int64 class indices as trained on, or None.
        true_labels: (n_samples,) int64, where the truth behind noisy labels is known, or None.
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
        ParameterError: if shapes disagree, ids are neither integers nor strings, repeat or
            descend, steps descend, or a Δn is not positive.
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
            raise ParameterError(
                "losses", "must have shape (n_steps, n_samples)", losses.shape, "Stack the steps."
            )
        n_steps = losses.shape[0]
        _set(self, "losses", losses)
        _set(self, "sample_ids", _id_array(self.sample_ids))
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
            raise ParameterError(
                "deltas", "must be positive", float(self.deltas.min()), "Pass Δn > 0 for each step."
            )


def _id_array(ids: npt.ArrayLike) -> IdArray:
    array = np.asarray(ids)
    texts = array.tolist() if array.dtype.kind == "O" and array.ndim == 1 else []
    if texts and all(isinstance(each, str) for each in texts):
        array = np.array(texts, dtype=np.str_)
    if array.size and array.dtype.kind not in "iuU":
        raise ParameterError(
            "sample_ids",
            "must be integers or strings",
            array.ravel()[:3].tolist(),
            "Give each sample a stable id.",
        )
    return array


def _set(history: LossHistory, name: str, value: object) -> None:
    object.__setattr__(history, name, value)


def check_choice(argument: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not one of the choices.

    Raises:
        ParameterError: names the argument, the choices and the value.
    """
    if value not in choices:
        raise ParameterError(
            argument, f"must be one of {', '.join(choices)}", value, "Choose one of these."
        )


def _check_shape(name: str, values: npt.NDArray[np.generic] | None, shape: tuple[int, ...]) -> None:
    if values is not None and values.shape != shape:
        raise ParameterError(
            name, f"must have shape {shape}", values.shape, "Give one value per sample and step."
        )
