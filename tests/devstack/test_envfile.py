"""The files that shells, processes and the command line read."""

import stat
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from devstack import envfile

VALUES = st.dictionaries(
    st.from_regex(r"[A-Z][A-Z_]{0,10}", fullmatch=True),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
    max_size=5,
)


@given(VALUES)
def test_what_is_written_is_read_again(values: dict[str, str]) -> None:
    assert envfile.parse(envfile.render(values)) == values


def test_a_shell_reads_the_same(tmp_path: Path) -> None:
    value = """{"local": "a+b/c="} it's $HOME `date` \\ %d"""
    envfile.write_private(tmp_path / "env", envfile.render({"VALUE": value}))
    shell = subprocess.run(
        ["sh", "-c", '. ./env; printf %s "$VALUE"'], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert shell.stdout == value


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_text("OLD=1\n")
    path.chmod(0o644)
    envfile.write_private(path, "NEW=1\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert envfile.read(path) == {"NEW": "1"}
    assert [each.name for each in tmp_path.iterdir()] == ["env"]


def test_a_missing_file_is_empty(tmp_path: Path) -> None:
    assert envfile.read(tmp_path / "env") == {}
