"""Entry points that MLflow loads: run tags and an evaluator."""
