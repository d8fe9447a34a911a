"""What guests ask for: the environment as JSON, and as a page. No API key: the link is what lets them in."""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.responses import HTMLResponse

from activities.db.repositories import shares
from activities.share_links import LONGEST_TOKEN, TOKEN_PREFIX
from api.bodies import media_type
from api.documentation import documented
from api.problems import ProblemError, ProblemField, RequestProblem, responses
from api.shares import page
from api.shares.guests import no_such_link
from api.shares.schemas import LONGEST_PIN, ShareViewOut
from api.shares.view import view
from api.state import AppState, State

router = APIRouter(prefix="/v1", tags=["sharing"])

COOKIE: Final = "perdure_share"
_FORM: Final = "application/x-www-form-urlencoded"
_LONGEST_FORM: Final = 4096
_TOKEN: Final = re.compile(rf"{TOKEN_PREFIX}[A-Za-z0-9._-]+")
_PRIVATE: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}
_GUEST_PROBLEMS: Final = (
    RequestProblem.NOT_FOUND,
    RequestProblem.PIN_REQUIRED,
    RequestProblem.PIN_LOCKED,
    RequestProblem.RATE_LIMITED,
)
_PAGE: Final = {"description": "The page", "content": {"text/html": {"schema": {"type": "string"}}}}
_ANY_PROBLEM: Final = responses(RequestProblem.VALIDATION_FAILED, RequestProblem.UNAVAILABLE)
_FORM_BODY: Final = {
    "required": True,
    "content": {
        _FORM: {
            "schema": {
                "type": "object",
                "required": ["token"],
                "properties": {
                    "token": {"type": "string", "maxLength": LONGEST_TOKEN},
                    "pin": {"type": "string", "maxLength": LONGEST_PIN},
                },
            },
            "examples": {"pin": {"value": {"token": "pds_...", "pin": "4711-blue"}}},
        }
    },
}

EnvironmentId = Annotated[str, Path(alias="envId", description="Id of the environment")]


@router.get(
    "/share/{token}",
    response_model=ShareViewOut,
    summary="See a shared environment",
    operation_id="shares_view",
    **documented(*_GUEST_PROBLEMS, open_to_all=True, any_query=True),
)
async def see(
    request: Request,
    state: State,
    token: Annotated[str, Path(description="`token` of the answer that made the link")],
    pin: Annotated[
        str | None, Header(alias="X-Share-PIN", max_length=LONGEST_PIN, description="If the link takes one")
    ] = None,
) -> Response:
    """Answered raw. A PIN goes into the header; in the query it is refused, as addresses are noted."""
    try:
        if "pin" in request.query_params:
            raise _pin_in_query()
        share = await state.guests.by_token(_address(request), token, pin)
        seen = await view(state, share)
        await _count(state, share.id)
    except ProblemError as error:
        error.headers = {**_PRIVATE, **error.headers}
        raise
    return Response(seen.model_dump_json(exclude_none=True), 200, _PRIVATE, "application/json")


@router.get(
    "/portal/{envId}",
    response_class=HTMLResponse,
    responses={
        **_ANY_PROBLEM,
        200: _PAGE,
        401: {**_PAGE, "description": "A page that asks for the link"},
        404: {**_PAGE, "description": "A page: the link opens nothing (any more)"},
        429: {**_PAGE, "description": "A page: too many requests"},
    },
    summary="See a shared environment as a page",
    operation_id="shares_portal",
)
async def portal(request: Request, state: State, environment_id: EnvironmentId) -> Response:
    """Shows it to a browser that has opened a share link (`POST`), and asks others for theirs."""
    try:
        cookie = request.cookies.get(COOKIE, "")
        share = await state.guests.by_session(_address(request), cookie)
        if share is None or share.environment_id != environment_id:
            # The same for environments that there are not: only a link tells.
            return _html(page.entry(), 401)
        seen = await view(state, share)
    except ProblemError as error:
        return _refused(error)
    return _html(page.environment(seen, state.settings.share_refresh_seconds), 200)


@router.post(
    "/portal/{envId}",
    response_class=HTMLResponse,
    status_code=303,
    responses={
        **_ANY_PROBLEM,
        303: {"description": "Opened: a cookie for this page, which is at `Location`"},
        401: {**_PAGE, "description": "A page that asks for the PIN"},
        404: {**_PAGE, "description": "A page: the link opens nothing"},
        415: {**_PAGE, "description": "Not a form"},
        429: {**_PAGE, "description": "A page: too many requests, or wrong PINs"},
    },
    openapi_extra={"requestBody": _FORM_BODY, "x-audit": []},
    summary="Open a share link in a browser",
    operation_id="shares_open",
)
async def enter(request: Request, state: State, environment_id: EnvironmentId) -> Response:
    """Takes the token, and the PIN if there is one, from a form: neither ever stands in an address."""
    form: dict[str, str] = {}
    try:
        form = await _form(request)
        token = _token_in(form.get("token", ""))
        share = await state.guests.by_token(_address(request), token, form.get("pin"))
        if share.environment_id != environment_id:
            raise no_such_link()
        await _count(state, share.id)
    except ProblemError as error:
        return _refused(error, token=_token_in(form.get("token", "")), tried="pin" in form)
    cookie, seconds = state.guests.session(share)
    response = Response(None, 303, {**_PRIVATE, "Location": request.state.path})
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=seconds,
        path=request.state.path,
        secure=_over_tls(request, state),
        httponly=True,
        samesite="strict",
    )
    return response


async def _count(state: AppState, share_id: str) -> None:
    async with state.database.transaction() as session:
        await shares.count_view(session, share_id)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form, the first of each name. Raises ProblemError for anything else."""
    if media_type(request) != _FORM:
        raise ProblemError(RequestProblem.UNSUPPORTED_MEDIA_TYPE, f"The body has to be {_FORM}.")
    body = await request.body()
    try:
        if len(body) > _LONGEST_FORM:
            raise ValueError("too long")
        fields = parse_qs(body.decode("ascii"), max_num_fields=10, errors="strict")
    except ValueError:
        return {}
    return {name: values[0].strip() for name, values in fields.items()}


def _token_in(pasted: str) -> str:
    """The token of what was pasted: without scripts, a browser sends the whole link."""
    found = _TOKEN.search(pasted)
    return found[0] if found else ""


def _refused(error: ProblemError, *, token: str = "", tried: bool = False) -> Response:
    """The page for a link that does not open, or not yet."""
    if error.kind is RequestProblem.PIN_REQUIRED:
        return _html(page.pin(token, wrong=tried), error.status)
    return _html(page.message(error), error.status, error.headers)


def _html(content: str, status: int, headers: dict[str, str] | None = None) -> Response:
    own = {"Content-Security-Policy": page.POLICY, "X-Frame-Options": "DENY", **_PRIVATE}
    return HTMLResponse(content, status, {**(headers or {}), **own})


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _over_tls(request: Request, state: AppState) -> bool:
    return request.url.scheme == "https" or (state.settings.public_url or "").startswith("https:")


def _pin_in_query() -> ProblemError:
    return ProblemError(
        RequestProblem.VALIDATION_FAILED,
        "A PIN is not taken from the address, which proxies and browsers write down.",
        errors=[ProblemField(path="query.pin", message="is not taken", suggestion="send it as X-Share-PIN")],
    )
