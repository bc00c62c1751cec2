"""What all adapters have in common: what they say where their library is missing."""

MISSING = """
import importlib
import sys
from actiontrack.errors import MissingDependencyError
for name in ("lightning", "pytorch_lightning", "transformers", "trl", "keras", "xgboost",
             "lightgbm", "catboost", "sklearn"):
    sys.modules[name] = None
for name in ("catboost", "causal_lm", "keras", "lightgbm", "lightning", "sklearn", "transformers",
             "xgboost"):
    try:
        importlib.import_module(f"actiontrack.recorder.{name}")
    except MissingDependencyError as error:
        print(error)
"""


def test_a_missing_library_is_named_with_the_pip_command(in_subprocess):
    prefix, backend = "actiontrack.recorder.", "needs Keras 3 and a backend, see KERAS_BACKEND"
    assert in_subprocess(MISSING).stdout.splitlines() == [
        f"{prefix}catboost needs CatBoost: pip install 'actiontrack[catboost]'",
        f"{prefix}causal_lm needs Transformers: pip install 'actiontrack[transformers]'",
        f"{prefix}keras {backend}: pip install 'actiontrack[keras]'",
        f"{prefix}lightgbm needs LightGBM: pip install 'actiontrack[lightgbm]'",
        f"{prefix}lightning needs Lightning: pip install 'actiontrack[lightning]'",
        f"{prefix}sklearn needs scikit-learn: pip install 'actiontrack[train]'",
        f"{prefix}transformers needs Transformers: pip install 'actiontrack[transformers]'",
        f"{prefix}xgboost needs XGBoost: pip install 'actiontrack[xgboost]'",
    ]


def test_trl_is_named_where_transformers_alone_is_installed(in_subprocess):
    code = """
import sys
sys.modules["trl"] = None
try:
    import actiontrack.recorder.trl
except Exception as error:
    print(error)
"""
    text = "actiontrack.recorder.trl needs TRL: pip install 'actiontrack[trl]'\n"
    assert in_subprocess(code).stdout == text


def test_the_core_knows_no_adapter(in_subprocess):
    code = """
import sys
import actiontrack
import actiontrack.recorder
import actiontrack.recorder.probe
actiontrack.autolog
names = {"torch", "lightning", "transformers", "keras", "xgboost", "lightgbm", "catboost", "jax",
         "sklearn", "ultralytics"}
print(sorted(names & set(sys.modules)))
"""
    assert in_subprocess(code).stdout == "[]\n"


def test_nothing_of_ultralytics_is_imported(in_subprocess):
    """Its license asks more of those who use it than ours."""
    code = """
import sys
sys.modules["ultralytics"] = None
from actiontrack.recorder.ultralytics import ActionTrackCallback
print(ActionTrackCallback.__name__)
"""
    assert in_subprocess(code).stdout == "ActionTrackCallback\n"
