"""The loss of each token of some documents, added up over the epochs, and their texts."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch

from actiontrack.errors import ParameterError
from actiontrack.recorder.causal_lm_batches import Documents, TokenLosses
from actiontrack.recorder.recorder import Recorder

__all__ = ["TokensOfDocuments"]


class TokensOfDocuments:
    """Hands the losses of the tokens of some documents to a recorder.

    Args:
        ids: of all documents.
        n_documents: of how many tokens are recorded: those with the smallest hashes of their ids,
            the same in every run.
        tokenizer: makes the texts of tokens, or None to record no texts.

    Raises:
        ParameterError: if `n_documents` is no number of documents.
    """

    def __init__(self, ids: Sequence[Any], n_documents: int, tokenizer: Any = None) -> None:
        if not isinstance(n_documents, int) or n_documents < 0:
            rule = "must be an integer of 0 or more"
            raise ParameterError("tokens", rule, n_documents, "Pass a number of documents.")
        self._chosen = set(sorted(ids, key=_hash)[:n_documents])
        self._tokenizer = tokenizer
        self._texts: dict[Any, list[str]] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to record."""
        return bool(self._chosen)

    def take(
        self,
        recorder: Recorder,
        documents: Documents,
        losses: TokenLosses,
        input_ids: torch.Tensor | None,
    ) -> None:
        """Keep the tokens of those documents of a batch that were chosen."""
        numbers = [
            number
            for number, name in enumerate(documents.ids)
            if name in self._chosen and documents.n_scored[number]
        ]
        if not numbers:
            return
        names = [documents.ids[number] for number in numbers]
        recorder.update_maps(names, [losses.of(documents, number)[None] for number in numbers])
        if self._tokenizer is not None and input_ids is not None:
            for name, number in zip(names, numbers, strict=True):
                if name not in self._texts:
                    self._texts[name] = self._text_of(documents, number, input_ids)

    def log_texts(self, recorder: Recorder) -> None:
        """Record the texts, once they are complete: after the first epoch."""
        if self._texts:
            recorder.log_tokens(list(self._texts), list(self._texts.values()))
            self._tokenizer, self._texts = None, {}

    def _text_of(self, documents: Documents, number: int, input_ids: torch.Tensor) -> list[str]:
        row = 0 if documents.in_one_row else number
        start = documents.starts[number]
        pieces = input_ids[row, start : start + documents.lengths[number]].tolist()
        return [self._tokenizer.decode([piece]) for piece in pieces]


def _hash(name: Any) -> bytes:
    return hashlib.blake2b(str(name).encode(), digest_size=8).digest()
