"""The plan: steps made of an optimized graph, and the code of fused ones."""

from dataflow.plan.codegen import Binding, Code, generate
from dataflow.plan.plan import Block, Plan, Step, make_plan

__all__ = ["Binding", "Block", "Code", "Plan", "Step", "generate", "make_plan"]
