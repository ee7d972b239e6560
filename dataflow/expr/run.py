"""The doorway from the words to what lies downstream.

This is the one module of `dataflow.expr` that knows that graphs, plans and executors exist, and it imports them only
when a flow is run, so that writing an expression needs nothing but Python.
"""
