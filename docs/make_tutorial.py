"""Run the tutorial notebook and keep its outputs: python docs/make_tutorial.py.

Log lines are left out, and images are kept in few colours.
"""
# ruff: noqa: INP001, T201

import base64
import io
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from PIL import Image

NOTEBOOK = Path(__file__).parent / "tutorial.ipynb"


def main() -> None:
    """Replace the outputs in the notebook."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
    del notebook["metadata"]["language_info"]
    notebook["metadata"]["language_info"] = {"name": "python"}
    for cell in notebook["cells"]:
        cell["metadata"] = {}
        if cell["cell_type"] == "code":
            cell["outputs"] = [each for each in cell["outputs"] if each.get("name") != "stderr"]
            for output in cell["outputs"]:
                if "image/png" in output.get("data", {}):
                    output["data"]["image/png"] = _shrunk(output["data"]["image/png"])
    notebook, _ = CoalesceStreamsPreprocessor().preprocess(notebook, {})
    nbformat.write(notebook, NOTEBOOK)
    print(f"{NOTEBOOK.name}: {NOTEBOOK.stat().st_size // 1024} kB")


def _shrunk(encoded: str) -> str:
    """A PNG in base64 in at most 128 colours."""
    stream = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        drawn = image.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    drawn.save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()


if __name__ == "__main__":
    main()
