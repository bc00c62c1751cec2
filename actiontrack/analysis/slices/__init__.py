"""Slices: samples that share an attribute, and whether they are harder than the others.

Attributes of samples come from a table (`attributes`), which may lie beside the record
(`metadata`). `effects` has the table of all slices.
"""
