"""A step that is run in another deployment: the whole batch goes there in one call, and comes back in one."""

from __future__ import annotations

from dataflow.executors.faults import Faults
from dataflow.executors.ray_serve.answers import Answer, Lookup
from dataflow.executors.ray_serve.exchange import exchange
from dataflow.executors.ray_serve.line import Line
from dataflow.executors.ray_serve.lowering import Deployment, Hop
from dataflow.executors.ray_serve.payload import Message
from dataflow.executors.rows import Column
from dataflow.executors.schedule.work import Work
from dataflow.plan import Step

AHEAD = 2
"""How many calls a replica is sent at once: while it runs one, the next is on its way."""

_ROWS_AHEAD = 8  # the same where rows are run one by one, which many threads of a replica can do
_CALL_SECONDS = 0.02  # about how long a call that runs rows one by one may take: none is to wait long for the others
_FIRST_ROWS = 8  # how many of these are sent in a call before it is known what they take


class Remote:
    """Runs a step in another deployment.

    Parameters
    ----------
    step : Step
        The step.
    hop : Hop
        How it is sent.
    deployment : Deployment
        Where.
    line : Line
        The way there.
    lookup : Lookup
        Finds ops by their names.
    """

    def __init__(self, step: Step, hop: Hop, deployment: Deployment, line: Line, lookup: Lookup) -> None:
        self.ceiling = hop.rows if hop.batch else _FIRST_ROWS
        self.places = (AHEAD if hop.batch else _ROWS_AHEAD) * deployment.most
        self.max_wait = hop.max_wait
        self._step = step
        self._hop = hop
        self._pure = hop.pure
        self._line = line
        self._lookup = lookup

    def run(self, work: Work, inputs: list[Column]) -> tuple[list[Column], Faults]:
        """Return the output columns, and the faults."""
        op = self._step.stages[0]
        columns, faults, answer = exchange(inputs, len(self._step.outputs), self._send, self._lookup, op)
        if answer is not None:
            for size, times in answer.batches.items():
                for _ in range(times):
                    work.slot.stats.batch(size)
            if not self._hop.batch and answer.seconds > 0:
                fit = int(_CALL_SECONDS * len(inputs[0]) / answer.seconds)
                self.ceiling = max(1, min(self._hop.rows, fit, 4 * self.ceiling))
        return columns, faults

    def _send(self, message: Message, rows: list[int]) -> Answer:
        answer: Answer = self._line.ask(message, self._step.name, pure=self._pure)
        return answer
