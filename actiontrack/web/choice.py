"""The samples that the address of a page chooses: a record, filters, an order.

The whole state of a page is in its address, so that a link shows what its sender saw.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeVar

import flask
import numpy as np
import numpy.typing as npt

from actiontrack.analysis.options import Options, OrderedOptions
from actiontrack.errors import ParameterError
from actiontrack.history import Classes
from actiontrack.scores import score_unit
from actiontrack.web.parameters import SampleChoice, parse
from actiontrack.web.rendering import plain
from actiontrack.web.routes import current_site
from actiontrack.web.runs import RunView, view_run
from actiontrack.web.samples import ordered_ids

__all__ = [
    "MAX_IMAGES",
    "SIZES",
    "ChosenSamples",
    "class_list",
    "class_name",
    "read_parameters",
    "score_name",
    "step_name",
    "view_of",
]

#: Samples of a page that can be chosen.
SIZES = (24, 48, 96, 192)
#: Samples of a page at most.
MAX_IMAGES = 500

_Model = TypeVar("_Model", bound=Options)
_DEFAULTS = {"score": "action", "order": "hardest", "correct": "all"}


def read_parameters(model: type[_Model]) -> _Model:
    """The values of a page's parameters, from the address or from a form that was sent.

    Raises:
        ParameterError: if one breaks a rule, or is unknown.
    """
    request = flask.request
    return parse(model, request.form if request.method == "POST" else request.args)


def view_of(run_id: str, record: str | None) -> RunView:
    """What a record of the present site offers."""
    site = current_site()
    return view_run(site.records, site.image_roots, run_id, record)


@dataclass(frozen=True, kw_only=True)
class ChosenSamples:
    """Some samples of a record, in an order.

    Attributes:
        view: the record.
        options: which samples, by which score, in which order.
    """

    view: RunView
    options: SampleChoice

    @classmethod
    def of(cls, options: SampleChoice) -> "ChosenSamples":
        """From the parameters of a page.

        Raises:
            ParameterError: if the record has no such score.
        """
        view = view_of(options.run, options.record)
        if options.score not in view.scores:
            rule = f"must be one of {', '.join(view.scores)}"
            raise ParameterError("score", rule, options.score, "Choose one of these.")
        return cls(view=view, options=options)

    @property
    def question(self) -> dict[str, Any]:
        """The choice as options of the question scores."""
        return self.options.model_dump(by_alias=True, include=set(OrderedOptions.model_fields))

    @property
    def query(self) -> dict[str, Any]:
        """Parameters that carry the choice to another page; what is the default is left out."""
        options = self.options
        choice = {
            "score": options.score,
            "order": options.order,
            "class": list(options.classes) or None,
            "correct": options.correct,
            "low": options.low,
            "high": options.high,
            "slice": list(options.slices) or None,
        }
        return {
            name: value
            for name, value in choice.items()
            if value is not None and value != _DEFAULTS.get(name)
        }

    def context(self) -> dict[str, Any]:
        """What templates need to show the choice and to keep it in links and forms."""
        pairs = [
            (name, one)
            for name, value in self.query.items()
            for one in (value if isinstance(value, list) else [value])
        ]
        return {
            "view": self.view,
            "sample_filter": self.options.sample_filter,
            "slices": self.options.slices,
            "score": self.options.score,
            "order": self.options.order,
            "state": self.query,
            "state_pairs": pairs,
        }

    def ids(self) -> npt.NDArray[Any]:
        """Ids of the samples, in order."""
        return ordered_ids(
            current_site().records,
            self.view.info.run_id,
            self.view.record,
            sample_filter=self.options.sample_filter,
            slices=self.options.slices,
            score=self.options.score,
            order=self.options.order,
        )

    def around(self, sample_id: Any) -> tuple[int | None, Any, Any]:
        """Number of a sample from 1, and the ids before and after it; None where there is none."""
        ids = self.ids()
        matches = np.flatnonzero(ids == sample_id)
        if not len(matches):
            return None, None, plain(ids[0]) if len(ids) else None
        row = int(matches[0])
        before = plain(ids[row - 1]) if row > 0 else None
        after = plain(ids[row + 1]) if row + 1 < len(ids) else None
        return row + 1, before, after

    def next_without(self, judged: Set[Any], sample_id: Any = None) -> Any:
        """The first sample after one (or of all) that is not among the judged, going round.

        Returns:
            Its id, or None if there is no other.
        """
        ids = self.ids().tolist()
        start = ids.index(sample_id) + 1 if sample_id in ids else 0
        rounds = [*ids[start:], *ids[:start]]
        return next((one for one in rounds if one not in judged and one != sample_id), None)


# Names


def class_name(view: RunView, index: int | None) -> str | None:
    """Name of a class index as `history.Classes` has it, None for none."""
    return None if index is None else Classes(view.manifest.class_names).of(index)


def class_list(view: RunView) -> list[tuple[int, str]]:
    """Every class with its index, to choose from."""
    names: Sequence[str] = view.manifest.class_names
    if names:
        return list(enumerate(names))
    return [(int(name), name) for name in view.class_names if name.isdigit()]


def score_name(view: RunView, score: str) -> str:
    """A score with its unit, where it has one."""
    unit = score_unit(score, view.manifest.delta_kind, loss=view.manifest.loss_name)
    return f"{score} ({unit})" if unit else score


def step_name(view: RunView) -> str:
    """What a step of a record is."""
    return "epoch" if view.manifest.delta_kind == "epoch" else "step"
