"""Refusals of the API: problem documents (RFC 9457) as typed errors with exit codes."""

from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ValidationError

from cli.errors import CliError, ExitCode
from cli.models import FieldFault

if TYPE_CHECKING:
    import httpx2

_EXIT_BY_STATUS: Final = {
    400: ExitCode.USAGE,
    403: ExitCode.REFUSED,
    404: ExitCode.NOT_FOUND,
    413: ExitCode.USAGE,
    415: ExitCode.USAGE,
    422: ExitCode.USAGE,
}
_EXIT_BY_CODE: Final = {"policy_denied": ExitCode.REFUSED, "blueprint_invalid": ExitCode.USAGE}


class Problem(BaseModel):
    """A problem document (RFC 9457) as the API writes it; every member may be missing."""

    title: str = ""
    detail: str = ""
    code: str = ""
    requestId: str = ""  # noqa: N815 - the wire's spelling
    errors: tuple[FieldFault, ...] = ()


class ApiError(CliError):
    """The API refused or failed. `status` is HTTP's, `code` the failure kind, `faults` one per field."""

    def __init__(self, status: int, problem: Problem) -> None:
        self.status = status
        self.code = problem.code
        self.faults = problem.errors
        super().__init__(
            problem.detail or problem.title or f"The API answered {status}.",
            exit_code=_EXIT_BY_CODE.get(problem.code) or _EXIT_BY_STATUS.get(status, ExitCode.FAILED),
            details=[line for fault in problem.errors for line in fault_lines(fault)],
            hints=_hints(status, problem),
        )


def fault_lines(fault: FieldFault) -> list[str]:
    """Return a fault as people read it: place and reason, then the suggestion on its own line."""
    code = f" [{fault.code}]" if fault.code else ""
    lines = [f"{fault.path or 'document'}: {fault.message}{code}"]
    if fault.suggestion:
        lines.append(f"    {fault.suggestion}")
    return lines


def warning_lines(warning: FieldFault) -> list[str]:
    """Return what is to be known of something that was accepted all the same."""
    first, *rest = fault_lines(warning)
    return [f"Warning: {first}", *rest]


def _hints(status: int, problem: Problem) -> list[str]:
    hints: list[str] = []
    if status == 401:
        hints.append("Check PERDURE_API_KEY (or --api-key, or the profile); `-v` says which one was used.")
    if status >= 500 and problem.requestId:
        hints.append(f"Quote request {problem.requestId} when reporting it.")
    return hints


def error_of(response: "httpx2.Response") -> ApiError:
    """Turn an answer that is no success into the typed error, whatever its body is."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        problem = Problem(detail=f"The server answered {response.status_code} {response.reason_phrase}.")
    return ApiError(response.status_code, problem)
