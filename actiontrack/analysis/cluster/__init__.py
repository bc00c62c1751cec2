"""Comparisons on a Dask cluster."""
