"""What the user writes: flows, the words that make them and the operators that join them."""

from dataflow.expr.flow import Flow
from dataflow.expr.stage import Stage, StageClass
from dataflow.expr.words import combine, each, fanout, identity, race, stage, switch

__all__ = ["Flow", "Stage", "StageClass", "combine", "each", "fanout", "identity", "race", "stage", "switch"]
