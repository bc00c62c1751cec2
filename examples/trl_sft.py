"""A tiny language model on Python's manual, packed. Run: python examples/trl_sft.py [epochs]."""
# ruff: noqa: INP001, T201

import sys
import tempfile
from pydoc_data.topics import topics

import mlflow
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed
from trl import SFTConfig, SFTTrainer

from actiontrack import RunQuery, hardest, load_scores
from actiontrack.recorder.trl import track_sft  # 1

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
set_seed(0)
# What help("async") and the like print: prompts and completions of a real text.
names = sorted(topics)
rows = {
    "sample_id": names,
    "prompt": [f"Explain {name}: " for name in names],
    "completion": [topics[name].partition("\n\n")[2][:400] for name in names],
}
pieces = Tokenizer(models.BPE())
pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
pieces.decoder = decoders.ByteLevel()
ends = {"pad_token": "<pad>", "eos_token": "<end>"}
special = list(ends.values())
trainer = trainers.BpeTrainer(vocab_size=800, special_tokens=special, show_progress=False)
pieces.train_from_iterator(rows["completion"], trainer)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, **ends, model_max_length=512)
size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
config = LlamaConfig(vocab_size=800, num_attention_heads=4, max_position_embeddings=512, **size)

data = Dataset.from_dict(rows)
with tempfile.TemporaryDirectory() as folder, mlflow.start_run() as run:
    args = SFTConfig(
        folder,
        num_train_epochs=epochs,
        per_device_train_batch_size=2,
        learning_rate=1e-2,
        packing=True,
        max_length=256,
        bf16=False,  # what a document loses does not depend on its neighbours, to the last digit
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        LlamaForCausalLM(config), args, train_dataset=data, processing_class=tokenizer
    )
    track_sft(trainer, data, tokens=20, token_texts=True)  # 2
    trainer.train()

scores = load_scores(RunQuery(run_ids=[run.info.run_id], record="train-inline"))
columns = ["sample_id", "class", "action", "perplexity", "n_tokens"]
print(hardest(scores, 5)[columns].to_string(index=False))
