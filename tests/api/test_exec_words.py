"""What runc 1.1 and crun 1.8 say of a program that does not start, as their nodes hand it on."""

import pytest

from api.access.sockets import code_of_a_shell

RUNC = "exec failed: unable to start container process: exec: "


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (f'{RUNC}"no-such-program": executable file not found in $PATH: unknown', 127),
        (f'{RUNC}"/no/such/program": stat /no/such/program: no such file or directory: unknown', 127),
        (f'{RUNC}"/etc/passwd": permission denied: unknown', 126),
        (f'{RUNC}"/tmp": permission denied: unknown', 126),
        ("executable file `no-such-program` not found in $PATH: No such file or directory: unknown", 127),
        ("executable file `/no/such/program` not found in $PATH: No such file or directory: unknown", 127),
        ("open executable: Permission denied: unknown", 126),
        ("open executable: Operation not permitted: unknown", 126),
        ("the command could not be started", None),
    ],
)
def test_a_program_that_does_not_start_ends_as_in_a_shell(said: str, code: int | None) -> None:
    assert code_of_a_shell(said) == code
