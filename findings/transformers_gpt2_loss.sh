#!/bin/sh
# transformers 5.24.0 with PyTorch 2.14.1 and accelerate 1.15.0. Tried on 2026-11-30 with Python 3.11.
#
# `Trainer` divides the sum of the token losses by the number of labels. Causal language models score one token
# fewer per row than there are labels, and since https://github.com/huggingface/transformers/pull/46204 the trainer
# leaves the first label out. It asks `model.loss_type` whether to. That is derived from the name of the class:
# "ForCausalLM" for LlamaForCausalLM, but None for GPT2LMHeadModel, whose name lacks those words. So for GPT-2 the
# losses of `evaluate` and of training are too small by the factor (L - 1) / L for rows of L labels, and the
# gradient is scaled by it. A perplexity exp(eval_loss) is wrong by more. A message says that "loss_type=None" is
# not recognised and that the default loss is used; none says that the loss is another than the model's.
#
# The documentation of `labels` of GPT2LMHeadModel says that they are shifted inside the model and that
# `labels = input_ids` is right; nothing that we read in the documentation of `Trainer` speaks of another scale.
# Our search among the issues of the project showed none about GPT-2.
#
# 8 rows of 5 tokens, then of 2, labels equal to input_ids, untrained models, one batch; training with rate 0.
# Output seen:
#   model             loss_type    L   loss of model   eval_loss   train_loss
#   GPT2LMHeadModel   None         5          3.8994      3.1195       3.1195
#   GPT2LMHeadModel   None         2          3.9289      1.9644       1.9644
#   LlamaForCausalLM  ForCausalLM  5          3.9085      3.9085       3.9085
#   LlamaForCausalLM  ForCausalLM  2          3.9165      3.9165       3.9165
#
# Exits with 0 if the library behaves like this, with 1 if it does not. The packages take 5 GB while it runs.
set -eu
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-cache-dir torch==2.14.1 transformers==5.24.0 accelerate==1.15.0
CHECKPOINTS="$folder/checkpoints" CUDA_VISIBLE_DEVICES="" "$folder/venv/bin/python" - <<'PYTHON'
import os
import sys

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers import Trainer, TrainingArguments, logging

logging.set_verbosity_error()
arguments = TrainingArguments(
    os.environ["CHECKPOINTS"],
    per_device_train_batch_size=8,
    per_device_eval_batch_size=8,
    num_train_epochs=1,
    learning_rate=0.0,
    save_strategy="no",
    report_to=[],
    disable_tqdm=True,
    use_cpu=True,
)
gpt2 = GPT2Config(
    vocab_size=50, n_positions=8, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0,
    resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
)
llama = LlamaConfig(
    vocab_size=50, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
)
as_seen, lines = True, ["model             loss_type    L   loss of model   eval_loss   train_loss"]
for build, config in ((GPT2LMHeadModel, gpt2), (LlamaForCausalLM, llama)):
    for length in (5, 2):
        torch.manual_seed(0)
        model = build(config).eval()
        rows = torch.randint(0, 50, (8, length))
        data = [{"input_ids": row, "labels": row} for row in rows]
        with torch.no_grad():
            loss = model(input_ids=rows, labels=rows).loss.item()
        trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data)
        evaluated = trainer.evaluate()["eval_loss"]
        trained = trainer.train().training_loss
        lines.append(
            f"{build.__name__:18}{str(model.loss_type):11}{length:3}{loss:16.4f}{evaluated:12.4f}{trained:13.4f}"
        )
        expected = loss * (length - 1) / length if build is GPT2LMHeadModel else loss
        as_seen &= abs(evaluated - expected) < 1e-4 and abs(trained - expected) < 1e-4
print("\n".join(lines))
sys.exit(0 if as_seen else 1)
PYTHON
