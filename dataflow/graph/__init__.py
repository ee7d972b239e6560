"""From expression to graph: ops, regions of them, lowering, verifying and printing."""

from dataflow.graph.lower import lower
from dataflow.graph.region import AFTER, Builder, Node, Port, Region, Value, regions
from dataflow.graph.rewrite import contract, keep, replace_ops, rewrite, without
from dataflow.graph.text import to_text
from dataflow.graph.verify import InvalidGraph, verify

__all__ = [
    "AFTER",
    "Builder",
    "InvalidGraph",
    "Node",
    "Port",
    "Region",
    "Value",
    "contract",
    "keep",
    "lower",
    "regions",
    "replace_ops",
    "rewrite",
    "to_text",
    "verify",
    "without",
]
