"""A step that is run in another deployment: the whole batch goes there in one call, and comes back in one.

A job's batches go there several in one call where they are soon done, for the way costs more than they do.
"""

from __future__ import annotations

from typing import Any

from dataflow.executors.faults import trimmed
from dataflow.executors.link import Done, Outcome, Stop
from dataflow.executors.ray_serve.answers import Answer, Lookup
from dataflow.executors.ray_serve.exchange import Exchange
from dataflow.executors.ray_serve.line import Line
from dataflow.executors.ray_serve.lowering import BY_VALUE, Deployment, Hop
from dataflow.executors.ray_serve.payload import Message, size_of
from dataflow.executors.rows import Column
from dataflow.executors.schedule.work import Work
from dataflow.plan import Step

AHEAD = 2
"""How many calls a replica is sent at once: while it runs one, the next is on its way."""

_ROWS_AHEAD = 8  # the same where rows are run one by one, which many threads of a replica can do
_CALL_SECONDS = 0.02  # about how long a call may take that has several batches, or many rows that are run one by one
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
        self.at_once = 1
        self.places = (AHEAD if hop.batch else _ROWS_AHEAD) * deployment.most
        self.max_wait = hop.max_wait
        self._step = step
        self._hop = hop
        self._pure = hop.pure
        self._line = line
        self._lookup = lookup
        self._size = 0  # how many bytes the last call carried

    @property
    def needs_thread(self) -> bool:
        """Whether much is carried, there or back: to copy it would hold up the event loop."""
        return max(self._size, self._line.last) > BY_VALUE

    def run(self, work: Work, inputs: list[Column]) -> Outcome:
        """Return the output columns, and the faults."""
        answers: list[Answer] = []

        def send(message: Message, rows: list[int]) -> Answer:
            self._size = size_of(message)
            answers.append(Answer.read(self._line.ask(message, self._step.name, pure=self._pure)))
            return answers[0]

        made = self._exchange(inputs).sent_by(send)
        for answer in answers:
            self._learn(work, answer, len(inputs[0]))
        return made

    def begin(self, work: Work, inputs: list[Column], done: Done) -> Stop:
        """Begin a call, of which the event loop takes the answer."""
        exchange = self._exchange(inputs)
        message = exchange.message
        if message is None:
            done(exchange.outcome(), None)
            return _nothing

        def answered(loaded: Any, error: BaseException | None) -> None:
            if error is not None and not isinstance(error, Exception):
                return done(None, error)
            answer = None if loaded is None else Answer.read(loaded)
            try:
                made = exchange.outcome(answer, error and trimmed(error))
            except BaseException as stop:  # what ends everything
                return done(None, stop)
            if answer is not None:
                self._learn(work, answer, len(inputs[0]))
            return done(made, None)

        self._size = size_of(message)
        return self._line.begin(message, self._step.name, pure=self._pure, done=answered)

    def _exchange(self, inputs: list[Column]) -> Exchange:
        return Exchange(inputs, len(self._step.outputs), self._lookup, self._step.stages[0])

    def _learn(self, work: Work, answer: Answer, rows: int) -> None:
        """Count the batches that were called there, and see how long rows take."""
        for size, times in answer.batches.items():
            work.slot.stats.batch(size, times)
        if answer.seconds <= 0:
            return
        if self._hop.batch:
            fit = int(_CALL_SECONDS * -(-rows // self.ceiling) / answer.seconds)
            self.at_once = max(1, min(fit, 4 * self.at_once))
        else:
            fit = int(_CALL_SECONDS * rows / answer.seconds)
            self.ceiling = max(1, min(self._hop.rows, fit, 4 * self.ceiling))


def _nothing() -> None:
    """Give up what is over."""
