"""A tiny vision transformer from scratch. Run: python examples/hf_trainer.py [epochs]."""
# ruff: noqa: INP001, T201

import sys
import tempfile

import mlflow
import torch
from sklearn.datasets import load_digits
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification, set_seed

from actiontrack import RunQuery, hardest, load_scores
from actiontrack.recorder.transformers import ActionTrackCallback, ActionTrackTrainerMixin  # 1


class TrackedTrainer(ActionTrackTrainerMixin, Trainer):  # 2
    """A Trainer whose batches are recorded."""


epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
set_seed(0)
images, labels = load_digits(return_X_y=True)
pixels = torch.tensor(images / 16).float().reshape(-1, 1, 8, 8)
rows = [
    {"pixel_values": image, "labels": int(label), "sample_id": index}
    for index, (image, label) in enumerate(zip(pixels, labels, strict=True))
]
size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
config = ViTConfig(
    image_size=8, patch_size=2, num_channels=1, intermediate_size=64, num_labels=10, **size
)

track = ActionTrackCallback(rows[1200:], class_names=range(10))  # an evaluation pass per epoch
inline = ActionTrackCallback(split="train", mode="inline", class_names=range(10))  # 3
with tempfile.TemporaryDirectory() as folder, mlflow.start_run() as run:
    args = TrainingArguments(
        folder,
        num_train_epochs=epochs,
        per_device_train_batch_size=64,
        learning_rate=3e-3,
        remove_unused_columns=False,  # or the Trainer drops sample_id
        report_to="none",  # with "mlflow" the callbacks follow its run
        save_strategy="no",
        disable_tqdm=True,
    )
    model = ViTForImageClassification(config)
    TrackedTrainer(model, args, train_dataset=rows[:1200], callbacks=[track, inline]).train()

for record in ("test-probe", "train-inline"):
    scores = load_scores(RunQuery(run_ids=[run.info.run_id], record=record))
    print(record)
    print(hardest(scores, 5)[["sample_id", "class", "action"]].to_string(index=False))
