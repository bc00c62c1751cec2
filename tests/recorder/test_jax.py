"""JAX arrays go into the recorder as they are. In processes of their own: JAX dislikes forks."""

import numpy as np

CODE = """
import sys
import jax
import jax.numpy as jnp
import numpy as np
from actiontrack.recorder import Recorder
from actiontrack.store import Store

uri, run_id, out = sys.argv[1:]
keys = jax.random.split(jax.random.key(0), 3)
labels = jax.random.randint(keys[2], (20,), 0, 3)
recorded = {"labels": np.asarray(labels)}
for dtype in ("float32", "bfloat16"):
    outputs = []
    with Recorder(dtype, run_id=run_id, store=Store(uri), class_names=tuple("abc")) as recorder:
        for epoch in range(2):
            logits = jax.random.normal(keys[epoch], (20, 3)).astype(dtype)
            order = jax.random.permutation(keys[epoch], 20)
            for ids in (order[:13], order[13:]):
                recorder.update(ids, logits=logits[ids], labels=labels[ids])
            recorder.end_epoch()
            outputs.append(np.asarray(logits.astype(jnp.float32)))
    recorded[dtype] = np.stack(outputs)
np.savez(out, **recorded)
"""


def test_jax_arrays_are_recorded_whatever_their_order_and_precision(
    in_warm_process, history, tracking_uri, run_id, tmp_path, cross_entropy
):
    in_warm_process(CODE, tracking_uri, run_id, tmp_path / "outputs.npz", preload=["jax.numpy"])
    outputs = np.load(tmp_path / "outputs.npz")
    for dtype in ("float32", "bfloat16"):
        recorded = history(run_id, f"{dtype}-probe")
        expected = [cross_entropy(each, outputs["labels"]) for each in outputs[dtype]]
        np.testing.assert_allclose(recorded.losses, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(recorded.labels, outputs["labels"])


LOSSES = """
import sys
import jax.numpy as jnp
from actiontrack.recorder import Recorder
from actiontrack.store import Store

with Recorder(run_id=sys.argv[2], store=Store(sys.argv[1])) as recorder:
    recorder.update(["b", "a"], jnp.array([0.5, 0.25]))
    recorder.end_epoch()
"""


def test_jax_losses_go_with_ids_of_text(in_warm_process, history, tracking_uri, run_id):
    in_warm_process(LOSSES, tracking_uri, run_id, preload=["jax.numpy"])
    recorded = history(run_id)
    assert (recorded.sample_ids.tolist(), recorded.losses.tolist()) == (["a", "b"], [[0.25, 0.5]])
