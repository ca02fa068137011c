"""Every refusal of the HTTP interface as a problem document (RFC 9457), in the language that was asked for."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from isthmus.base.errors import ConfigError, IsthmusError, LocalError
from isthmus.service.views import problem

PROBLEM = "application/problem+json"
_STATUS = {
    "sign_in": 401,
    "wrong_sign_in": 401,
    "not_found": 404,
    "conflict": 409,
    "already_there": 409,
    "key_unfinished": 409,
    "last_admin": 409,
    "rate": 429,
    "locked_out": 429,
    "database_down": 503,
    "disk_full": 507,
}


def language_of(headers: Headers) -> str:
    return "zh" if headers.get("accept-language", "").startswith("zh") else "en"


def answer(
    error: IsthmusError,
    language: str,
    party: str,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    status = status or _STATUS.get(error.code, error.status)
    body = problem(error, language, party) | {"status": status}
    if error.code in ("rate", "locked_out"):
        headers = {"Retry-After": str(error.fields["wait_s"]), **(headers or {})}
    return JSONResponse(body, status, headers=headers, media_type=PROBLEM)


def add_handlers(app: FastAPI, party: str) -> None:
    """What a route raises becomes a problem document."""

    def told(request: Request, error: IsthmusError, status: int | None = None) -> JSONResponse:
        return answer(error, language_of(request.headers), party, status)

    @app.exception_handler(IsthmusError)
    async def ours(request: Request, error: IsthmusError) -> JSONResponse:
        return told(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            return told(
                request, ConfigError("unknown_field", where="the request", field=field, known="see docs")
            )
        if first["type"] == "missing":
            return told(request, ConfigError("missing_field", where="the request", field=field))
        return told(
            request, ConfigError("out_of_bounds", field=field, value="of another form", allowed=first["msg"])
        )

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code in (404, 405):
            missing = ConfigError("not_found", what="such a route", list_command="isthmus --help")
            return told(request, missing, error.status_code)
        return told(
            request, ConfigError("bad_document", where="the request", why="it is not JSON"), error.status_code
        )

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        return told(request, LocalError("bug", why=type(error).__name__))


class Told:
    """What is raised before or after a route, such as by the store while a key is claimed, becomes a problem document too."""

    def __init__(self, app: ASGIApp, party: str) -> None:
        self._app = app
        self._party = party

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except IsthmusError as error:
            if begun:
                raise
            await answer(error, language_of(Headers(scope=scope)), self._party)(scope, receive, send)
