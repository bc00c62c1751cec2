"""TRL's SFTTrainer: the loss of each document, also of those that share a row.

::

    trainer = SFTTrainer(model, args, train_dataset=data, processing_class=tokenizer)
    track_sft(trainer, data)                                                    # 1
    trainer.train()

The documents of `data` need a "sample_id", integer or text. The losses are those of the trainer's
own forward passes, with whatever it masks (prompts, all but the assistant), padding-free and packed
(``packing_strategy="bfd"``), with adapters of PEFT, accumulation and gradient checkpointing.
"""

from importlib.util import find_spec
from typing import Any

from actiontrack.errors import MissingDependencyError
from actiontrack.recorder.causal_lm import LanguageModelCallback, track_causal_lm
from actiontrack.recorder.causal_lm_data import check_rows, check_trainer
from actiontrack.recorder.trl_packing import name_packed_documents

if find_spec("trl") is None:
    raise MissingDependencyError(
        "actiontrack.recorder.trl needs TRL: pip install 'actiontrack[trl]'"
    )

__all__ = ["track_sft"]


def track_sft(
    trainer: Any, data: Any, *, dataset: str = "train", **options: Any
) -> LanguageModelCallback:
    """Record the loss of each document of an `SFTTrainer`.

    Where documents are packed, the trainer has dropped their ids by now. They are recognised by
    their tokens and labels: `data` is tokenised once more. Documents whose tokens and labels are
    all equal, up to where packing cuts them off, have equal losses, and are interchangeable.

    Args:
        trainer: the trainer, before `train`.
        data: the dataset as the trainer was given it, with a "sample_id" for each document.
        dataset: which of the trainer's datasets `data` is: "train", "eval", or a name in a dict of
            evaluation datasets.
        options: those of `actiontrack.recorder.causal_lm.LanguageModelCallback`, such as ``mode``
            and ``tokens``, and of `actiontrack.Recorder`.

    Returns:
        The callback; as a context manager it closes the record.

    Raises:
        ParameterError: if an argument breaks its rule, or ids are repeated.
        RecordingError: if documents have no ids, are cut into pieces by the packing strategy, or
            can't be found in the packed rows.
    """
    check_trainer(trainer, "SFTTrainer", "See track_causal_lm for a Trainer of Transformers.")
    check_rows("data", data)
    name_packed_documents(trainer, data, dataset)
    return track_causal_lm(trainer, data, dataset=dataset, **options)
