"""Ray Serve keeps the contract of executors, on a real Ray on this machine."""

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from raycluster import Kept, cluster

from dataflow.testing import ExecutorConformance

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def ray_runs() -> Iterator[None]:
    with cluster():
        yield
    Kept.deployed.clear()


class TestRayServe(ExecutorConformance):
    rounds = 10
    differs: ClassVar = {
        "in process": "stages run in the replicas' processes, which see copies of what they are sent",
        "clock": "the replicas measure time themselves: a clock of this process could not be theirs",
    }

    @pytest.fixture
    def executor(self) -> Any:
        return Kept()

    @pytest.fixture
    def strict(self) -> Any:
        return Kept(workers=1, max_queue=1)

    def test_random_flows(self, executor: Any) -> None:
        with settings(max_examples=4):
            super().test_random_flows(executor)
