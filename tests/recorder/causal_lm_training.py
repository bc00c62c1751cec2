# ruff: noqa: ARG002 - the library's own signatures
"""Documents, a tokenizer and a tiny language model, for the tests of the adapters of Trainers.

The texts are what Python's own manual says of 21 topics, as `help()` shows it.
"""

import functools
from pydoc_data.topics import topics

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    TrainerCallback,
)

N = 21
SETTINGS = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 4,
    "report_to": "none",
    "use_cpu": True,
    "save_strategy": "no",
    "disable_tqdm": True,
    "learning_rate": 0.01,
    "logging_steps": 1,
    "bf16": False,  # TRL computes in it unless told otherwise, on the CPU too
    "dataloader_pin_memory": False,
}
ENDS = {"pad_token": "<pad>", "eos_token": "<end>"}
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}<end>{% endgeneration %}{% else %}"
    "{{ message['content'] }}<end>{% endif %}{% endfor %}"
)


@functools.cache
def texts():
    """What the manual says of each topic, the first 40 to 300 characters of it, with its name."""
    chosen = {}
    for name in sorted(topics):
        lines = [line.strip() for line in topics[name].splitlines()[2:] if line.strip()]
        chosen[name] = " ".join(lines)[: 40 + 13 * (len(chosen) % 20)]
    return dict(list(chosen.items())[:N])


@functools.cache
def tokenizer():
    """A byte-level tokenizer of 400 pieces, trained on the texts."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<pad>", "<end>", "<user>", "<assistant>"]
    inner.train_from_iterator(
        texts().values(), trainers.BpeTrainer(vocab_size=400, special_tokens=special)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=inner, **ENDS, chat_template=TEMPLATE)
    fast.model_max_length = 512
    return fast


def documents(kind="text"):
    """(N,) documents with ids: plain texts, prompts with completions, or conversations."""
    ids = [f"é-{number:02}" for number in range(N)]
    pairs = list(texts().items())
    if kind == "text":
        return Dataset.from_dict({"sample_id": ids, "text": [text for _, text in pairs]})
    prompts = [f"What is said of {name}?" for name, _ in pairs]
    if kind == "completion":
        answers = [text for _, text in pairs]
        return Dataset.from_dict({"sample_id": ids, "prompt": prompts, "completion": answers})
    messages = [
        [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": text},
        ]
        for prompt, (_, text) in zip(prompts, pairs, strict=True)
    ]
    return Dataset.from_dict({"sample_id": ids, "messages": messages})


def tokenised():
    """The plain texts as a plain Trainer wants them."""
    rows = documents()
    columns = {"input_ids": [tokenizer()(text)["input_ids"] for text in rows["text"]]}
    return Dataset.from_dict({"sample_id": rows["sample_id"], **columns})


def tiny_model(kind="llama", dropout=0.0):
    torch.manual_seed(0)
    size = len(tokenizer())
    if kind == "gpt2":
        config = GPT2Config(vocab_size=size, n_positions=512, n_embd=16, n_layer=1, n_head=2)
        config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = dropout
        return GPT2LMHeadModel(config)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        attention_dropout=dropout,
    )
    return LlamaForCausalLM(config)


class Batches(TrainerCallback):
    """Keeps the weights before each update and after each epoch, and what is logged."""

    def __init__(self):
        self.steps, self.epochs, self.logs = [], [], []

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        self.steps.append(snapshot(model))

    def on_epoch_end(self, args, state, control, model=None, **kwargs):
        self.epochs.append(snapshot(model))

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append(dict(logs))


def snapshot(model):
    """Its weights at present."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def loss_alone(model, input_ids, labels):
    """(n_tokens,) loss of each token of a document that is a batch of its own; NaN without one."""
    tokens, targets = torch.tensor([input_ids]), torch.tensor(labels)
    with torch.no_grad():
        logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits[0].double()
    losses = -torch.log_softmax(logits[:-1], -1).gather(1, targets[1:, None].clamp(min=0))[:, 0]
    losses[targets[1:] == -100] = torch.nan
    return np.concatenate([[np.nan], losses.numpy()])
