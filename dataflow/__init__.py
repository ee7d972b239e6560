"""A functional dataflow library for multi-model inference."""

from dataflow.expr import combine, each, fanout, identity, race, stage, switch
