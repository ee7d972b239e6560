"""What is deployed of a plan: a pure function, which knows no Ray."""

import json
from typing import Any

import pytest

import dataflow as df
from dataflow.executors.ray_serve.cluster import Share
from dataflow.executors.ray_serve.deploying import ONGOING, options_of
from dataflow.executors.ray_serve.lowering import Lowered, lower


def double(x: Any) -> Any:
    return 2 * x


def lowered(flow: Any) -> Lowered:
    return lower(flow.optimize())


def shape(flow: Any) -> dict[str, tuple[str, ...]]:
    return {deployment.name: deployment.stages for deployment in lowered(flow).deployments}


def placed(fn: Any, **options: Any) -> Any:
    return df.stage(fn, **options)


def test_cpu_stages_are_one_deployment() -> None:
    assert shape(df.stage(abs) >> double >> (df.stage(str) | float)) == {"ingress": ("abs", "double", "str", "float")}


def test_a_placement_is_a_deployment() -> None:
    flow = df.stage(abs) >> placed(double, placement="there") >> placed(str, placement="there")
    assert shape(flow) == {"ingress": ("abs",), "there": ("double", "str")}


def test_all_in_one_named_placement_is_one_deployment() -> None:
    flow = placed(abs, placement="one") >> (placed(double, placement="one") | placed(float, placement="one"))
    assert shape(flow >> df.combine(max)) == {"ingress": ("abs", "double", "float")}
    assert "no hop" in lowered(flow).ingress.why


def test_where_nothing_else_would_run_in_it_the_ingress_is_a_placement() -> None:
    apart = placed(abs, replicas=2) >> placed(double, placement="one") >> placed(str, placement="two")
    assert shape(apart) == {"ingress": ("double",), "abs": ("abs",), "two": ("str",)}
    assert "'one'" in lowered(apart).ingress.why
    assert lowered(apart).ingress.least == 1
    assert shape(apart >> len) == {"ingress": ("len",), "abs": ("abs",), "one": ("double",), "two": ("str",)}


def test_a_placement_of_many_processes_or_on_a_gpu_is_no_ingress_if_there_are_others() -> None:
    flow = placed(abs, placement="p", replicas=(1, 2)) >> placed(double, device="cuda")
    assert shape(flow) == {"ingress": (), "p": ("abs",), "double": ("double",)}


def test_a_gpu_stage_has_its_own_unless_it_names_one() -> None:
    flow = placed(abs, device="cuda") >> placed(double, device="cuda", placement="g") >> placed(str, placement="g")
    assert shape(flow) == {"ingress": (), "abs": ("abs",), "g": ("double", "str")}


@pytest.mark.parametrize("options", [{"replicas": 2}, {"cpus": 2}, {"gpus": 0.5}, {"memory": 10**9}])
def test_what_asks_for_something_of_its_own_gets_it(options: Any) -> None:
    assert shape(df.stage(abs) >> placed(double, **options) >> str) == {
        "ingress": ("abs", "str"),
        "double": ("double",),
    }


def test_a_pure_stage_used_twice_is_deployed_once() -> None:
    model = placed(double, device="cuda")
    flow = df.switch(abs, {0: model >> str, 1: model >> float})
    assert shape(flow)["double"] == ("double", "double#2") or shape(flow)["double"] == ("double",)
    assert list(shape(flow)) == ["ingress", "double"]


def test_stages_inside_constructs_are_placed_too() -> None:
    inner = placed(double, placement="there", batch=4)
    flow = df.each(inner).retry(2).timeout(5).fallback(df.stage(len))
    assert shape(flow) == {"ingress": ("len",), "there": ("double",)}


def test_stages_of_one_placement_share_what_they_ask_for() -> None:
    flow = (
        placed(abs, placement="p", cpus=1, replicas=(1, 4))
        >> placed(double, placement="p", cpus=0.5, gpus=1, memory=10, replicas=(1, 4))
        >> str
    )
    deployment = lowered(flow).named("p")
    assert (deployment.cpus, deployment.gpus, deployment.memory, deployment.replicas) == (1.5, 1, 10, (1, 4))


def test_different_replicas_in_one_process_are_refused() -> None:
    flow = placed(abs, placement="p", replicas=2) >> placed(double, placement="p", replicas=3) >> str
    with pytest.raises(df.LoweringError, match=r"'p'.*'abs' asks for 2, 'double' asks for 3"):
        lowered(flow)


def test_options_reach_ray() -> None:
    flow = df.stage(str) >> placed(double, replicas=(1, 3), cpus=2, gpus=0.5, memory=10**6, batch=32)
    options = options_of(lowered(flow).named("double"), Share())
    assert options["ray_actor_options"] == {"num_cpus": 2, "num_gpus": 0.5, "memory": 10**6}
    assert {key: options["autoscaling_config"][key] for key in ("min_replicas", "max_replicas")} == {
        "min_replicas": 1,
        "max_replicas": 3,
    }
    assert options["max_ongoing_requests"] == ONGOING, "what is sent is bounded by who sends it"
    fixed = options_of(lowered(df.stage(str) >> placed(double, replicas=3)).named("double"), Share())
    assert fixed["num_replicas"] == 3
    assert "autoscaling_config" not in fixed


def test_a_stage_on_a_gpu_asks_for_one() -> None:
    flow = df.stage(str) >> placed(double, device="cuda")
    deployment = lowered(flow).named("double")
    assert options_of(deployment, Share())["ray_actor_options"] == {"num_gpus": 1.0}
    assert options_of(deployment, Share(0.5, 0.25))["ray_actor_options"] == {"num_cpus": 0.5, "num_gpus": 0.25}


def test_names_are_such_that_ray_takes_them() -> None:
    flow = (
        placed(abs, placement="a b/c") >> placed(double, placement="a b:c") >> placed(str, placement="ingress") >> len
    )
    assert list(shape(flow)) == ["ingress", "a_b_c", "a_b_c-2", "ingress-2"]


def test_a_hop_carries_whole_batches() -> None:
    flow = (
        df.stage(abs) >> placed(double, placement="a", batch=32, max_wait=0.5) >> placed(str, placement="b", pure=False)
    )
    (batch,), (rows,) = lowered(flow).named("a").hops, lowered(flow).named("b").hops
    assert (batch.rows, batch.max_wait, batch.pure) == (32, 0.5, True)
    assert (rows.rows, rows.max_wait, rows.pure) == (256, 0.0, False)
    assert not lowered(flow).pure


def test_every_process_makes_the_same_of_a_plan() -> None:
    flow = placed(abs, placement="a") >> placed(double, device="cuda") >> str
    assert lowered(flow) == lowered(flow)


def test_explain_shows_deployments_and_what_travels() -> None:
    flow = df.stage(abs) >> placed(double, placement="there", batch=32, replicas=2)
    text = flow.explain("ray")
    for part in ("Places", "ingress", "there", "2 replicas", "up to 32 rows in one call", "by value", "by reference"):
        assert part in " ".join(text.split())
    record = json.loads(flow.explain("ray", "json"))
    assert [place["name"] for place in record["places"]] == ["ingress", "there"]
    assert "places" not in json.loads(flow.explain("threads", "json"))
