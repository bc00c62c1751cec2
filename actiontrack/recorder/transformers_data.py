"""What a Hugging Face Trainer does with the items of a dataset before its model gets them."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.utils.generic import find_labels

__all__ = [
    "SAMPLE_ID",
    "KeepsIds",
    "ProbeCollator",
    "epochs_begun",
    "evaluated_weights",
    "is_inside",
    "moved",
    "precision_of",
    "same_rows",
    "used_columns",
]

SAMPLE_ID = "sample_id"
_ROUNDING = 1e-6  # by which a number of whole epochs may miss an integer

Collate = Callable[[list[Any]], Any]


class ProbeCollator:
    """Collation that keeps ids, also text, and unused columns away from the Trainer's collator.

    Args:
        collate: of the Trainer.
        columns: those that the model takes, or None for all.
    """

    def __init__(self, collate: Collate, columns: frozenset[str] | None) -> None:
        self.collate, self.columns = collate, columns

    def __call__(self, items: list[Mapping[str, Any]]) -> tuple[list[Any], Any]:
        """The ids, or an empty list where items have none, and the batch."""
        ids = [item[SAMPLE_ID] for item in items if SAMPLE_ID in item]
        return ids, self.collate([self._used(item) for item in items])

    def _used(self, item: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: item[name]
            for name in item
            if name != SAMPLE_ID and (self.columns is None or name in self.columns)
        }


class KeepsIds:
    """A data collator whose batches have the ids that its items have, whatever it drops itself.

    Args:
        collate: the data collator.
    """

    def __init__(self, collate: Collate) -> None:
        self.collate = collate

    def __call__(self, items: list[Mapping[str, Any]]) -> Any:
        """The batch, with "sample_id" where every item has one."""
        batch = self.collate(
            [{name: item[name] for name in item if name != SAMPLE_ID} for item in items]
        )
        ids = [item[SAMPLE_ID] for item in items if SAMPLE_ID in item]
        if len(ids) == len(items):
            texts = isinstance(ids[0], str)
            batch[SAMPLE_ID] = ids if texts else torch.as_tensor(np.asarray(ids))
        return batch


def used_columns(model: nn.Module, args: Any) -> frozenset[str] | None:
    """Columns of a dataset that the Trainer does not remove, or None where it removes none."""
    if not args.remove_unused_columns:
        return None
    base: Any = model
    if hasattr(model, "get_base_model"):  # of PEFT, whose forward takes anything
        base = model.get_base_model()  # type: ignore[operator]
    names = args.label_names
    labels = find_labels(type(base)) if names is None else names  # type: ignore[no-untyped-call]
    return frozenset([*inspect.signature(base.forward).parameters, "label", "label_ids", *labels])


def same_rows(data: Any, other: Any) -> bool:
    """Whether two datasets have the same items, as far as a look at a few of them tells.

    The Trainer evaluates a copy of a `datasets.Dataset`, without the columns that it removes.
    """
    if data is other:
        return True
    if not hasattr(data, "column_names") or not hasattr(other, "column_names"):
        return False
    columns = [name for name in other.column_names if name in data.column_names]
    if len(data) != len(other) or not columns or not len(data):
        return False
    rows = sorted({0, len(data) // 3, len(data) // 2, len(data) - 1})
    return all(_equal(data[row], other[row], columns) for row in rows)


def _equal(item: Mapping[str, Any], other: Mapping[str, Any], columns: Sequence[str]) -> bool:
    return all(
        name in item
        and name in other
        and np.array_equal(np.asarray(item[name]), np.asarray(other[name]))
        for name in columns
    )


@contextmanager
def evaluated_weights(optimizer: Any) -> Iterator[str]:
    """The weights that the Trainer evaluates: those of the optimiser's own evaluation mode.

    A schedule-free optimiser evaluates an average of those that it trains. The latter are
    afterwards what they were, bit for bit.

    Yields:
        Name of the optimiser's class, or the empty string for one without such a mode.
    """
    inner = getattr(optimizer, "optimizer", optimizer)  # below Accelerate's
    modes = [getattr(inner, name, None) for name in ("eval", "train")]
    if not all(callable(mode) for mode in modes):
        yield ""
        return
    parameters = [value for group in inner.param_groups for value in group["params"]]
    before = [value.detach().clone() for value in parameters]
    inner.eval()
    try:
        yield type(inner).__name__
    finally:
        inner.train()
        with torch.no_grad():
            for value, saved in zip(parameters, before, strict=True):
                value.copy_(saved)


def precision_of(args: Any, model: nn.Module) -> str:
    """The type in which the model computes, see `loss_check.differs`."""
    parameter = next(model.parameters(), None)
    dtype = torch.float32 if parameter is None else parameter.dtype
    if args.bf16 or dtype == torch.bfloat16:
        return "bfloat16"
    tf32 = args.device.type != "cpu" and torch.get_float32_matmul_precision() != "highest"
    return "float16" if args.fp16 or dtype == torch.float16 or tf32 or args.tf32 else "float32"


def is_inside(epoch: float | None) -> bool:
    """Whether a number of epochs is not a whole number."""
    return epoch is not None and abs(epoch - round(epoch)) > _ROUNDING


def epochs_begun(epoch: float) -> int:
    """Number of the epoch in which training is, or which it has just ended."""
    return math.ceil(epoch - _ROUNDING)


def moved(value: Any, device: Any) -> Any:
    """A value on a device, if it is one that lies on devices."""
    return value.to(device) if hasattr(value, "to") else value
