"""Model cards (Mitchell et al. 2019) with the numbers of a record, and a place for human words.

What stands between the markers of a section is a person's and survives; the rest is written anew.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import yaml

from actiontrack import analysis
from actiontrack.analysis.sentences import describe_noise, short_number
from actiontrack.analysis.tables import open_record
from actiontrack.errors import DataError
from actiontrack.history import Classes
from actiontrack.reporting.common import has_classes
from actiontrack.reporting.factors import Factors
from actiontrack.reporting.findings import holds_noise
from actiontrack.reporting.markup import markdown_table, markdown_text
from actiontrack.reporting.suspects import wrong_label_sentence
from actiontrack.store import StoredRecord

__all__ = ["HEADINGS", "model_card"]

#: The headings of Mitchell et al. 2019, and what a person is asked for below each.
HEADINGS: Mapping[str, str] = {
    "Model Details": "Who made the model, licence, citation, contact.",
    "Intended Use": "Primary uses and users, and uses that are out of scope.",
    "Factors": "Groups, instruments and environments that matter, and why these were evaluated.",
    "Metrics": "Why these metrics, decision thresholds, treatment of uncertainty.",
    "Evaluation Data": "Why this data, and how it was prepared.",
    "Training Data": "Where the training data comes from, and how it was prepared.",
    "Quantitative Analyses": "What the numbers mean for the intended use.",
    "Ethical Considerations": "Sensitive data, risks and harms, and what was done against them.",
    "Caveats and Recommendations": "What was not tested, and what users should do.",
}

_BEGIN, _END = "<!-- begin: your words on {} -->", "<!-- end: your words on {} -->"
_WORDS = re.compile(
    r"<!-- begin: your words on (?P<name>[^\n]*?) -->\n?(?P<text>.*?)\n?"
    r"<!-- end: your words on (?P=name) -->",
    re.DOTALL,
)
_FRONT = re.compile(r"\A---\r?\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)
_TAGS = ("actiontrack", "action-score")
_PLAIN = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?")
_MAX_CONFUSIONS = 10
_CONFUSED = (
    "Given and predicted class of the samples that are predicted wrong at the last step, the most "
    "frequent pairs."
)
_BY_ATTRIBUTE = (
    "By attribute, groups of 30 samples or more, the hardest first. The rank difference is that of "
    "the mean ranks by action within the class, from −1 (easier than all others) to 1; the q value "
    "is the rate of false discoveries."
)
_BY_PAIR = "Groups of two attributes, or of one and a class, those that differ most."
_TOP = 0.05  # part of the samples that counts as the hardest


def model_card(
    record: StoredRecord, existing: str = "", *, task: str = "image-classification"
) -> str:
    """Write the model card of a run, in Markdown with the front matter of Hugging Face.

    The front matter keeps what it held and gets tags, metrics and the model-index. Every section
    begins with what the record tells; what a person wrote between its markers stays.

    Args:
        record: an open record of an evaluation, such as "test-probe".
        existing: the card as it is, made by this function before, or the empty string.
        task: the task of the model-index, as Hugging Face names it.

    Returns:
        The card. The same record and words give the same text.

    Raises:
        DataError: if `existing` is no card with markers, or its front matter is no YAML mapping.
    """
    open_record(record)
    front, words = _read(existing)
    table = analysis.score_frame([record])
    factors = Factors.of(record, table)
    parts = {
        "Model Details": _details(record),
        "Factors": _factors(record, table, factors),
        "Metrics": _metrics(record, table),
        "Evaluation Data": _data(record, table),
        "Training Data": _training(record),
        "Quantitative Analyses": _analyses(record, table, factors),
        "Caveats and Recommendations": _caveats(record),
    }
    headings = {heading: f"*{title}*" for heading, title in HEADINGS.items()}
    # Words of a section that there is no more come last: nothing is lost.
    sections = [
        _section(heading, parts.get(heading, ""), note)
        for heading, note in (headings | words).items()
    ]
    name = str(front.get("model_name") or analysis.model_of(record))
    head = yaml.safe_dump(
        _front(front, record, table, task, name), sort_keys=False, allow_unicode=True, width=100
    )
    title = markdown_text(name)
    body = "\n\n".join(sections)
    note = "<!-- Write between the markers: the rest is written anew by `actiontrack card`. -->"
    return f"---\n{head}---\n\n{note}\n\n# {title}\n\n{body}\n"


def _section(heading: str, facts: str, note: str) -> str:
    """What the record tells, then a person's words between their markers."""
    begin, end = _BEGIN.format(heading), _END.format(heading)
    return "\n\n".join(filter(None, [f"## {heading}", facts, f"{begin}\n{note}\n{end}"]))


def _read(text: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Front matter and human words of a card, by heading."""
    if not text.strip():
        return {}, {}
    words = {section["name"]: section["text"] for section in _WORDS.finditer(text)}
    if not words:
        raise DataError(
            "the file is no card that actiontrack has made: it has no markers around your words. "
            "Name another file, or move it away first."
        )
    match = _FRONT.match(text)
    try:
        front = yaml.safe_load(match[1]) if match else {}
    except yaml.YAMLError as error:
        raise DataError(f"the card's front matter is no YAML: {error}. Correct it.") from error
    if not isinstance(front, dict | None):
        raise DataError("the card's front matter is no mapping. Correct it.")
    return front or {}, words


def _front(
    front: Mapping[str, Any], record: StoredRecord, table: pd.DataFrame, task: str, name: str
) -> dict[str, Any]:
    dataset = _dataset(record)
    made: dict[str, Any] = {"model_name": name}
    if _PLAIN.fullmatch(dataset):
        made["datasets"] = [dataset]
    accuracy = float(table["correct"].mean()) if "correct" in table.columns else None
    made["metrics"] = ["accuracy"] if accuracy is not None else []
    others = {key: value for key, value in front.items() if key not in {"model-index", "tags"}}
    tags = list(dict.fromkeys([*(front.get("tags") or ()), *_TAGS]))
    values = [] if accuracy is None else [{"type": "accuracy", "value": round(accuracy, 6)}]
    action = float(table["action"].mean())
    if np.isfinite(action):
        values.append({"type": "mean_action", "value": round(action, 6), "name": "Mean action"})
    result = {
        "task": {"type": task},
        "dataset": {
            "type": dataset if _PLAIN.fullmatch(dataset) else "unknown",
            "name": dataset,
            "split": record.manifest.split,
        },
        "metrics": values,
    }
    merged = {key: value for key, value in (made | others).items() if value}
    return merged | {"tags": tags, "model-index": [{"name": name, "results": [result]}]}


def _dataset(record: StoredRecord) -> str:
    return str(analysis.runs_frame([record])["dataset"].iloc[0]) or "unnamed data"


def _list(facts: Mapping[str, object]) -> str:
    return "\n".join(f"- {name}: {markdown_text(str(value))}" for name, value in facts.items())


def _details(record: StoredRecord) -> str:
    run, manifest = record.run, record.manifest
    facts = {
        "Model": analysis.model_of(record),
        "MLflow run": f"{run.run_id} ({run.name})",
        "Experiment": run.experiment,
        "Record": f"{record.name}, sha256 of its manifest {record.digest}",
        "Recorded by": manifest.writer or "unknown",
    }
    if not run.params:
        return _list(facts)
    params = {name: value.strip("'") for name, value in sorted(run.params.items())}
    rows = [(name, value) for name, value in params.items() if value]
    table = markdown_table(pd.DataFrame(rows, columns=["parameter", "value"]))
    return f"{_list(facts)}\n\n<details><summary>Parameters</summary>\n\n{table}\n\n</details>"


def _factors(record: StoredRecord, table: pd.DataFrame, factors: Factors | None) -> str:
    text = "The record holds no classes: the samples are one group."
    if has_classes(table):
        counts = table["class"].astype(str).value_counts()
        text = (
            f"Results are given for each of {len(counts)} classes, from "
            f"{int(counts.min())} to {int(counts.max())} samples of {record.manifest.split} each."
        )
    if factors is None:
        return text
    names = ", ".join(map(markdown_text, factors.names))
    return f"{text} Attributes of the samples: {names}.\n\n{markdown_table(factors.groups)}"


def _metrics(record: StoredRecord, table: pd.DataFrame) -> str:
    manifest = record.manifest
    mode = "an evaluation pass after each epoch" if manifest.mode == "probe" else "training batches"
    text = (
        f"The action of a sample is its {markdown_text(manifest.loss_name)} accumulated over "
        f"{manifest.n_steps} steps of training, by {mode}, in {record.unit}: high is hard to "
        "learn."
    )
    if "correct" in table.columns:
        text += " Accuracy is that of the last step."
    return text


def _data(record: StoredRecord, table: pd.DataFrame) -> str:
    manifest = record.manifest
    facts: dict[str, object] = {
        "Dataset": _dataset(record),
        "Split": manifest.split,
        "Samples": manifest.n_samples,
    }
    sentence = wrong_label_sentence(record, table)
    if sentence:
        facts["Wrong labels"] = sentence
    digests = {f"sha256 of {part}": value for part, value in manifest.digests.items() if value}
    return _list(facts | digests)


def _training(record: StoredRecord) -> str:
    params = {name: value.strip("'") for name, value in record.run.params.items()}
    names = ("dataset", "subset", "augment", "label_noise", "noise_kind", "epochs", "seed")
    facts = {name: params[name] for name in names if params.get(name) not in {None, ""}}
    return _list(facts) if facts else "The run names no training data."


def _analyses(record: StoredRecord, table: pd.DataFrame, factors: Factors | None) -> str:
    parts = ["### Unitary results", _overall(record, table)]
    if has_classes(table):
        classes = _class_table(table)
        parts += [_class_text(classes), markdown_table(classes)]
    if factors is not None and len(factors.unitary):
        parts += [_BY_ATTRIBUTE, markdown_table(factors.unitary)]
    parts += _intersectional(_confusions(record, table), factors)
    if holds_noise(record):
        summary = analysis.noise_summary(analysis.noise_detection([record]))
        parts += ["### Wrong labels", markdown_text(describe_noise(summary))]
    return "\n\n".join(parts)


def _intersectional(confusions: pd.DataFrame | None, factors: Factors | None) -> list[str]:
    parts = []
    if factors is not None and len(factors.intersectional):
        parts += [_BY_PAIR, markdown_table(factors.intersectional)]
    if confusions is not None:
        parts += [_CONFUSED, markdown_table(confusions)]
    return ["### Intersectional results", *parts] if parts else []


def _overall(record: StoredRecord, table: pd.DataFrame) -> str:
    median, high = table["action"].quantile([0.5, 0.95])
    text = (
        f"Over all {len(table)} samples the action has median {short_number(median)} and 95 % "
        f"quantile {short_number(high)} ({record.unit})."
    )
    if "correct" in table.columns:
        text += f" {table['correct'].mean():.1%} are predicted right."
    return text


def _class_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row per class, the hardest first."""
    limit = table["action"].quantile(1 - _TOP)
    named = table.assign(hard=table["action"] > limit)
    named["class"] = named["class"].astype(str)
    groups = named.groupby("class", sort=True)
    columns: dict[str, Any] = {"n": groups.size()}
    if "correct" in table.columns:
        columns["accuracy"] = groups["correct"].mean()
    columns |= {
        "median action": groups["action"].median(),
        "mean action": groups["action"].mean(),
        "95 % quantile": groups["action"].quantile(0.95),
        "share of the hardest 5 %": groups["hard"].sum() / max(int(named["hard"].sum()), 1),
    }
    frame = pd.DataFrame(columns).sort_values("median action", ascending=False, kind="stable")
    return frame.reset_index()


def _class_text(rows: pd.DataFrame) -> str:
    first, last = rows.iloc[0], rows.iloc[-1]
    return markdown_text(
        f"The hardest class is {first['class']} (median action "
        f"{short_number(first['median action'])}), the easiest {last['class']} "
        f"({short_number(last['median action'])})."
    )


def _confusions(record: StoredRecord, table: pd.DataFrame) -> pd.DataFrame | None:
    """Pairs of given and predicted class; None without predictions or errors."""
    if "correct" not in table.columns or "predicted" not in table.columns or "label" not in table:
        return None
    wrong = table.loc[~table["correct"].to_numpy(dtype=np.bool_)]
    if wrong.empty:
        return None
    predicted = Classes(record.manifest.class_names).of_each(wrong["predicted"])
    pairs = pd.DataFrame({"given": wrong["class"].astype(str).to_numpy(), "predicted": predicted})
    counts = pairs.value_counts(sort=False).rename("n").reset_index()
    counts = counts.sort_values(["n", "given", "predicted"], ascending=[False, True, True])
    return counts.head(_MAX_CONFUSIONS).reset_index(drop=True)


def _caveats(record: StoredRecord) -> str:
    return (
        f"The numbers are of one run on {record.manifest.split}: another seed gives others. Action "
        "compares only between runs of the same samples, mode, loss, Δn and number of steps. A "
        "hard sample is not a wrong label: look before you relabel."
    )
