"""Several processes that train together record all of them or none: one that stops is waited for.

Recording gathers the losses of all processes. If one of them gave up, the others would wait for it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

__all__ = ["Reason", "agreed", "reason_of_writer"]


@dataclass
class Reason:
    """Why the process that writes has given up, the same on every process; empty if it has not."""

    text: str = ""


@contextmanager
def reason_of_writer() -> Iterator[Reason]:
    """Tell every process what went wrong in the block on the one that writes."""
    reason = Reason()
    try:
        yield reason
    except Exception as error:  # noqa: BLE001 - raised again by every process
        reason.text = str(error) or type(error).__name__
    group = _group()
    if group is not None:
        texts = [reason.text]
        group.broadcast_object_list(texts, src=0)
        reason.text = texts[0]


def agreed(*, going_on: bool) -> bool:
    """Whether every process goes on; each has to ask."""
    group = _group()
    if group is None:
        return going_on
    answers: list[Any] = [None] * group.get_world_size()
    group.all_gather_object(answers, going_on)
    return all(answers)


def _group() -> Any:
    """PyTorch's module of process groups, where there is one of several processes."""
    dist: Any = sys.modules.get("torch.distributed")
    if dist is None or not (dist.is_available() and dist.is_initialized()):
        return None
    return dist if dist.get_world_size() > 1 else None
