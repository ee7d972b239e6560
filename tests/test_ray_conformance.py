"""Ray Serve keeps the contract of executors, on a real Ray on this machine."""

from typing import Any, ClassVar

import pytest
from raycluster import Hosted

from dataflow.testing import ExecutorConformance

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(300), pytest.mark.usefixtures("ray_runs")]


class TestRayServe(ExecutorConformance):
    rounds = 10
    examples = 20
    others: ClassVar = ("ray", "grpc", "asyncio")  # whose calls, when they are cancelled, leave some
    differs: ClassVar = {
        "in process": "stages run in the replicas' processes, which see copies of what they are sent",
        "connections": "Ray keeps its connections to other processes of the cluster open, session or none",
        "clock": "the replicas measure time themselves: a clock of this process could not be theirs",
    }

    @pytest.fixture
    def executor(self) -> Any:
        return Hosted()

    @pytest.fixture
    def strict(self) -> Any:
        return Hosted(workers=1, max_queue=1)
