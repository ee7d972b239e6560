"""Bugs put into the library on purpose, one at a time, to see whether the tests find them.

``python -m tests.mutants`` prints which are found, by which test, and how small Hypothesis makes the counterexamples.
"""
