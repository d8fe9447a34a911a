"""Seeds: what is refused, what values become, what a run is remembered by, and versions in their order."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.contexts import CONTEXT
from workflows.domain import manifests
from workflows.domain.blueprint import Blueprint, parse_blueprint
from workflows.domain.blueprint_models import DataStore
from workflows.domain.init_sql import check_sql
from workflows.domain.json_reading import at, children, text
from workflows.domain.names import NAME, SEED
from workflows.domain.seeds import (
    SeedContent,
    SeedParameter,
    SeedRun,
    SeedType,
    content_faults,
    fill_sql,
    newest,
    read_version,
    run_key,
    run_values,
)

PLANTED = "planted'value"


def content(**changed: Any) -> SeedContent:
    base = {"type": "sql", "script": "insert into t values (${{ who }});", "parameters": [{"name": "who"}]}
    return SeedContent.model_validate({**base, **changed})


def run(**changed: Any) -> SeedRun:
    seed = SeedContent(type=SeedType.SHELL, script="echo $WHO $$ $(date)")
    values = {"content": seed, "service": "web", "digest": seed.digest, "key": "seed/env_1/abc", **changed}
    return SeedRun.model_validate(values)


def shop() -> Blueprint:
    return parse_blueprint(
        {
            "name": "shop",
            "services": {
                "web": {
                    "image": "registry.test/web:1",
                    "ports": [{"containerPort": 8080}],
                    "probes": {"readiness": {"http": {"path": "/", "port": 8080}}},
                    "env": {"LEVEL": "debug", "WHO": "the service's"},
                    "secrets": [{"name": "token", "envKey": "TOKEN", "value": "auto-generated"}],
                    "volumes": [{"name": "data", "mountPath": "/data", "type": "pvc", "size": "1Gi"}],
                }
            },
        }
    )


class TestContent:
    """What a seed may hold."""

    def test_good_ones_have_no_faults(self) -> None:
        assert content_faults(content()) == ()
        assert content_faults(SeedContent(type=SeedType.JOB, image="a/b:1", args=("--all",))) == ()
        # In a shell script a parameter is a variable: its text is not looked at.
        assert content_faults(content(type="shell", script="echo ${{ nobody }}")) == ()

    @pytest.mark.parametrize(
        ("changed", "place"),
        [
            ({"script": None}, "script"),
            ({"image": "a:1"}, "image"),
            ({"args": ["x"]}, "args"),
            ({"script": "select ${{ nobody }};"}, "script"),
            ({"script": "select '${{ who }}';"}, "script"),
            ({"script": "select 1;\0"}, "script"),
            ({"type": "job"}, "image"),
            ({"type": "job", "script": None, "image": "Not An Image"}, "image"),
            ({"parameters": [{"name": "who"}, {"name": "who"}]}, "parameters[1].name"),
            ({"parameters": [{"name": "who"}, {"name": "a-b"}]}, "parameters[1].name"),
            ({"parameters": [{"name": "who", "type": "integer", "secret": True}]}, "parameters[0].type"),
            ({"parameters": [{"name": "who", "type": "integer", "default": "x"}]}, "parameters[0].default"),
        ],
    )
    def test_bad_ones_say_where(self, changed: dict[str, Any], place: str) -> None:
        assert place in {fault.field for fault in content_faults(content(**changed))}

    def test_the_digest_is_of_what_it_does(self) -> None:
        same = content(parameters=[{"name": "who", "description": "Whoever comes"}])
        assert same.digest == content().digest
        assert content(script="select ${{ who }};").digest != content().digest
        assert content(parameters=[{"name": "who", "default": "ada"}]).digest != content().digest


class TestValues:
    """What a run is given."""

    def test_a_secret_is_a_name_that_the_environment_knows(self) -> None:
        parameters = (SeedParameter(name="who", default="ada"), SeedParameter(name="token", secret=True))
        values, secrets, faults = run_values(parameters, {"token": "db-password"}, {"db-password"})
        assert (values, secrets, faults) == ({"who": "ada"}, {"token": "db-password"}, ())
        for given_, told in (({}, "required"), ({"token": "x"}, "not a secret"), ({"token": 1}, "text")):
            _, _, faults = run_values(parameters, given_, {"db-password"})
            assert [fault.field for fault in faults] == ["parameters.token"]
            assert told in faults[0].message

    def test_all_faults_are_told(self) -> None:
        parameters = (SeedParameter(name="who", required=True), SeedParameter(name="it"))
        _, _, faults = run_values(parameters, {"more": 1, "it": "a\0b"}, ())
        assert {fault.field for fault in faults} == {
            "parameters.who",
            "parameters.it",
            "parameters.more",
        }

    def test_the_key_is_of_seed_values_service_and_environment(self) -> None:
        key = run_key("env_1", "db", "sha256:a", {"who": "ada"})
        assert key == run_key("env_1", "db", "sha256:a", {"who": "ada"})
        others = {
            run_key("env_2", "db", "sha256:a", {"who": "ada"}),
            run_key("env_1", "db2", "sha256:a", {"who": "ada"}),
            run_key("env_1", "db", "sha256:b", {"who": "ada"}),
            run_key("env_1", "db", "sha256:a", {"who": "bob"}),
            run_key("env_1", "db", "sha256:a", {}),
        }
        assert len({key, *others}) == 6
        assert len(f"{key}/{CONTEXT.operation_id}") < 255, "MySQL's marker takes no more"


class TestSql:
    """What values become in SQL."""

    def test_each_type_has_its_literal(self) -> None:
        script = "select ${{ a }}, 1-${{ b }}, ${{c}}, '$${{ d }}'"
        filled = fill_sql(DataStore.POSTGRES, script, {"a": "it's", "b": -1, "c": True}, {})
        assert filled.script == "select E'it\\x27s', 1-(-1), TRUE, '${{ d }}'"
        filled = fill_sql(DataStore.MYSQL, script, {"a": "it's", "b": -1, "c": False}, {})
        assert filled.script == "select _utf8mb4 x'69742773', 1-(-1), FALSE, '${{ d }}'"

    @pytest.mark.parametrize("store", [DataStore.POSTGRES, DataStore.MYSQL])
    def test_a_secret_stands_in_no_statement_of_the_script(self, store: DataStore) -> None:
        filled = fill_sql(store, "insert into t values (${{ token }});", {}, {"token": PLANTED})
        assert PLANTED not in filled.script
        assert PLANTED.encode().hex() not in filled.script
        assert "planted" in filled.before or PLANTED.encode().hex() in filled.before

    @pytest.mark.parametrize("store", [DataStore.POSTGRES, DataStore.MYSQL])
    def test_secrets_that_differ_in_case_alone_keep_their_own_values(self, store: DataStore) -> None:
        """Neither database tells names that differ so apart."""
        secrets = {"TOKEN": "first", "token": "second"}
        filled = fill_sql(store, "select ${{ TOKEN }}, ${{ token }};", {}, secrets)
        one, other = filled.script.casefold().removeprefix("select ").removesuffix(";").split(", ")
        assert one != other

    @given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
    def test_a_value_ends_no_quotes(self, value: str) -> None:
        filled = fill_sql(DataStore.POSTGRES, "select ${{ a }};", {"a": value}, {}).script
        assert re.fullmatch(r"select E'(?:[A-Za-z0-9_.,@/+ -]|\\x..|\\u.{4}|\\U.{8})*';", filled)
        check_sql(DataStore.POSTGRES, filled)
        filled = fill_sql(DataStore.MYSQL, "select ${{ a }};", {"a": value}, {}).script
        check_sql(DataStore.MYSQL, filled)


class TestJob:
    """The Job of a seed."""

    def test_it_is_the_service_without_what_makes_it_one(self) -> None:
        service = shop().service("web")
        job = manifests.seed_job(CONTEXT, service, run(), None)
        assert at(job, "spec", "backoffLimit") == 0
        assert at(job, "spec", "activeDeadlineSeconds") == manifests.SEED_SECONDS
        assert text(job, "metadata", "labels", NAME) == "web"
        assert text(job, "metadata", "labels", SEED) == manifests.seed_label(run())
        pod = at(job, "spec", "template")
        assert NAME not in str(at(job, "spec", "template", "metadata"))
        [container] = children(pod, "spec", "containers")
        assert "ports" not in container
        assert "readinessProbe" not in container
        assert "volumeMounts" not in container
        # The cluster makes one dollar of two, and would put its own in place of `$(...)`.
        assert at(container, "command", 2) == "echo $$WHO $$$$ $$(date)"
        assert container["image"] == "registry.test/web:1"

    def test_parameters_are_variables(self) -> None:
        given_ = run(values={"WHO": "a $(b) $$", "TIMES": 3, "DRY": True}, secrets={"KEY": "token"})
        [container] = children(
            manifests.seed_job(CONTEXT, shop().service("web"), given_, None),
            *("spec", "template", "spec", "containers"),
        )
        variables = {text(each, "name"): each for each in children(container, "env")}
        assert {name: each.get("value") for name, each in variables.items() if "value" in each} == {
            "LEVEL": "debug",
            "WHO": "a $$(b) $$$$",
            "TIMES": "3",
            "DRY": "true",
        }
        for name in ("KEY", "TOKEN"):
            assert text(variables[name], "valueFrom", "secretKeyRef", "name") == "secret-token"

    def test_its_name_tells_runs_apart_only_where_it_should(self) -> None:
        service = shop().service("web")

        def name(of: SeedRun, operation_id: str | None = None) -> str:
            return text(manifests.seed_job(CONTEXT, service, of, operation_id), "metadata", "name")

        assert name(run()) == name(run(package="x@1"))
        assert len({name(run()), name(run(key="other")), name(run(), "op_1"), name(run(), "op_2")}) == 4
        long = service.model_copy(update={"name": "a" * 63})
        assert len(text(manifests.seed_job(CONTEXT, long, run(), None), "metadata", "name")) <= 63

    def test_a_job_has_an_image_of_its_own(self) -> None:
        seed = SeedContent(type=SeedType.JOB, image="a/load:1", command=("load",), args=("$(WHO)",))
        job = manifests.seed_job(CONTEXT, shop().service("web"), run(content=seed), None)
        [container] = children(job, "spec", "template", "spec", "containers")
        assert (container["image"], container["command"], container["args"]) == (
            "a/load:1",
            ["load"],
            ["$(WHO)"],
        )


class TestVersions:
    """Semantic versions."""

    def test_they_come_in_the_order_of_the_specification(self) -> None:
        ordered = [
            *("1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2"),
            *("1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.2.0", "1.10.0"),
            *("2.0.0-9", "2.0.0-20260131235959", "2.0.0-20260201000000", "2.0.0-a", "2.0.0"),
        ]
        versions = [read_version(each) for each in ordered]
        assert None not in versions
        assert sorted(versions, key=lambda each: each) == versions  # type: ignore[return-value,arg-type]
        assert newest(ordered) == "2.0.0"
        assert newest([*ordered, "3.0.0-rc.1"]) == "2.0.0"
        assert newest(ordered[:3]) == "1.0.0-alpha.beta"
        assert newest([]) is None

    @pytest.mark.parametrize(
        "wrong",
        ["1", "1.0", "v1.0.0", "1.0.0+build", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0-a..b", "1.0.0\n"],
    )
    def test_others_are_none(self, wrong: str) -> None:
        assert read_version(wrong) is None
