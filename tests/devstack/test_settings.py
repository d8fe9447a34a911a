"""Which stack the environment describes, and whether its processes understand what they are given."""

import os
from pathlib import Path

import pytest

from activities.secrets import Opener, Sealer
from api.settings import ApiSettings
from devstack import settings
from devstack.cluster import Cluster
from devstack.envfile import render, write_private
from devstack.environment import ensure_keys, process_settings, settings_of, user_settings
from devstack.errors import DevstackError
from devstack.settings import Stack
from devstack.stack import describe
from worker.settings import WorkerSettings


def test_everything_has_a_default() -> None:
    stack = settings.read({})
    assert stack.state == stack.repo / ".dev"
    assert (stack.api_url, stack.temporal_address) == ("http://127.0.0.1:8080", "127.0.0.1:7233")
    assert stack.given_kubeconfig is None


def test_state_and_ports_can_be_moved() -> None:
    stack = settings.read(
        {
            settings.STATE: "somewhere",
            settings.API_PORT: "18080",
            settings.TEMPORAL_PORT: "17233",
            settings.TEMPORAL_UI_PORT: "18233",
        }
    )
    assert stack.state == Path.cwd() / "somewhere"
    assert (stack.api_port, stack.temporal_port, stack.temporal_ui_port) == (18080, 17233, 18233)


@pytest.mark.parametrize("port", ["none", "0", "65536", "-1", "1.5"])
def test_a_port_that_is_none_is_named(port: str) -> None:
    with pytest.raises(DevstackError, match=f"{settings.API_PORT}={port}"):
        settings.read({settings.API_PORT: port})


def test_the_socket_fits_however_long_the_path_is(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    assert len(os.fsencode(Stack(tmp_path, deep).socket)) <= 90
    assert Stack(tmp_path, deep).socket != Stack(tmp_path, deep / "z").socket
    assert Stack(Path("/r"), Path("/r/.dev")).socket == Path("/r/.dev/run/supervisor.sock")


def test_worker_and_api_understand_their_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(tmp_path, tmp_path, api_port=18080, temporal_port=17233, temporal_ui_port=18233)
    values = process_settings(stack, tmp_path / "perdure.kubeconfig", ensure_keys(stack))
    for name in [name for name in os.environ if name.startswith("PERDURE_")]:
        monkeypatch.delenv(name)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    worker, api = WorkerSettings(), ApiSettings()
    assert worker.database_url == api.database_url == f"sqlite+aiosqlite:///{tmp_path}/perdure.db"
    assert worker.temporal_address == api.temporal_address == "127.0.0.1:17233"
    assert worker.cluster_kubeconfig == api.cluster_kubeconfig == tmp_path / "perdure.kubeconfig"
    assert api.port == 18080
    assert api.temporal_ui_url == "http://127.0.0.1:18233"
    known = {f"PERDURE_{name.upper()}" for name in (*WorkerSettings.model_fields, *ApiSettings.model_fields)}
    assert {name for name in values if not name.startswith("PERDURE_DEV_")} <= known


def test_keys_are_made_once_and_fit_each_other(tmp_path: Path) -> None:
    stack = Stack(tmp_path, tmp_path)
    public = ensure_keys(stack)
    assert ensure_keys(stack) == public
    sealed = Sealer(public).seal("secret")
    assert Opener(stack.seal_key.read_text().strip()).open(sealed) == "secret"
    for path in (stack.seal_key, stack.master_keys):
        assert path.stat().st_mode & 0o777 == 0o600


def test_the_user_gets_what_the_design_names(tmp_path: Path) -> None:
    stack = Stack(tmp_path, tmp_path)
    values = user_settings(stack, Cluster(stack), "pdr_x")
    assert list(values) == [
        "PERDURE_URL",
        "PERDURE_API_KEY",
        "KUBECONFIG",
        "TEMPORAL_ADDRESS",
        "PERDURE_DATABASE_URL",
        "PERDURE_CLUSTER_KUBECONFIG",
    ]


class TestCluster:
    def test_one_made_here_lies_below_the_checkout(self, tmp_path: Path) -> None:
        cluster = Cluster(Stack(tmp_path, tmp_path / "elsewhere"))
        assert cluster.perdure_kubeconfig == tmp_path / ".dev" / "cluster" / "perdure.kubeconfig"
        assert not cluster.given
        assert not cluster.shared

    def test_a_users_own_is_given_but_not_shared(self, tmp_path: Path) -> None:
        cluster = Cluster(Stack(tmp_path, tmp_path, given_kubeconfig=tmp_path / "config"))
        assert cluster.given
        assert not cluster.shared
        assert cluster.perdure_kubeconfig == tmp_path / ".dev" / "cluster" / "perdure.kubeconfig"

    def test_a_shell_that_does_not_name_it_means_the_states(self, tmp_path: Path) -> None:
        shell = {settings.STATE: str(tmp_path)}
        named = {settings.KUBECONFIG: str(tmp_path / "config"), settings.CONTEXT: "theirs"}
        (tmp_path / "perdure.kubeconfig").touch()
        values = settings_of(settings.read({**shell, **named}))
        write_private(tmp_path / "stack.env", render(values))
        for environ in (shell, {**shell, **named}):
            stack = settings.read(environ)
            assert stack.given_kubeconfig == tmp_path / "config"
            environment = Cluster(stack).environment()
            assert {name: environment[name] for name in named} == named
        for other in ({settings.KUBECONFIG: "elsewhere"}, {**named, settings.CONTEXT: "ours"}):
            with pytest.raises(DevstackError, match=settings.STATE):
                settings.read({**shell, **other})

    def test_what_down_does_to_it_is_said(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        describe(Stack(tmp_path, tmp_path))
        assert "stops everything, the cluster too" in capsys.readouterr().out
        describe(Stack(tmp_path, tmp_path, given_kubeconfig=tmp_path / "config"))
        assert "stops everything, the cluster is yours and stays" in capsys.readouterr().out

    def test_state_of_a_cluster_made_here_is_not_taken_to_another(self, tmp_path: Path) -> None:
        shell = {settings.STATE: str(tmp_path)}
        write_private(tmp_path / "stack.env", render({settings.GIVEN_KUBECONFIG: ""}))
        assert settings.read(shell).given_kubeconfig is None
        with pytest.raises(DevstackError, match="the cluster that was made here"):
            settings.read({**shell, settings.KUBECONFIG: "elsewhere"})

    def test_another_stacks_is_shared(self, tmp_path: Path) -> None:
        (tmp_path / "perdure.kubeconfig").touch()
        cluster = Cluster(Stack(tmp_path, tmp_path, given_kubeconfig=tmp_path / "admin.kubeconfig"))
        assert cluster.shared
        assert cluster.admin_kubeconfig == tmp_path / "admin.kubeconfig"
        assert cluster.perdure_kubeconfig == tmp_path / "perdure.kubeconfig"
