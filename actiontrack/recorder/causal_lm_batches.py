"""Batches of a causal language model: which documents they hold, and the loss of each of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from actiontrack.errors import RecordingError
from actiontrack.recorder.criterion import full_precision
from actiontrack.recorder.transformers_data import SAMPLE_ID

__all__ = ["DOCUMENTS", "Documents", "NamesDocuments", "TokenLosses", "token_losses_of"]

#: Argument of the model's call that says which documents it gets; a hook takes it out again.
DOCUMENTS = "actiontrack_documents"

_IGNORED = -100
_LOGITS = 2**24  # that are turned into losses at once

_SEEN_BY_OTHERS = (
    "the batch has several documents in one row and no position_ids to keep them apart: each would "
    "be read with those before it, and its loss would be another one in each epoch. Pass "
    "packing_strategy='bfd', padding_free=True, or a data collator that returns position_ids."
)


@dataclass(frozen=True)
class Documents:
    """The documents of one batch, all of it on the host.

    Attributes:
        ids: of the documents.
        lengths: their numbers of tokens, without padding.
        starts: where they begin in their rows.
        n_scored: how many tokens of each have a loss.
        n_rows: rows of the dataset that the batch is made of.
        in_one_row: whether they follow one another in a single row.
        labels: of the batch, where the model itself does not get them.
    """

    ids: Sequence[Any]
    lengths: Sequence[int]
    starts: Sequence[int]
    n_scored: Sequence[int]
    n_rows: int
    in_one_row: bool
    labels: Any = None


class NamesDocuments:
    """A data collator whose batches say which documents they hold.

    Args:
        collate: the trainer's own.
        with_labels: whether the labels are needed apart from the model's arguments.
    """

    def __init__(self, collate: Callable[[list[Any]], Any], *, with_labels: bool = False) -> None:
        self.collate, self.with_labels = collate, with_labels

    def __call__(self, rows: list[Mapping[str, Any]]) -> Any:
        """The batch, with `DOCUMENTS` where every row has an id.

        Raises:
            RecordingError: if documents share a row and see each other, or there are no labels.
        """
        ids = [row[SAMPLE_ID] for row in rows if SAMPLE_ID in row]
        batch = self.collate(
            [{name: row[name] for name in row if name != SAMPLE_ID} for row in rows]
        )
        if len(ids) == len(rows):
            batch[DOCUMENTS] = self._documents(ids, rows, batch)
        return batch

    def _documents(
        self, ids: list[Any], rows: list[Mapping[str, Any]], batch: Mapping[str, Any]
    ) -> Documents:
        if "labels" not in batch:
            raise RecordingError(
                "the batch has no labels, which say which tokens have a loss. Use a data collator "
                "that makes them, such as DataCollatorForLanguageModeling(tokenizer, mlm=False)."
            )
        names = [name for row in ids for name in (row if isinstance(row, list) else [row])]
        labels = batch["labels"]
        packed = any(isinstance(row, list) for row in ids)
        lengths = [
            length
            for row in rows
            for length in (row["seq_lengths"] if packed else [len(row["input_ids"])])
        ]
        in_one_row = labels.shape[0] == 1 and len(names) > 1
        if (in_one_row and "position_ids" not in batch) or not (
            in_one_row or labels.shape[0] == len(names)
        ):
            raise RecordingError(_SEEN_BY_OTHERS)
        if in_one_row:
            starts = np.cumsum([0, *lengths[:-1]])
            n_scored = _scored_in_one_row(labels[0].numpy(), starts, lengths)
        else:
            starts = _after_padding(batch.get("attention_mask"), len(names))
            # After padding on the left the first token is predicted by the padding: by nothing.
            follows = np.arange(labels.shape[1]) > starts[:, None]
            n_scored = ((labels.numpy() != _IGNORED) & follows).sum(axis=1).tolist()
        own_labels = labels if self.with_labels else None
        return Documents(
            names, lengths, starts.tolist(), n_scored, len(rows), in_one_row, own_labels
        )


def _after_padding(attention_mask: Any, n_rows: int) -> npt.NDArray[np.int64]:
    """Position of the first token of each row that is no padding."""
    if attention_mask is None:
        return np.zeros(n_rows, dtype=np.int64)
    return np.asarray(attention_mask.numpy().astype(bool).argmax(axis=1))


def _scored_in_one_row(
    labels: npt.NDArray[Any], starts: npt.NDArray[np.int64], lengths: Sequence[int]
) -> list[int]:
    """How many tokens of each document are predicted within it."""
    if (labels[starts] != _IGNORED).any():
        raise RecordingError(
            "the first token of a document has a label, so that the document before it is to "
            "predict it: that loss belongs to neither. Set these labels to -100."
        )
    counts = np.concatenate([[0], np.cumsum(labels != _IGNORED)])
    scored: list[int] = (counts[starts + lengths] - counts[starts]).tolist()
    return scored


@dataclass(frozen=True)
class TokenLosses:
    """The loss of each token of one batch, on the device.

    Attributes:
        losses: (n_rows, n_tokens − 1), of token t + 1 at position t; 0 where there is no loss.
        scored: of that shape, which of them count.
    """

    losses: torch.Tensor
    scored: torch.Tensor

    def means(self, documents: Documents) -> torch.Tensor:
        """(n_documents,) mean loss of the tokens of each document; NaN for one without any."""
        wide = self.losses.device.type != "mps"  # which has no float64
        losses = self.losses.to(torch.float64) if wide else self.losses.float()
        counts = torch.tensor(documents.n_scored, device=losses.device)
        if documents.in_one_row:
            places = torch.repeat_interleave(torch.as_tensor(documents.lengths))[1:]
            row = losses[0, : len(places)]
            sums = row.new_zeros(len(counts)).index_add_(0, places.to(row.device), row)
        else:
            sums = losses.sum(dim=1)
            if any(documents.starts):  # less that of the first token, which padding predicts
                starts = torch.tensor(documents.starts, device=losses.device)
                first = losses.gather(1, (starts - 1).clamp(min=0)[:, None])[:, 0]
                sums = sums - torch.where(starts > 0, first, 0.0)
        return (sums / counts).float()

    def total(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Sum of all losses, and how many there are."""
        return self.losses.sum(), self.scored.sum()

    def of(self, documents: Documents, number: int) -> npt.NDArray[np.float32]:
        """(n_tokens,) losses of one document on the host, NaN for tokens without one.

        Args:
            documents: of the batch.
            number: position of the document among them.
        """
        row = 0 if documents.in_one_row else number
        start, length = documents.starts[number], documents.lengths[number]
        values = np.full(length, np.nan, dtype=np.float32)
        predicted = slice(start, start + length - 1)
        losses = self.losses[row, predicted].float().cpu().numpy()
        scored = self.scored[row, predicted].cpu().numpy().astype(bool)
        values[1:][scored] = losses[scored]
        return values


def token_losses_of(outputs: Any, labels: torch.Tensor) -> TokenLosses | None:
    """Losses of the tokens from what a model returns.

    Args:
        outputs: with "log_probs" and "label_mask", as those of TRL's SFTTrainer, or with "logits".
        labels: (n_rows, n_tokens), −100 where there is no loss.

    Returns:
        None for outputs that have neither.
    """
    n_predicted = labels.shape[1] - 1  # virtual tokens of a prompt may come before them
    if (log_probs := getattr(outputs, "log_probs", None)) is not None:
        scored = outputs.label_mask.detach()[:, -n_predicted:]
        return TokenLosses(-log_probs.detach().float()[:, -n_predicted:], scored)
    logits = getattr(outputs, "logits", None)
    if logits is None:
        return None
    logits, targets = logits.detach()[:, -labels.shape[1] : -1], labels[:, 1:]
    return TokenLosses(_cross_entropy(logits, targets), targets != _IGNORED)


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(n_rows, n_tokens) float32. Logits are the largest thing there is: none of them is copied."""
    labels = targets.to(logits.device)
    losses = torch.zeros_like(labels, dtype=torch.float32)
    size = max(1, _LOGITS // logits.shape[2])
    with torch.no_grad(), full_precision(logits.device):
        for row, (first, end) in enumerate(_spans(labels)):
            for start in range(first, end, size):
                part = slice(start, min(start + size, end))
                losses[row, part] = nn.functional.cross_entropy(
                    logits[row, part].float(),
                    labels[row, part],
                    ignore_index=_IGNORED,
                    reduction="none",
                )
    return losses


def _spans(labels: torch.Tensor) -> list[tuple[int, int]]:
    """Where the first token of each row that counts is, and the end of the last one."""
    n_rows, n_tokens = labels.shape
    if labels.device.type != "cpu":  # to know would be to wait for the device
        return [(0, n_tokens)] * n_rows
    scored = (labels != _IGNORED).numpy()
    ends = np.where(scored.any(axis=1), n_tokens - scored[:, ::-1].argmax(axis=1), 0)
    return list(zip(scored.argmax(axis=1).tolist(), ends.tolist(), strict=True))
