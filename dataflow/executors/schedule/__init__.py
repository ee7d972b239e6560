"""What of a plan is to run next: batches, branches, policies, deadlines. It starts no thread and reads no clock."""

from dataflow.executors.schedule.layout import Kind, timed
from dataflow.executors.schedule.schedule import Schedule, no_source
from dataflow.executors.schedule.ticket import Ticket
from dataflow.executors.schedule.work import Work

__all__ = ["Kind", "Schedule", "Ticket", "Work", "no_source", "timed"]
