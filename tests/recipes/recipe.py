"""The recipes of docs/recipes.md, run twice in one process: as they are printed, and unrecorded.

Each `Recipe` says what becomes of its marked lines without a record, where its weights are, and
what its framework says of the mean loss of each epoch.
"""

import json
import re
from dataclasses import dataclass, field
from pydoc_data.topics import topics

from helpers import ROOT

FOLDER = ROOT / "examples" / "recipes"
#: What runs both; prints a line of JSON at the end.
HARNESS = """
import hashlib, json, random, runpy, sys, warnings
import mlflow, numpy as np, torch

def run(script, epochs):
    sys.argv = [script, epochs]
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    names = runpy.run_path(script, run_name="__main__")
    digest = hashlib.sha256()
    for name, value in sorted(eval(weights_of, names).items()):
        digest.update(name.encode() + value.numpy().tobytes())
    states = random.getstate(), np.random.get_state(), torch.get_rng_state().tolist()
    return names, digest.hexdigest(), repr(states)

recorded_script, plain_script, epochs, weights_of, logged, *ignored = sys.argv[1:]
for text in ignored:
    warnings.filterwarnings("ignore", text)
recorded, weights, states = run(recorded_script, epochs)
client = mlflow.MlflowClient()
run_id = recorded["run"].info.run_id
if logged in client.get_run(run_id).data.metrics:
    means = [each.value for each in client.get_metric_history(run_id, logged)]
else:
    means = eval(logged, recorded)
_, plain_weights, plain_states = run(plain_script, epochs)
answer = {"run_id": run_id, "means": list(map(float, means))}
answer |= {"same_weights": weights == plain_weights, "same_states": states == plain_states}
print("ANSWER", json.dumps(answer))
"""


@dataclass(frozen=True)
class Recipe:
    """One script.

    Attributes:
        name: of the file.
        record: name of its record.
        n_samples: that it records.
        plain: replacements that take the record out; marked lines that are not named are dropped.
        weights: an expression, the weights of the trained model.
        means: a metric of the run, or an expression, the mean loss of each epoch.
        ignored: warnings of its library, as patterns.
    """

    name: str
    record: str
    n_samples: int
    plain: dict[str, str] = field(default_factory=dict)
    weights: str = "model.state_dict()"
    means: str = "test_loss"
    ignored: tuple[str, ...] = ()

    @property
    def path(self):
        return FOLDER / f"{self.name}.py"

    def without_record(self):
        """The same training, with nothing of ours."""
        text = self.path.read_text(encoding="utf-8")
        text = re.split(r"\n(?:if is_main:\n    )?scores = ", text)[0] + "\n"
        for printed, instead in self.plain.items():
            assert printed in text, printed
            text = text.replace(printed, instead)
        lines = [line for line in text.splitlines() if not re.search(r"  # \d", line)]
        text = "\n".join(line for line in lines if "actiontrack" not in line)
        assert "recorder" not in text.lower().replace("learner.recorder", "")
        return text


RECIPES = (
    Recipe(
        "timm_loader",
        "test-probe",
        200,
        {
            "IndexedTargets(Digits(slice(600, 800)))": "Digits(slice(600, 800))",
            "**options)  # 2": "**options)",
            "for ids, images, labels in with_ids(test):  # 4": "for images, labels in test:",
            'with mlflow.start_run() as run, Recorder("test", class_names=range(10)) as '
            "recorder:  # 3": "with mlflow.start_run() as run:",
        },
    ),
    Recipe(
        "accelerate_loop",
        "train-inline",
        1797,
        {
            "DataLoader(IndexedDataset(digits), 64, shuffle=True)  # 2": (
                "DataLoader(digits, 64, shuffle=True)"
            ),
            "for ids, batch, targets in loader:  # 4": "for batch, targets in loader:",
        },
        means="train_loss",
    ),
    Recipe(
        "sentence_pairs",
        "train-probe",
        2 * len(topics),
        {
            "class RecordPairs(TrainerCallback):  # 1": "class Nothing(TrainerCallback):",
            "        pairs = [model.encode(rows[side], convert_to_tensor=True) for side in "
            '("left", "right")]\n        similarity = torch.cosine_similarity(*pairs)\n': (
                "        pass\n"
            ),
        },
        means="[row['eval_loss'] for row in trainer.state.log_history if 'eval_loss' in row]",
    ),
    Recipe(
        "segmentation_models",
        "test-probe",
        40,
        {
            "DataLoader(IndexedDataset(TensorDataset(images[80:], masks[80:])), 40)  # 2": (
                "DataLoader(TensorDataset(images[80:], masks[80:]), 40)"
            ),
            "for ids, batch, truth in test:  # 4": "for batch, truth in test:",
        },
    ),
    Recipe(
        "skorch_callback",
        "validation-probe",
        360,
        {
            "class WithIds(NeuralNetClassifier):  # 1: the inputs are a dictionary, of which the "
            "module sees one\n    def infer(self, x, **params):\n"
            '        return super().infer(x["inputs"], **params)\n': (
                "WithIds = NeuralNetClassifier\n"
            ),
            "class RecordValidation(Callback):  # 2\n": "class Nothing(Callback):\n",
            "            inputs, labels = batch\n": "            pass\n",
            "        recorder.end_epoch()  # 4": "        pass",
            "net.fit(digits, labels)": 'net.fit(digits["inputs"], labels)',
        },
        weights="net.module_.state_dict()",
        means="net.history[:, 'valid_loss']",
    ),
    Recipe(
        "fastai_callback",
        "validation-probe",
        597,
        {
            "class RecordValidation(Callback):  # 2\n": "class Nothing(Callback):\n",
            "    def before_batch(self):\n        self.ids, *inputs = self.xb\n"
            "        self.learn.xb = tuple(inputs)\n": "",
            "        if not self.training:\n": "        pass\n",
            "        recorder.end_epoch()  # 4": "        pass",
        },
        means="[row[1] for row in learner.recorder.values]",
        ignored=("`torch.jit.script` is deprecated",),  # fastai 2.8 on PyTorch 2.14
    ),
    Recipe(
        "ignite_handlers",
        "test-probe",
        597,
        {
            "DataLoader(IndexedDataset(Subset(digits, range(1200, 1797))), 256)  # 2": (
                "DataLoader(Subset(digits, range(1200, 1797)), 256)"
            ),
            "@evaluator.on(Events.ITERATION_COMPLETED)  # 4\ndef record(engine):\n"
            "    logits, targets = engine.state.output\n"
            "    recorder.update(engine.state.batch[0], logits=logits, labels=targets)\n": "",
            "@evaluator.on(Events.COMPLETED)  # 5\ndef end_epoch():\n"
            "    recorder.end_epoch()\n": "",
            'with mlflow.start_run() as run, Recorder("test", class_names=range(10)) as '
            "recorder:  # 6": "with mlflow.start_run() as run:",
        },
    ),
)


def answer_of(printed):
    """What the harness says at its end."""
    return json.loads(re.findall(r"^ANSWER (.*)$", printed, re.MULTILINE)[-1])
