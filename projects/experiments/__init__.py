"""The paper's experiments, one file and one command each; see `projects/README.md`."""
