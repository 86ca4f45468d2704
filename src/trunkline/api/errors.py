"""Refusing a request: one exception, raised wherever the refusal is decided, rendered in one place.

    {"code": 20404, "message": "...", "more_info": "https://www.twilio.com/docs/errors/20404", "status": 404}

Clients parse this shape, and some decide by the code: the codes and their HTTP statuses are in
`trunkline.domain.errors` and nowhere else.
"""

from typing import Final

from trunkline.api.answer import Answer, Headers, json_answer
from trunkline.domain.errors import FAULTS, Code, explain

MORE_INFO: Final = "https://www.twilio.com/docs/errors/"
_CHALLENGE: Final = ((b"www-authenticate", b'Basic realm="Twilio API"'),)

PATH_CHARS_MAX: Final = 200
"""How much of a path that does not exist is repeated in the answer."""


class ApiError(Exception):
    """The request is refused with `code`; `fields` stand in its sentence."""

    def __init__(self, code: Code, /, headers: Headers = (), **fields: str | int) -> None:
        super().__init__(code)
        self.code = code
        self.headers = headers
        self.fields = fields

    @property
    def http_status(self) -> int:
        return FAULTS[self.code].http_status

    def answer(self) -> Answer:
        """The refusal as JSON."""
        content = {
            "code": int(self.code),
            "message": explain(self.code, self.fields),
            "more_info": f"{MORE_INFO}{int(self.code)}",
            "status": self.http_status,
        }
        return json_answer(self.http_status, content, self.headers)


def invalid(parameter: str, reason: str) -> ApiError:
    """The parameter is refused, for a reason that completes "the parameter is not valid: "."""
    return ApiError(Code.PARAMETER_INVALID, what=f"The parameter '{parameter}'", reason=reason)


def invalid_part(part: str, reason: str) -> ApiError:
    """As `invalid`, for a part of the request that is no parameter, such as its body."""
    return ApiError(Code.PARAMETER_INVALID, what=f"The request's {part}", reason=reason)


def not_found(path: str) -> ApiError:
    """Nothing is there, for this account."""
    # A server may hand over a path that is not text; nothing here may fail while saying no.
    shown = path[:PATH_CHARS_MAX].encode("utf-8", "replace").decode()
    return ApiError(Code.NOT_FOUND, path=shown)


def refused(reason: str) -> ApiError:
    """Who asks is not known, or not known as somebody of this account; the reason is a sentence."""
    return ApiError(Code.AUTHENTICATION_FAILED, headers=_CHALLENGE, reason=reason)


def denied(reason: str) -> ApiError:
    """Who asks is known and may not, whatever it proves; the reason is a sentence."""
    return ApiError(Code.ACCESS_DENIED, reason=reason)


def not_implemented(what: str) -> ApiError:
    """We know what is asked for and cannot do it; saying so beats pretending."""
    return ApiError(Code.NOT_IMPLEMENTED, what=what)


def unavailable(reason: str, retry_after_s: int = 1) -> ApiError:
    """Try again in `retry_after_s`; the reason says whether something may have happened."""
    retry_after = (b"retry-after", str(retry_after_s).encode())
    return ApiError(Code.UNAVAILABLE, headers=(retry_after,), reason=reason)
