"""Sections on wrong labels (4.4)."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from actiontrack import plots
from actiontrack.analysis.sentences import describe_noise
from actiontrack.analysis.tables import open_records
from actiontrack.history import wrong_labels
from actiontrack.reporting.common import figure_of, nested
from actiontrack.reporting.document import Section
from actiontrack.reporting.findings import NoiseFindings, find_noise, read_once
from actiontrack.reporting.pictures import noise_gallery, with_caption
from actiontrack.store import StoredRecord

__all__ = ["detection_figure", "detection_sections", "noise_sections"]


def noise_sections(
    records: Sequence[StoredRecord], others: Sequence[StoredRecord] = ()
) -> list[Section]:
    """Sections on wrong labels: distributions, hardest samples, and which classes are taken (4.4).

    Args:
        records: open records whose samples have true labels, of one model or several.
        others: records of another split of the same runs, such as the test split.

    Returns:
        The distributions of the action per model; for the first record of each model a gallery of
        the hardest samples and one of the hardest whose label is right; and for each model with
        wrong labels those found, by true and given class.

    Raises:
        NotFoundError: if a record holds no true labels.
    """
    records = open_records(records)
    shared = read_once([*records, *open_records(others, argument="others", least=0)])
    return _sections(find_noise(shared[: len(records)], shared[len(records) :]))


def _sections(findings: NoiseFindings) -> list[Section]:
    by_model = dict(iter(findings.pairs.groupby("model", sort=False)))
    sections = [_noise_distributions(findings.scores)]
    for record, hardest, right in findings.galleries.values():
        sections += _noise_galleries(record, hardest, right)
    sections += [
        _noise_pairs(model, by_model[model]) for model in findings.galleries if model in by_model
    ]
    return sections


def detection_sections(findings: NoiseFindings | None) -> list[Section]:
    """How well each score finds the wrong labels, and what `noise_sections` shows."""
    if findings is None or findings.summary is None:
        return []
    head = Section(
        heading="Wrong labels",
        text=describe_noise(findings.summary),
        frame=findings.summary,
        figure=detection_figure(findings.summary),
        caption="AUROC, average precision and precision at k of every score of the record (paper, "
        "section 4.4).",
    )
    return [head, *nested(_sections(findings))]


def detection_figure(summary: pd.DataFrame) -> Figure:
    """The figure of `plots.detection_scores` of a frame of `analysis.noise_summary`."""
    return figure_of(plots.detection_scores(summary))


def _noise_distributions(scores: pd.DataFrame) -> Section:
    groups = scores.groupby(["model", "group"], sort=False)["action"]
    return Section(
        heading="Distributions of the action",
        text="Samples with a wrong label (noisy) and with a right one (clean), and samples of any "
        "other split by its name, which no model was trained on.",
        frame=groups.describe().reset_index(),
        figure=plots.noise_panels(scores),
        caption="Density of the action, mean over the runs of a model in a band from the lowest "
        "to the highest run (paper, Fig. 12).",
    )


def _noise_galleries(
    record: StoredRecord, hardest: pd.DataFrame, right: pd.DataFrame
) -> list[Section]:
    """The hardest samples of a record, and the hardest of those whose label is right."""
    sections = []
    n_wrong = int(wrong_labels(hardest["label"], hardest["true_label"]).sum())
    for what, text, rows in (
        ("hardest samples", f"{n_wrong} of these {len(hardest)} labels are wrong.", hardest),
        (
            "hardest samples with a right label",
            "Right by the labels that the dataset came with: an error of theirs would be here.",
            right,
        ),
    ):
        figure, caption = with_caption(
            noise_gallery(record, rows),
            len(rows),
            "Given label, true label and action under each image.",
        )
        heading = f"{record.run.name}: {what}"
        sections.append(Section(heading=heading, text=text, figure=figure, caption=caption))
    return sections


def _noise_pairs(model: str, pairs: pd.DataFrame) -> Section:
    n_found, wrong = int(pairs["n_found"].sum()), int(pairs["n_wrong"].sum())
    return Section(
        heading=f"{model}: which wrong labels are found",
        text="Of each run the samples with the largest action are taken, as many as there are "
        f"wrong labels: {n_found} of {wrong} wrong labels are among them ({n_found / wrong:.1%}).",
        frame=pairs.sort_values(["share", "n_wrong"], ascending=[True, False], ignore_index=True),
        figure=figure_of(plots.noise_pairs(pairs)),
        caption="Wrong labels found of all, by true and given class, summed over the runs; the "
        "table begins with the pairs that are found least.",
    )
