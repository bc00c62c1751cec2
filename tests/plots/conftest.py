import numpy as np
import pandas as pd
import pytest
from figure_checks import CLASSES


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    rows = [
        {"run_id": f"{model}{seed}", "run_name": f"{model} {seed}", "model": model, "sample_id": i,
         "label": i % 3, "class": CLASSES[i % 3], "action": np.float32(i % 3 + rng.gamma(2.0))}
        for model in ("cnn", "resnet") for seed in (0, 1) for i in range(60)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def curves():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {
                "run_id": "r",
                "sample_id": i,
                "step": n,
                "loss": rng.gamma(2.0),
                "class": CLASSES[i % 3],
            }
            for i in range(4)
            for n in range(1, 6)
        ]
    )


@pytest.fixture
def table():
    return pd.DataFrame(
        [[0.61, -0.2], [0.9, np.nan]],
        index=["cnn / resnet", "cnn twice"],
        columns=["overall", "ant"],
    )
