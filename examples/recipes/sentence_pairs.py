"""Sentence-transformers: pairs. Run: python examples/recipes/sentence_pairs.py [epochs]."""
# ruff: noqa: INP001, T201

import re
import sys
import tempfile
from pathlib import Path
from pydoc_data.topics import topics

import mlflow
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers import SentenceTransformerTrainingArguments as Arguments
from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizerFast, TrainerCallback, set_seed

from actiontrack import Recorder, RunQuery, hardest, load_scores

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
set_seed(0)
# Two halves of what help() prints of a topic belong together, those of two topics do not.
names = sorted(topics)
texts = [topics[name].partition("\n\n")[2][:240] for name in names]
left, right = [text[:120] for text in texts], [text[120:] for text in texts]
rows = {
    "left": left + left,
    "right": right + right[1:] + right[:1],
    "label": [1.0] * len(names) + [0.0] * len(names),
}
ids = [f"{name}, {kind}" for kind in ("same", "next") for name in names]
data = Dataset.from_dict(rows)


class RecordPairs(TrainerCallback):  # 1
    def on_evaluate(self, args, state, control, model, **_):
        pairs = [model.encode(rows[side], convert_to_tensor=True) for side in ("left", "right")]
        similarity = torch.cosine_similarity(*pairs)
        recorder.update(ids, (similarity - torch.tensor(rows["label"])) ** 2)  # 2
        recorder.end_epoch()  # 3


with tempfile.TemporaryDirectory() as folder:
    words = sorted(set(re.findall(r"\w+", " ".join(texts).lower())))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    Path(folder, "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(Path(folder, "vocab.txt"))).save_pretrained(folder)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = BertConfig(vocab_size=len(words), num_attention_heads=4, **size)
    BertModel(config).save_pretrained(folder)
    encoder = Transformer(folder, max_seq_length=64)
    model = SentenceTransformer(modules=[encoder, Pooling(32)], device="cpu")
    options = {"num_train_epochs": epochs, "eval_strategy": "epoch", "save_strategy": "no"}
    options |= {"learning_rate": 1e-3, "report_to": "none", "disable_tqdm": True, "use_cpu": True}
    loss = CosineSimilarityLoss(model)
    with (
        mlflow.start_run() as run,
        Recorder("train", loss_name="squared_error") as recorder,  # 4
    ):
        trainer = SentenceTransformerTrainer(
            model, Arguments(folder, **options), data, eval_dataset=data, loss=loss
        )
        trainer.add_callback(RecordPairs())  # 5
        trainer.train()

scores = load_scores(RunQuery(run_ids=[run.info.run_id]))
print(hardest(scores, 5)[["sample_id", "class", "action"]].to_string(index=False))
