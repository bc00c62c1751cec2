"""What recording costs a fine-tuning of a language model: `python -m benchmarks.language`.

Python's own manual in packed rows (`packing_strategy="bfd"`), a Llama of four layers, SFTTrainer
and a plain Trainer, each with and without inline recording in turns, from the same weights on the
same batches. Time is that of the process in `train`, which leaves out what other programs take and
includes the end of every epoch and the upload.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import datasets
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    DataCollatorForLanguageModeling,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)
from transformers.utils import logging
from trl import SFTConfig, SFTTrainer

from actiontrack.recorder.causal_lm import track_causal_lm
from actiontrack.recorder.trl import track_sft
from actiontrack.store import Store
from benchmarks.measure import Figure, Spread, keep, options, ratios

_LENGTH = 256  # of a row, in tokens
_VOCABULARY = 2000
_ENDS = {"pad_token": "<pad>", "eos_token": "<end>"}
_SHARED: dict[str, Any] = {
    "num_train_epochs": 1,
    "learning_rate": 1e-3,
    "report_to": "none",
    "save_strategy": "no",
    "logging_steps": 10,
    "disable_tqdm": True,
    "use_cpu": True,
    "gradient_checkpointing": False,
}


def main(argv: Sequence[str]) -> int:
    """Measure and print."""
    given = options(__doc__, argv, turns=7, hidden=128)
    logging.set_verbosity_error()
    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        fit = _Training(Path(folder), given.hidden)
        kinds: dict[str, Callable[[], Any]] = {"SFTTrainer, packed": fit.sft, "Trainer": fit.plain}
        for kind, make in kinds.items():
            seconds: dict[str, list[float]] = {"recorded": [], "bare": []}
            for turn in range(given.turns + 1):
                for way in sorted(seconds, reverse=bool(turn % 2)):
                    taken = fit.seconds(make(), record=way == "recorded")
                    if turn:  # the first one warms up
                        seconds[way].append(taken)
            keep(
                Figure(
                    name=f"inline recording, {kind}",
                    against="the same training without it",
                    value=ratios(seconds, "recorded", "bare"),
                    target="<= 1.02",
                    details={way: f"{Spread.of(each)} s" for way, each in seconds.items()},
                )
            )
    return 0


class _Training:
    def __init__(self, folder: Path, hidden: int) -> None:
        self._folder, self._hidden = folder, hidden
        self._store = Store(f"sqlite:///{folder / 'mlflow.db'}")
        texts = [topics[name][start : start + 600] for name in topics for start in (0, 600, 1200)]
        pieces = Tokenizer(models.BPE())
        pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        training = trainers.BpeTrainer(
            vocab_size=_VOCABULARY, special_tokens=list(_ENDS.values()), show_progress=False
        )
        pieces.train_from_iterator(texts, training)
        self._tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, **_ENDS)
        texts = [text for text in texts if len(text) > 20]
        self._data = Dataset.from_dict({"sample_id": list(range(len(texts))), "text": texts})
        tokens = self._tokenizer(texts, truncation=True, max_length=_LENGTH)["input_ids"]
        ids = self._data["sample_id"]
        self._tokens = Dataset.from_dict({"sample_id": ids, "input_ids": tokens})

    def sft(self) -> SFTTrainer:
        """A trainer of packed rows."""
        args = SFTConfig(
            str(self._folder / "out"),
            packing=True,
            max_length=_LENGTH,
            per_device_train_batch_size=4,
            bf16=False,
            **_SHARED,
        )
        return SFTTrainer(
            self._model(), args, train_dataset=self._data, processing_class=self._tokenizer
        )

    def plain(self) -> Trainer:
        """A trainer of padded rows."""
        args = TrainingArguments(
            str(self._folder / "out"), per_device_train_batch_size=8, **_SHARED
        )
        collator = DataCollatorForLanguageModeling(self._tokenizer, mlm=False)
        return Trainer(self._model(), args, train_dataset=self._tokens, data_collator=collator)

    def seconds(self, trainer: Trainer, *, record: bool) -> float:
        """Of `train`, with or without a record."""
        if not record:
            return _timed(trainer)
        with self._store.run(name="benchmark") as run:
            given: Any = {"run_id": run.run_id, "store": self._store, "loss_check": True}
            if isinstance(trainer, SFTTrainer):
                track_sft(trainer, self._data, **given)
            else:
                track_causal_lm(trainer, **given)
            return _timed(trainer)

    def _model(self) -> LlamaForCausalLM:
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=_VOCABULARY,
            hidden_size=self._hidden,
            intermediate_size=3 * self._hidden,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=_LENGTH,
        )
        return LlamaForCausalLM(config)


def _timed(trainer: Trainer) -> float:
    start = time.process_time()
    trainer.train()
    return time.process_time() - start


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
