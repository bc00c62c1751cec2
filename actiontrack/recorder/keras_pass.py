"""Evaluation passes over a Keras model that leave its training as it was, bit for bit."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np

__all__ = ["averaged_weights", "averages", "untouched"]

_SEEDS = "global_seed_generator"  # Keras's name for the generator of operations without a seed


@contextmanager
def untouched(model: Any) -> Iterator[None]:
    """Random generators and the state of layers are afterwards as they were before.

    `Model.predict` draws from the generator of PyTorch, which shuffles the batches of the next
    epoch, and layers may draw seeds or count calls in inference mode too.
    """
    state = [(variable, _copy(variable)) for variable in model.non_trainable_variables]
    python, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - Keras uses it
    seeds = _global_seeds()
    seeds_state = None if seeds is None else _copy(seeds.state)
    with ExitStack() as stack:
        if keras.backend.backend() == "torch":
            import torch  # noqa: PLC0415 - the backend may be another one

            stack.enter_context(torch.random.fork_rng(devices=[]))
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_state)  # noqa: NPY002
            _restore(state)
            _set_global_seeds(seeds)
            if seeds is not None:
                _restore([(seeds.state, seeds_state)])


@contextmanager
def averaged_weights(model: Any) -> Iterator[None]:
    """The averaged weights of an optimizer with `use_ema` in the model, then the raw ones again."""
    pairs = [
        pair
        for optimizer in averages(model)
        for pair in zip(
            optimizer._trainable_variables,  # noqa: SLF001 - as keras.callbacks.SwapEMAWeights
            optimizer._model_variables_moving_average,  # noqa: SLF001
            strict=True,
        )
    ]
    raw = [(variable, _copy(variable)) for variable, _ in pairs]
    try:
        for variable, average in pairs:
            variable.assign(_copy(average))
        yield
    finally:
        for variable, values in raw:
            variable.assign(values)


def averages(model: Any) -> list[Any]:
    """The optimizers of a model that average its weights."""
    outer = model.optimizer
    optimizer = getattr(outer, "inner_optimizer", outer)  # of a LossScaleOptimizer
    optimizers = getattr(optimizer, "optimizers", [optimizer])
    return [part for part in optimizers if getattr(part, "use_ema", False)]


def _copy(variable: Any) -> Any:
    """The value of a variable in memory of its own: JAX gives away the buffers of a pass."""
    value = variable.value
    return value.detach().clone() if hasattr(value, "detach") else np.array(value)


def _restore(state: list[tuple[Any, Any]]) -> None:
    for variable, before in state:
        if not bool((variable.value == before).all()):
            variable.assign(before)


def _global_seeds() -> Any:
    from keras.src.backend.common import global_state  # noqa: PLC0415 - Keras keeps it here only

    return global_state.get_global_attribute(_SEEDS)


def _set_global_seeds(seeds: Any) -> None:
    from keras.src.backend.common import global_state  # noqa: PLC0415

    global_state.set_global_attribute(_SEEDS, seeds)
