"""`perdure admin` as a program: found from the command line, and from nowhere else."""

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.admin.conftest import Admin, command, variables

pytestmark = pytest.mark.slow


def test_help_lists_the_commands(sqlite_url: str, admin: Admin) -> None:
    done = admin(sqlite_url, "--help")
    assert done.returncode == 0
    for each in ("backup", "restore", "rotate-keys", "orphans", "adopt", "purge", "org"):
        assert each in done.stdout
        assert admin(sqlite_url, each, "--help").returncode == 0


def test_a_folder_of_that_name_is_not_run(sqlite_url: str, tmp_path: Path) -> None:
    """Who works in somebody's checkout must not run what lies there, with the master keys at hand."""
    (tmp_path / "admin").mkdir()
    (tmp_path / "admin" / "__init__.py").touch()
    (tmp_path / "admin" / "__main__.py").write_text("print('planted')")
    done = subprocess.run(
        command("--help"), env=variables(sqlite_url), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "planted" not in done.stdout
    assert "rotate-keys" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nonsense"], 2),
        (["backup"], 2),
        (["purge"], 2),
        (["purge", "shop-1", "--all"], 2),
        (["orphans", "--cluster", "nowhere"], 2),
        (["adopt", "shop-1"], 2),
        (["restore", "/"], 2),
        (["restore", "backup", "--passphrase-file", "passphrase"], 2),
    ],
)
def test_wrong_usage(sqlite_url: str, admin: Admin, arguments: list[str], code: int) -> None:
    done = admin(sqlite_url, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr


def test_a_database_that_is_not_there_is_not_made(admin: Admin, tmp_path: Path) -> None:
    done = admin(f"sqlite:///{tmp_path}/nowhere.db", "backup", "backup")
    assert (done.returncode, "There is no database" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"PERDURE_DATABASE_URL": "garbage"}, "PERDURE_DATABASE_URL is not the address of a database"),
        ({"PERDURE_CLUSTERS": '{"a": 1}'}, "PERDURE_CLUSTERS.a"),
        ({"PERDURE_ENVIRONMENT": "moon"}, "PERDURE_ENVIRONMENT: Input should be"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    sqlite_url: str, admin: Admin, more: dict[str, str], says: str
) -> None:
    done = admin(sqlite_url, "rotate-keys", more=more)
    assert (done.returncode, says in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("table", ["customers", "alembic_version"])
def test_somebody_elses_database_is_not_to_be_migrated(admin: Admin, tmp_path: Path, table: str) -> None:
    theirs = tmp_path / "theirs.db"
    with closing(sqlite3.connect(theirs)) as database, database:
        database.execute(f"create table {table} (version_num text)")
        database.execute(f"insert into {table} values ('a7b3')")
    done = admin(f"sqlite:///{theirs}", "backup", "backup")
    assert done.returncode == 1
    assert "PERDURE_DATABASE_URL" in done.stderr
    assert "Migrate" not in done.stderr


def test_without_a_cluster_the_setting_is_named(sqlite_url: str, admin: Admin, tmp_path: Path) -> None:
    done = admin(sqlite_url, "orphans", more={"HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "none")})
    assert done.returncode == 2
    assert "PERDURE_CLUSTER_KUBECONFIG" in done.stderr
    assert ".." not in done.stderr


def test_a_cluster_that_is_away(sqlite_url: str, admin: Admin, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\n"
        "clusters: [{name: a, cluster: {server: 'http://127.0.0.1:9'}}]\n"
        "users: [{name: a, user: {token: planted-token}}]\n"
        "contexts: [{name: a, context: {cluster: a, user: a}}]\n"
    )
    done = admin(sqlite_url, "orphans", more={"PERDURE_CLUSTER_KUBECONFIG": str(kubeconfig)})
    assert (done.returncode, "The cluster: no connection" in done.stderr) == (1, True)
    assert "planted-token" not in done.stderr
