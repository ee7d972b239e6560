"""A plan as JSON, whole: nothing is folded or left out.

The schema, of version 1. A program may rely on these keys; later versions may add others.

========== ===========================================================================================================
key        value
========== ===========================================================================================================
schema     1
executor   the executor's name
digest     the plan's digest
expression the flow as it is written, cut after 2 000 characters
passes     the names of the passes that ran
steps      the flow's own steps, in an order in which they may run
result     the slot that holds the flow's result
bodies     the blocks of steps that steps hold, each once, however many hold it: ``{"id", "steps", "result"}``
remarks    the decisions of the passes: ``{"by", "verdict", "subject", "reason"}``; a verdict is "did" or "refused"
places     with an executor of several processes, where the steps run: ``{"name", "steps", "asks", "reached", "why"}``
========== ===========================================================================================================

A step is

========== ===========================================================================================================
key        value
========== ===========================================================================================================
name       unique in the plan; what errors and ``stats()`` call it
kind       "call", "fused", "batched", "pack", "apply", "spread", "identity", "route", "switch", "each", "race",
           "retry", "timeout", "fallback" or "quorum"
does       how it runs, in words
inputs     the slots that it reads; ``"%3"`` is the value of node 3 of the block, ``"%3.1"`` its second one, and
           ``"%0"`` the block's input
outputs    the slots that it fills
after      the nodes that it waits for though it reads nothing of theirs
batches    whether it calls a batched stage, itself or in its bodies
stages     the stages that run as this step itself: ``{"name", "pure", "options", "origin"}``, the options those that
           are not the defaults, the origin ``{"file", "line"}`` or null
bodies     what it holds: ``{"title", "id"}``; the title says when the body runs, the id is that of a block
origin     where the step's construct was written, or null
========== ===========================================================================================================
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from dataflow.explain.places import Place
from dataflow.explain.wording import Wording, clean
from dataflow.expr.origin import Origin
from dataflow.graph import Value
from dataflow.graph.text import titles
from dataflow.plan import Block, Plan, Step

SCHEMA = 1


def to_json(plan: Plan, executor: str = "", places: Sequence[Place] = ()) -> str:
    """Return a plan as JSON text.

    Examples
    --------
    >>> import dataflow as df, json
    >>> record = json.loads(to_json((df.stage(abs) >> str).optimize()))
    >>> [(step["kind"], [stage["name"] for stage in step["stages"]]) for step in record["steps"]]
    [('fused', ['abs', 'str'])]
    """
    recorder = _Recorder(plan)
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "executor": executor,
        "digest": plan.digest,
        "expression": clean(repr(plan.flow)),
        "passes": list(plan.passes),
        "steps": recorder.steps(plan.block),
        "result": _slot(plan.block.result),
        "bodies": recorder.bodies(),
        "remarks": [
            {"by": row.by, "verdict": row.verdict, "subject": clean(row.subject), "reason": clean(row.reason)}
            for row in plan.remarks
        ],
    }
    if places:
        record["places"] = [dataclasses.asdict(place) for place in places]
    return json.dumps(record, indent=2, default=_plain)


class _Recorder:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._wording = Wording(plan)
        self._blocks: list[Block] = []
        self._ids: dict[int, int] = {}

    def steps(self, block: Block) -> list[dict[str, Any]]:
        """Return the steps of a block, and remember the blocks that they hold."""
        return [self._step(step) for step in block.steps]

    def bodies(self) -> list[dict[str, Any]]:
        """Return the blocks that were remembered, and those in turn that are met on the way."""
        rows = []
        for id_, block in enumerate(self._blocks):  # which grows meanwhile
            rows.append({"id": id_, "steps": self.steps(block), "result": _slot(block.result)})
        return rows

    def _id(self, block: Block) -> int:
        if id(block) not in self._ids:
            self._ids[id(block)] = len(self._blocks)
            self._blocks.append(block)
        return self._ids[id(block)]

    def _step(self, step: Step) -> dict[str, Any]:
        held = zip(titles(step.op), step.bodies, strict=False)
        return {
            "name": step.name,
            "kind": step.op.name,
            "does": self._wording.words(step).does,
            "inputs": [_slot(value) for value in step.inputs],
            "outputs": [_slot(value) for value in step.outputs],
            "after": list(step.after),
            "batches": step.batches,
            "stages": [
                {
                    "name": self._plan.label(call),
                    "pure": call.stage.options.pure,
                    "options": call.stage.options.given(),
                    "origin": _origin(call.origin),
                }
                for call in step.stages
            ],
            "bodies": [{"title": clean(title), "id": self._id(body)} for title, body in held],
            "origin": _origin(step.op.origin),
        }


def _slot(value: Value) -> str:
    return f"%{value.node}" + f".{value.output}" * bool(value.output)


def _origin(origin: Origin | None) -> dict[str, Any] | None:
    return None if origin is None else {"file": origin.file, "line": origin.line}


def _plain(value: object) -> str:
    """Return what JSON has no word for, such as a number of another library, as text."""
    return clean(repr(value))
