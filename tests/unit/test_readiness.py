"""Failing fast, over statuses in the shapes of the real API."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import JsonValue

from workflows.domain.failures import FailureKind
from workflows.domain.json_reading import mapping
from workflows.domain.readiness import (
    Failed,
    FailFast,
    Ready,
    ServiceView,
    Until,
    Verdict,
    Waiting,
    WorkloadKind,
    at_deadline,
    judge,
)

Json = dict[str, JsonValue]
APPLIED = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
IMAGE = "registry.test/api:1"


def at(seconds: float) -> str:
    """The API's form of a time so many seconds after the apply."""
    return (APPLIED + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def terminated(code: int, seconds: float, reason: str = "Error", ran: float = 0) -> Json:
    return {
        "exitCode": code,
        "reason": reason,
        "startedAt": at(seconds - ran),
        "finishedAt": at(seconds),
        "containerID": "containerd://0",
    }


def status(
    state: Json, *, restarts: int = 0, last: Json | None = None, ready: bool = False, name: str = "api"
) -> Json:
    return {
        "name": name,
        "image": IMAGE,
        "ready": ready,
        "started": ready,
        "restartCount": restarts,
        "state": state,
        "lastState": {"terminated": last} if last else {},
    }


def waiting(reason: str, *, restarts: int = 0, last: Json | None = None, name: str = "api") -> Json:
    return status(
        {"waiting": {"reason": reason, "message": "words"}}, restarts=restarts, last=last, name=name
    )


def running(*, restarts: int = 0, last: Json | None = None, ready: bool = False, since: float = 1) -> Json:
    return status({"running": {"startedAt": at(since)}}, restarts=restarts, last=last, ready=ready)


def ended(code: int, seconds: float, *, restarts: int = 0, last: Json | None = None, **more: object) -> Json:
    reason = str(more.get("reason", "Error"))
    return status({"terminated": terminated(code, seconds, reason)}, restarts=restarts, last=last)


PROBE: Json = {"httpGet": {"path": "/", "port": 8080}}


def pod(
    *statuses: Json,
    name: str = "api-1",
    owner: str = "rs-2",
    created: float = 0,
    ready: bool = False,
    probe: bool = True,
    conditions: list[JsonValue] | None = None,
    labels: Json | None = None,
    **spec: JsonValue,
) -> Json:
    container: Json = {"name": "api", "image": IMAGE}
    if probe:
        container["readinessProbe"] = PROBE
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "creationTimestamp": at(created),
            "labels": labels or {"pod-template-hash": "2"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "api-2", "uid": owner, "controller": True}],
        },
        "spec": {"restartPolicy": "Always", "containers": [container], **spec},
        "status": {
            "phase": "Running",
            "startTime": at(created),
            "conditions": [
                {"type": "Ready", "status": str(ready), "lastTransitionTime": at(created)},
                *(conditions or []),
            ],
            "containerStatuses": [*statuses],
        },
    }


def deployment(replicas: int = 1, *, generation: int = 2, observed: int = 2) -> Json:
    return {
        "metadata": {
            "name": "api",
            "uid": "deployment",
            "generation": generation,
            "annotations": {"deployment.kubernetes.io/revision": "2"},
        },
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "api"}]}}},
        "status": {"observedGeneration": observed},
    }


def replica_set(uid: str = "rs-2", revision: str = "2", conditions: list[JsonValue] | None = None) -> Json:
    return {
        "metadata": {
            "name": f"api-{revision}",
            "uid": uid,
            "annotations": {"deployment.kubernetes.io/revision": revision},
            "ownerReferences": [
                {"kind": "Deployment", "name": "api", "uid": "deployment", "controller": True}
            ],
        },
        "status": {"conditions": conditions or []},
    }


def view(*pods: Json, after: float = 5, workload: Json | None = None, **changes: object) -> ServiceView:
    made = ServiceView(
        kind=WorkloadKind.DEPLOYMENT,
        workload=workload or deployment(),
        now=APPLIED + timedelta(seconds=after),
        applied_at=APPLIED,
        pods=pods,
        replica_sets=(replica_set("rs-1", "1"), replica_set()),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def follow(*views: ServiceView) -> Verdict:
    """The verdict after the last snapshot; none before it is final."""
    judge_of_all = FailFast()
    for snapshot in views[:-1]:
        assert isinstance(judge_of_all.observe(snapshot), Waiting)
    return judge_of_all.observe(views[-1])


def failed(verdict: Verdict, kind: FailureKind) -> Failed:
    assert isinstance(verdict, Failed), verdict
    assert verdict.kind is kind, verdict
    return verdict


class TestReady:
    def test_counts_pods_of_the_applied_template_only(self) -> None:
        old = pod(running(ready=True), name="api-0", owner="rs-1", ready=True)
        assert isinstance(judge(view(old, pod(running()))), Waiting)
        new = pod(running(ready=True, restarts=1), ready=True)
        assert judge(view(old, new)) == Ready(1, 1)

    @pytest.mark.parametrize("replicas", [2, 3])
    def test_needs_all_replicas(self, replicas: int) -> None:
        pods = [pod(running(ready=True), name=f"api-{n}", ready=True) for n in range(2)]
        verdict = judge(view(*pods, workload=deployment(replicas)))
        assert isinstance(verdict, Ready) == (replicas == 2)

    def test_nothing_is_ready_at_once_when_nothing_is_wanted(self) -> None:
        assert judge(view(workload=deployment(0))) == Ready(0, 0)

    @pytest.mark.parametrize(
        "workload", [deployment(generation=3), deployment(observed=1), deployment(0, observed=1)]
    )
    def test_waits_until_the_controller_has_taken_it_in(self, workload: Json) -> None:
        assert isinstance(judge(view(pod(running(ready=True), ready=True), workload=workload)), Waiting)

    def test_waits_for_the_generation_that_the_apply_answered(self) -> None:
        assert isinstance(judge(view(pod(running(ready=True), ready=True), generation=3)), Waiting)

    def test_pods_on_their_way_out_do_not_count(self) -> None:
        leaving = pod(running(ready=True), ready=True)
        leaving["metadata"]["deletionTimestamp"] = at(1)  # type: ignore[index, call-overload]
        assert isinstance(judge(view(leaving)), Waiting)

    def test_started_needs_a_running_container_only(self) -> None:
        assert judge(view(pod(running()), until=Until.STARTED)) == Ready(1, 0)
        assert isinstance(judge(view(pod(waiting("ContainerCreating")), until=Until.STARTED)), Waiting)

    def test_waits_until_none_of_an_earlier_template_answers(self) -> None:
        fresh = pod(running(ready=True), ready=True)
        workload = deployment()
        workload["status"] = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1}
        assert judge(view(fresh, workload=workload)) == Waiting(
            "1 of 1 pods ready, 1 of an earlier template left"
        )
        workload["status"] = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1}
        assert judge(view(fresh, workload=workload)) == Ready(1, 0)

    def test_waits_for_as_long_as_the_workload_asks(self) -> None:
        fresh = pod(running(ready=True), ready=True)
        workload = deployment()
        workload["spec"] = {"replicas": 1, "minReadySeconds": 3}
        assert judge(view(fresh, workload=workload)) == Waiting("1 of 1 pods ready, 1 not for long enough")
        assert judge(view(fresh, workload=workload, until=Until.STARTED)) == Ready(1, 0)
        workload["status"] = {"observedGeneration": 2, "availableReplicas": 1}
        assert judge(view(fresh, workload=workload)) == Ready(1, 0)

    def test_a_stateful_set_counts_its_update_revision(self) -> None:
        workload = deployment()
        workload["status"] = {"observedGeneration": 2, "updateRevision": "db-2"}
        by_revision = [
            pod(
                running(ready=True),
                owner="deployment",
                ready=True,
                labels={"controller-revision-hash": revision},
            )
            for revision in ("db-1", "db-2")
        ]
        kind = WorkloadKind.STATEFUL_SET
        assert isinstance(judge(view(by_revision[0], workload=workload, kind=kind)), Waiting)
        assert judge(view(by_revision[1], workload=workload, kind=kind)) == Ready(1, 0)


class TestImages:
    @pytest.mark.parametrize("reason", ["InvalidImageName", "ErrImageNeverPull"])
    def test_hopeless_names_fail_at_once(self, reason: str) -> None:
        verdict = failed(judge(view(pod(waiting(reason)))), FailureKind.IMAGE_UNAVAILABLE)
        assert (verdict.pod, verdict.container) == ("api-1", "api")
        assert IMAGE in verdict.message

    @pytest.mark.parametrize(
        "reasons",
        [
            ("ErrImagePull", "ImagePullBackOff", "ErrImagePull"),
            ("ContainerCreating", "ErrImagePull", "ErrImagePull", "ImagePullBackOff", "ErrImagePull"),
            ("ImagePullBackOff", "ImagePullBackOff", "ErrImagePull"),
        ],
    )
    def test_two_refused_pulls_fail(self, reasons: tuple[str, ...]) -> None:
        views = [view(pod(waiting(reason)), after=n * 5) for n, reason in enumerate(reasons)]
        failed(follow(*views), FailureKind.IMAGE_UNAVAILABLE)

    def test_a_refused_pull_is_not_waited_for_longer_than_twenty_seconds(self) -> None:
        refused = pod(waiting("ErrImagePull"))
        early = follow(view(refused, after=1), view(pod(waiting("ImagePullBackOff")), after=18))
        assert isinstance(early, Waiting)
        assert early.recheck == pytest.approx(3)
        late = follow(view(refused, after=1), view(pod(waiting("ImagePullBackOff")), after=21))
        failed(late, FailureKind.IMAGE_UNAVAILABLE)

    def test_one_refused_pull_does_not(self) -> None:
        views = [view(pod(waiting(r))) for r in ("ErrImagePull", "ImagePullBackOff", "ImagePullBackOff")]
        assert isinstance(follow(*views, view(pod(running()))), Waiting)

    def test_two_pods_refused_once_each_do_not(self) -> None:
        pods = [pod(waiting("ErrImagePull"), name=f"api-{n}") for n in range(2)]
        assert isinstance(judge(view(*pods, workload=deployment(2))), Waiting)

    @pytest.mark.parametrize(("refused_at", "fails"), [(13, True), (3, False)])
    def test_a_latecomer_believes_the_nodes_own_count(self, refused_at: float, fails: bool) -> None:
        # With `refused_at` before the second pull began, that pull is still under way.
        events = [pod_event("Pulling", 1, 12, count=2), pod_event("BackOff", 2, refused_at)]
        verdict = judge(view(pod(waiting("ImagePullBackOff")), after=15, events=events))
        assert isinstance(verdict, Failed) is fails


def pod_event(reason: str, first: float, last: float, *, count: int = 1, message: str = "words") -> Json:
    return {
        "reason": reason,
        "message": message,
        "type": "Warning",
        "count": count,
        "firstTimestamp": at(first),
        "lastTimestamp": at(last),
        "involvedObject": {"kind": "Pod", "uid": "uid-api-1", "fieldPath": "spec.containers{api}"},
    }


class TestExits:
    def test_two_alike_and_never_ready(self) -> None:
        one, two = terminated(1, 1), terminated(1, 2)
        assert isinstance(judge(view(pod(running(restarts=1, last=one)))), Waiting)
        verdict = follow(
            view(pod(running(restarts=1, last=one))),
            view(pod(waiting("CrashLoopBackOff", restarts=1, last=two))),
        )
        message = failed(verdict, FailureKind.CRASH_LOOP).message
        assert message == "The container api of pod api-1 ended 2 times; the last time it exited with code 1."

    def test_both_ends_in_one_snapshot(self) -> None:
        failed(judge(view(pod(ended(1, 2, restarts=1, last=terminated(1, 1))))), FailureKind.CRASH_LOOP)

    def test_two_different_ones_are_not_enough_three_are(self) -> None:
        two = pod(ended(2, 2, restarts=1, last=terminated(1, 1)))
        three = pod(ended(3, 12, restarts=2, last=terminated(2, 2)))
        failed(follow(view(two), view(three)), FailureKind.CRASH_LOOP)

    def test_three_count_even_when_their_codes_were_missed(self) -> None:
        late = pod(waiting("CrashLoopBackOff", restarts=2, last=terminated(1, 12)))
        failed(judge(view(late)), FailureKind.CRASH_LOOP)

    def test_two_alike_after_having_been_ready_are_not_enough(self) -> None:
        fast = FailFast()
        two = workload_of_two()
        fast.observe(view(pod(running(ready=True), ready=True), workload=two))
        crashed = pod(ended(1, 5, restarts=1, last=terminated(1, 4)))
        assert isinstance(fast.observe(view(crashed, workload=two)), Waiting)

    def test_without_a_probe_a_long_run_counts_as_ready(self) -> None:
        ends = {"restarts": 1, "last": terminated(1, 40, ran=30)}
        assert isinstance(judge(view(pod(ended(1, 41, **ends), probe=False))), Waiting)  # type: ignore[arg-type]
        ends = {"restarts": 1, "last": terminated(1, 40, ran=1)}
        failed(judge(view(pod(ended(1, 41, **ends), probe=False))), FailureKind.CRASH_LOOP)  # type: ignore[arg-type]

    def test_one_that_was_killed_before_the_node_looked_names_the_usual_cause(self) -> None:
        one, two = terminated(137, 1), terminated(137, 2)
        crashed = status({"terminated": two}, restarts=1, last=one)
        verdict = failed(judge(view(pod(crashed, probe=False))), FailureKind.CRASH_LOOP)
        assert verdict.message.endswith("exited with code 137 (SIGKILL, mostly for its memory limit).")

    def test_a_command_that_cannot_be_started_never_ran(self) -> None:
        one, two = (
            {
                **terminated(128, n, "StartError"),
                "startedAt": "1970-01-01T00:00:00Z",
                "message": "no such file",
            }
            for n in (1, 2)
        )
        crashed = status({"terminated": two}, restarts=1, last=one)
        verdict = failed(judge(view(pod(crashed, probe=False))), FailureKind.CRASH_LOOP)
        assert verdict.message.endswith("exited with code 128 (StartError): no such file.")

    @pytest.mark.parametrize(
        ("tolerated", "exits", "fails"), [(2, 3, False), (2, 4, True), (1, 2, False), (1, 3, True)]
    )
    def test_tolerated_restarts_raise_both_limits(self, tolerated: int, exits: int, fails: bool) -> None:
        fast = FailFast()
        verdict: Verdict = Waiting("")
        for n in range(exits):
            last = terminated(1, n) if n else None
            snapshot = view(pod(ended(1, n + 1, restarts=n, last=last)), tolerate_restarts=tolerated)
            verdict = fast.observe(snapshot)
        assert isinstance(verdict, Failed) is fails

    def test_exits_from_before_the_apply_do_not_count(self) -> None:
        old = pod(running(restarts=7, last=terminated(1, -60)), created=-600)
        assert isinstance(judge(view(old)), Waiting)
        # One more since: seen to happen, and not like those of before.
        assert isinstance(follow(view(old), view(pod(ended(1, 4, restarts=7), created=-600))), Waiting)

    def test_a_new_worker_counts_anew_what_it_sees_happen(self) -> None:
        # Its clock is ahead of the node's: what it saw happen counts all the same.
        first = view(pod(running(restarts=5, last=terminated(1, -60)), created=-600))
        second = view(pod(ended(1, -5, restarts=5), created=-600))
        third = view(pod(ended(1, -4, restarts=6, last=terminated(1, -5)), created=-600))
        failed(follow(first, second, third), FailureKind.CRASH_LOOP)

    def test_out_of_memory_twice(self) -> None:
        once = pod(ended(137, 2, reason="OOMKilled"))
        twice = pod(ended(137, 4, restarts=1, last=terminated(137, 2, "OOMKilled"), reason="OOMKilled"))
        failed(follow(view(once), view(twice)), FailureKind.OUT_OF_MEMORY)

    def test_a_replaced_pod_begins_anew(self) -> None:
        one = pod(ended(1, 1), name="api-1")
        other = pod(ended(1, 2), name="api-9")
        assert isinstance(follow(view(one), view(other)), Waiting)

    def test_init_containers_may_end_well_but_not_badly(self) -> None:
        spec: JsonValue = [{"name": "init", "image": IMAGE}]
        sidecar: JsonValue = [{"name": "init", "image": IMAGE, "restartPolicy": "Always"}]
        done = {**ended(0, 1), "name": "init"}
        again = {**ended(0, 3, restarts=1, last=terminated(0, 1)), "name": "init"}
        bad = {**ended(1, 3, restarts=1, last=terminated(1, 1)), "name": "init"}
        for containers, init_status, fails in (
            (spec, done, False),
            (spec, again, False),
            (spec, bad, True),
            (sidecar, again, True),
        ):
            with_init = pod(waiting("PodInitializing"), initContainers=containers)
            with_init["status"]["initContainerStatuses"] = [init_status]  # type: ignore[index, call-overload]
            verdict = judge(view(with_init))
            assert isinstance(verdict, Failed) is fails
            assert not fails or (isinstance(verdict, Failed) and verdict.container == "init")


def workload_of_two() -> Json:
    return deployment(2)


class TestConfiguration:
    def test_a_missing_key_has_to_be_found_missing_twice(self) -> None:
        # The first try may only have been too early: a busy node has not read the Secret yet.
        missing = pod(waiting("CreateContainerConfigError"))
        fast = FailFast()
        once = fast.observe(view(missing, after=1, events=[pod_event("Failed", 1, 1)]))
        assert isinstance(once, Waiting)
        for events in (
            [pod_event("Failed", 1, 13, count=2)],
            [pod_event("Failed", 1, 1, message="not yet"), pod_event("Failed", 13, 13)],
        ):
            failed(judge(view(missing, after=13, events=events)), FailureKind.CONFIG_MISSING)

    def test_tries_of_other_containers_and_earlier_templates_do_not_count(self) -> None:
        missing = pod(waiting("CreateContainerConfigError"))
        other = pod_event("Failed", 1, 3, count=5)
        other["involvedObject"] = {"uid": "uid-api-1", "fieldPath": "spec.containers{side}"}
        events = [other, pod_event("Failed", -90, -80, count=5)]
        assert isinstance(judge(view(missing, after=3, events=events)), Waiting)

    def test_a_start_that_failed_is_not_a_missing_key(self) -> None:
        missing = pod(waiting("CreateContainerConfigError"))
        start_failed = [pod_event("Created", 1, 1), pod_event("Failed", 1, 1, message="no such file")]
        too_early = pod_event("Failed", 3, 3, message="not yet")
        assert isinstance(judge(view(missing, after=3, events=[*start_failed, too_early])), Waiting)
        again = pod_event("Failed", 3, 15, message="not yet", count=2)
        failed(judge(view(missing, after=15, events=[*start_failed, again])), FailureKind.CONFIG_MISSING)

    def test_without_events_a_missing_key_has_to_last(self) -> None:
        missing = pod(waiting("CreateContainerConfigError"))
        fast = FailFast()
        first = fast.observe(view(missing, after=1))
        assert isinstance(first, Waiting)
        assert first.recheck == pytest.approx(20)
        failed(fast.observe(view(missing, after=21)), FailureKind.CONFIG_MISSING)

    def test_a_key_that_arrives_in_between_is_fine(self) -> None:
        fast = FailFast()
        fast.observe(view(pod(waiting("CreateContainerConfigError")), after=1))
        fast.observe(view(pod(running()), after=1.5))
        assert isinstance(fast.observe(view(pod(waiting("CreateContainerConfigError")), after=22)), Waiting)


def unschedulable(since: float) -> list[JsonValue]:
    return [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient cpu.",
            "lastTransitionTime": at(since),
        }
    ]


class TestScheduling:
    def test_fails_after_a_minute(self) -> None:
        stuck = pod(conditions=unschedulable(2))
        verdict = judge(view(stuck, after=30))
        assert isinstance(verdict, Waiting)
        assert verdict.recheck == pytest.approx(32)
        message = failed(judge(view(stuck, after=62)), FailureKind.UNSCHEDULABLE).message
        assert "Insufficient cpu" in message

    def test_a_minute_from_before_the_apply_does_not_count(self) -> None:
        assert isinstance(judge(view(pod(conditions=unschedulable(-600)), after=10)), Waiting)

    @pytest.mark.parametrize(
        ("reasons", "kind"),
        [
            ((), FailureKind.VOLUME_UNAVAILABLE),
            (("ProvisioningFailed", "WaitForFirstConsumer"), FailureKind.VOLUME_UNAVAILABLE),
            (("WaitForFirstConsumer",), FailureKind.UNSCHEDULABLE),
        ],
    )
    def test_an_unbound_claim_is_named(self, reasons: tuple[str, ...], kind: FailureKind) -> None:
        claim: Json = {"metadata": {"name": "data-api-1", "uid": "claim"}, "status": {"phase": "Pending"}}
        events = [{**pod_event(reason, 1, 2), "involvedObject": {"uid": "claim"}} for reason in reasons]
        stuck = pod(
            conditions=unschedulable(0),
            volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data-api-1"}}],
        )
        failed(judge(view(stuck, after=61, claims=(claim,), events=events)), kind)

    @pytest.mark.parametrize(
        ("volume", "kind"),
        [
            ({"name": "v", "persistentVolumeClaim": {"claimName": "c"}}, FailureKind.VOLUME_UNAVAILABLE),
            ({"name": "v", "configMap": {"name": "c"}}, FailureKind.CONFIG_MISSING),
        ],
    )
    def test_a_volume_that_cannot_be_mounted(self, volume: Json, kind: FailureKind) -> None:
        stuck = pod(waiting("ContainerCreating"), volumes=[volume])
        events = [pod_event("FailedMount", 1, 55, count=8)]
        early = judge(view(stuck, after=30, events=events))
        assert isinstance(early, Waiting)
        assert early.recheck == pytest.approx(31)
        failed(judge(view(stuck, after=61, events=events)), kind)
        assert isinstance(judge(view(pod(running()), after=61, events=events)), Waiting)


def quota(used: Json, hard: Json, *, counted: bool = True) -> Json:
    return {
        "metadata": {"name": "environment"},
        "spec": {"hard": hard},
        "status": {"hard": hard, "used": used} if counted else {},
    }


REFUSED: list[JsonValue] = [
    {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": "refused",
        "lastTransitionTime": at(1),
    }
]


class TestCreation:
    def refused(
        self, quotas: list[Json], after: float = 4, resources: Json | None = None, beside: Sequence[Json] = ()
    ) -> Verdict:
        workload = deployment(2)
        container: Json = {"name": "api", "resources": resources or {"requests": {"memory": "300Mi"}}}
        workload["spec"] = {"replicas": 2, "template": {"spec": {"containers": [container]}}}
        sets = (replica_set(conditions=REFUSED),)
        limits: Json = {"spec": {"limits": [{"type": "Container", "defaultRequest": {"cpu": "10m"}}]}}
        return judge(
            view(
                pod(running()),
                *beside,
                after=after,
                workload=workload,
                replica_sets=sets,
                quotas=quotas,
                limit_ranges=(limits,),
            )
        )

    def test_an_exceeded_quota_fails_soon(self) -> None:
        quotas = [quota({"requests.memory": "800Mi", "pods": "1"}, {"requests.memory": "1Gi", "pods": "9"})]
        message = failed(self.refused(quotas), FailureKind.QUOTA_EXCEEDED).message
        assert "requests.memory 300Mi asked for, 800Mi of 1Gi used" in message

    def test_a_quota_that_a_pod_is_about_to_leave_is_waited_for(self) -> None:
        """One of the template before, or of another service; its deletion is due at second 30."""
        full = [quota({"pods": "3"}, {"pods": "3"})]
        leaving = pod(running(), name="other-1", owner="rs-1")
        leaving["metadata"] = {**mapping(leaving, "metadata"), "deletionTimestamp": at(30)}
        verdict = self.refused(full, after=39, beside=[leaving])
        assert isinstance(verdict, Waiting)
        assert verdict.recheck == pytest.approx(1)
        failed(self.refused(full, after=41, beside=[leaving]), FailureKind.QUOTA_EXCEEDED)
        failed(self.refused(full, after=39), FailureKind.QUOTA_EXCEEDED)

    def test_a_quota_that_a_pod_has_just_left_is_counted_again(self) -> None:
        verdict = self.refused([quota({"pods": "3"}, {"pods": "3"})], after=2)
        assert isinstance(verdict, Waiting)
        assert verdict.recheck == pytest.approx(2)

    @pytest.mark.parametrize(
        ("used", "hard"),
        [
            ({"pods": "3"}, {"pods": "3"}),
            ({"cpu": "95m"}, {"cpu": "100m"}),
            ({"limits.memory": "0"}, {"limits.memory": "1Gi"}),
        ],
        ids=["pods", "defaulted request", "limit that is not named"],
    )
    def test_every_counted_resource(self, used: Json, hard: Json) -> None:
        failed(self.refused([quota(used, hard)]), FailureKind.QUOTA_EXCEEDED)

    def test_a_quota_without_a_status_is_waited_for(self) -> None:
        verdict = self.refused([quota({}, {"pods": "1"}, counted=False)], after=100)
        assert isinstance(verdict, Waiting)
        assert verdict.recheck == pytest.approx(1)

    def test_another_refusal_gets_some_time(self) -> None:
        roomy = [quota({"pods": "1"}, {"pods": "9"})]
        verdict = self.refused(roomy, after=2)
        assert isinstance(verdict, Waiting)
        assert verdict.recheck == pytest.approx(19)
        assert "refused" in failed(self.refused(roomy, after=21), FailureKind.FORBIDDEN).message

    @pytest.mark.parametrize("kind", [WorkloadKind.STATEFUL_SET, WorkloadKind.JOB])
    def test_others_say_it_in_events(self, kind: WorkloadKind) -> None:
        workload = deployment()
        workload["status"] = {"observedGeneration": 2, "updateRevision": "db-2"}
        event: Json = {
            **pod_event("FailedCreate", 1, 2),
            "involvedObject": {"kind": kind.value, "uid": "deployment"},
        }
        full = quota({"pods": "0"}, {"pods": "0"})
        snapshot = view(workload=workload, kind=kind, quotas=(full,), events=(event,))
        failed(judge(snapshot), FailureKind.QUOTA_EXCEEDED)
        assert isinstance(judge(replace(snapshot, events=())), Waiting)
        stale: Json = {**event, "firstTimestamp": at(-90), "lastTimestamp": at(-60)}
        assert isinstance(judge(replace(snapshot, events=(stale,))), Waiting)

    def test_claims_count_against_a_stateful_set(self) -> None:
        claim: Json = {
            "metadata": {"name": "data"},
            "spec": {"resources": {"requests": {"storage": "5Gi"}}},
        }
        workload = deployment()
        workload["spec"] = {"replicas": 1, "template": {"spec": {}}, "volumeClaimTemplates": [claim]}
        event = {**pod_event("FailedCreate", 1, 2), "involvedObject": {"uid": "deployment"}}
        full = quota({"requests.storage": "0"}, {"requests.storage": "4Gi"})
        snapshot = view(workload=workload, kind=WorkloadKind.STATEFUL_SET, quotas=(full,), events=(event,))
        assert "storage" in failed(judge(snapshot), FailureKind.QUOTA_EXCEEDED).message


class TestJobs:
    def job(self, *conditions: str, **job_status: JsonValue) -> Json:
        found: list[JsonValue] = [
            {"type": kind, "status": "True", "reason": "BackoffLimitExceeded"} for kind in conditions
        ]
        return {
            "metadata": {"name": "migrate", "uid": "job", "generation": 1},
            "spec": {"parallelism": 1, "completions": 1},
            "status": {"conditions": found, **job_status},
        }

    def seen(self, workload: Json, *statuses: Json, until: Until = Until.COMPLETED) -> Verdict:
        one = pod(*statuses, owner="job", restartPolicy="Never")
        return judge(view(one, workload=workload, kind=WorkloadKind.JOB, until=until))

    def test_completes(self) -> None:
        assert isinstance(self.seen(self.job(), running()), Waiting)
        assert self.seen(self.job("Complete", succeeded=1), ended(0, 2)) == Ready(1, 0)

    def test_started_while_it_runs(self) -> None:
        assert self.seen(self.job(), running(), until=Until.STARTED) == Ready(1, 0)

    def test_failing_tells_the_exit_code(self) -> None:
        assert isinstance(self.seen(self.job(), ended(3, 2)), Waiting)
        verdict = failed(self.seen(self.job("Failed"), ended(3, 2)), FailureKind.CRASH_LOOP)
        assert "exited with code 3" in verdict.message
        assert verdict.pod == "api-1"

    def test_out_of_memory_once_is_enough(self) -> None:
        failed(self.seen(self.job(), ended(137, 2, reason="OOMKilled")), FailureKind.OUT_OF_MEMORY)

    def test_failing_without_a_pod(self) -> None:
        verdict = judge(view(workload=self.job("Failed"), kind=WorkloadKind.JOB))
        assert "BackoffLimitExceeded" in failed(verdict, FailureKind.CRASH_LOOP).message

    def test_a_suspended_one_is_at_rest(self) -> None:
        workload = self.job()
        workload["spec"] = {"suspend": True}
        assert judge(view(workload=workload, kind=WorkloadKind.JOB)) == Ready(0, 0)


class TestAtDeadline:
    @pytest.mark.parametrize(
        ("make", "kind"),
        [
            (lambda: pod(running()), FailureKind.PROBE_FAILING),
            (lambda: pod(running(), probe=False), FailureKind.TIMEOUT),
            (lambda: pod(waiting("ContainerCreating")), FailureKind.TIMEOUT),
            (lambda: pod(waiting("ImagePullBackOff")), FailureKind.IMAGE_UNAVAILABLE),
            (lambda: pod(waiting("CreateContainerConfigError")), FailureKind.CONFIG_MISSING),
            (
                lambda: pod(waiting("CrashLoopBackOff", restarts=9, last=terminated(1, -9)), created=-99),
                FailureKind.CRASH_LOOP,
            ),
            (
                lambda: pod(waiting("CrashLoopBackOff", restarts=1, last=terminated(137, 1, "OOMKilled"))),
                FailureKind.OUT_OF_MEMORY,
            ),
            (lambda: pod(conditions=unschedulable(1)), FailureKind.UNSCHEDULABLE),
        ],
    )
    def test_says_what_it_is_stuck_in(self, make: Callable[[], Json], kind: FailureKind) -> None:
        assert failed(at_deadline(view(make())), kind).pod == "api-1"

    @pytest.mark.parametrize(
        ("make", "ran"),
        [
            (lambda: pod(running(), probe=False), True),
            (lambda: pod(running(ready=True), ready=True), True),
            (lambda: pod(waiting("ContainerCreating")), False),
            (lambda: pod(running(), probe=False, initContainers=[{"name": "first"}]), False),
        ],
        ids=["runs", "was-ready", "creating", "init-creating"],
    )
    def test_says_whether_what_was_late_ran(self, make: Callable[[], Json], *, ran: bool) -> None:
        one, two = (view(make(), workload=deployment(replicas)) for replicas in (1, 2))
        assert failed(at_deadline(one), FailureKind.TIMEOUT).ran is ran
        # One of two that is not even there has not run.
        assert not failed(at_deadline(two), FailureKind.TIMEOUT).ran

    def test_quotes_the_newest_probe_result(self) -> None:
        events = (
            pod_event("Unhealthy", 1, 2, message="old"),
            pod_event("Unhealthy", 1, 9, message="code 503"),
        )
        assert at_deadline(view(pod(running()), events=events)).message.endswith("time: code 503")

    def test_says_so_when_there_is_nothing_to_see(self) -> None:
        assert "0 of 1 pods ready, 0 created" in failed(at_deadline(view()), FailureKind.TIMEOUT).message
        assert failed(at_deadline(replace(view(), workload=None)), FailureKind.TIMEOUT).pod is None
