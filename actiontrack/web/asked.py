"""What the address of a page asks for: a record, samples in an order, one sample.

The whole state of a page is in its address, so that a link shows what its sender saw.
"""

from dataclasses import dataclass, replace
from typing import Any

import flask
import numpy as np
import numpy.typing as npt

from actiontrack.analysis.exploration import SampleFilter
from actiontrack.errors import ParameterError
from actiontrack.history import Classes
from actiontrack.scores import score_unit
from actiontrack.web import query
from actiontrack.web.data import Data, RunView
from actiontrack.web.query import Parameter
from actiontrack.web.rendering import plain
from actiontrack.web.routes import current_site

__all__ = [
    "SAMPLES",
    "SIZES",
    "Samples",
    "asked",
    "class_list",
    "class_name",
    "model_name",
    "paged",
    "score_name",
    "step_name",
]

#: Samples of a page that can be chosen.
SIZES = (24, 48, 96, 192)
_MOST = 500

#: Parameters that say which samples, in which order.
SAMPLES = (query.RECORD, query.SCORE, query.ORDER, *query.SAMPLE_FILTER)


def paged(default: int) -> tuple[Parameter, Parameter]:
    """Parameters of a page of images or rows."""
    return query.PAGE, replace(query.PER_PAGE, default=default, most=_MOST)


def asked(*parameters: Parameter) -> dict[str, Any]:
    """The values of a page's parameters, from the address or from a form that was sent.

    Raises:
        ParameterError: if one breaks a rule, or is unknown.
    """
    request = flask.request
    return query.parse(parameters, request.form if request.method == "POST" else request.args)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Some samples of a record, in an order.

    Attributes:
        view: the record.
        wanted: which samples.
        score: by which they are sorted.
        order: "hardest" or "easiest" first.
    """

    view: RunView
    wanted: SampleFilter
    score: str
    order: str

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Samples":
        """From the values of a run and of `SAMPLES`."""
        view = _data().run(values["run"], values["record"])
        if values["score"] not in view.scores:
            rule = f"must be one of {', '.join(view.scores)}"
            raise ParameterError("score", rule, values["score"], "Choose one of these.")
        return cls(
            view=view,
            wanted=query.sample_filter(values),
            score=values["score"],
            order=values["order"],
        )

    @property
    def query(self) -> dict[str, Any]:
        """Parameters that carry the choice to another page; what is the default is left out."""
        wanted = self.wanted
        given = {
            "score": self.score if self.score != query.SCORE.default else None,
            "order": self.order if self.order != query.ORDER.default else None,
            "class": list(wanted.classes) or None,
            "correct": wanted.correct if wanted.correct != "all" else None,
            "low": wanted.low,
            "high": wanted.high,
        }
        return {name: value for name, value in given.items() if value is not None}

    def context(self) -> dict[str, Any]:
        """What templates need to show the choice and to keep it in links and forms."""
        pairs = [
            (name, each)
            for name, value in self.query.items()
            for each in (value if isinstance(value, list) else [value])
        ]
        return {
            "view": self.view,
            "wanted": self.wanted,
            "score": self.score,
            "order": self.order,
            "state": self.query,
            "state_pairs": pairs,
        }

    def ids(self) -> npt.NDArray[Any]:
        """Ids of the samples, in order."""
        return _data().ordered_ids(
            self.view.info.run_id,
            self.view.record,
            wanted=self.wanted,
            score=self.score,
            order=self.order,
        )

    def around(self, sample_id: Any) -> tuple[int | None, Any, Any]:
        """Place of a sample from 1, and the ids before and after it; None where there is none."""
        ids = self.ids()
        found = np.flatnonzero(ids == sample_id)
        if not len(found):
            return None, None, plain(ids[0]) if len(ids) else None
        at = int(found[0])
        before = plain(ids[at - 1]) if at > 0 else None
        after = plain(ids[at + 1]) if at + 1 < len(ids) else None
        return at + 1, before, after

    def next_without(self, judged: set[Any], sample_id: Any = None) -> Any:
        """The first sample after one (or of all) that is not among the judged, going round.

        Returns:
            Its id, or None if there is no other.
        """
        ids = self.ids().tolist()
        start = ids.index(sample_id) + 1 if sample_id in ids else 0
        rounds = [*ids[start:], *ids[:start]]
        return next((each for each in rounds if each not in judged and each != sample_id), None)


# Names


def model_name(view: RunView) -> str:
    """Model of a record, else of its run."""
    return view.manifest.model or view.info.model


def class_name(view: RunView, index: int | None) -> str | None:
    """Name of a class index, None for none."""
    return None if index is None else Classes(view.manifest.class_names).of(index)


def class_list(view: RunView) -> list[tuple[int, str]]:
    """Every class with its index, to choose from."""
    if view.manifest.class_names:
        return list(enumerate(view.manifest.class_names))
    return [(int(each), each) for each in view.class_names if each.isdigit()]


def score_name(view: RunView, score: str) -> str:
    """A score with its unit, where it has one."""
    unit = score_unit(score, view.manifest.delta_kind, loss=view.manifest.loss_name)
    return f"{score} ({unit})" if unit else score


def step_name(view: RunView) -> str:
    """What a step of a record is."""
    return "epoch" if view.manifest.delta_kind == "epoch" else "step"


def _data() -> Data:
    return current_site().data
