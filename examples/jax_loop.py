"""Softmax regression in JAX, arrays as they are. Run: python examples/jax_loop.py [epochs]."""
# ruff: noqa: INP001, T201

import sys

import jax
import jax.numpy as jnp
import mlflow
from sklearn.datasets import load_digits

from actiontrack import Recorder, RunQuery, hardest, load_scores

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
data, targets = load_digits(return_X_y=True)
inputs, labels = jnp.asarray(data / 16), jnp.asarray(targets)
weights = jnp.zeros((64, 10))


def mean_loss(weights: jax.Array, inputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy of a batch."""
    log_p = jax.nn.log_softmax(inputs @ weights)
    return -jnp.take_along_axis(log_p, labels[:, None], axis=1).mean()


gradient = jax.jit(jax.grad(mean_loss))
ids = jnp.arange(1200, 1797)

with mlflow.start_run() as run, Recorder("test", class_names=range(10)) as recorder:  # 1
    for epoch in range(epochs):
        order = jax.random.permutation(jax.random.key(epoch), 1200)
        for batch in jnp.split(order, 20):
            weights -= 0.5 * gradient(weights, inputs[batch], labels[batch])
        recorder.update(ids, logits=inputs[ids] @ weights, labels=labels[ids])  # 2
        recorder.end_epoch()  # 3

scores = load_scores(RunQuery(run_ids=[run.info.run_id]))
print(hardest(scores, 5)[["sample_id", "class", "action", "forgetting"]].to_string(index=False))
