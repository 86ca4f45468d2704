"""The official Python library must believe every request of ours, as it was sent and as it is seen, and
none that was changed. The Node library is asked the same in tests/system/test_validators.py."""

from urllib.parse import parse_qsl

import pytest
from multidict import MultiDict
from tests.unit.webhooks.signature_vectors import TOKEN, Vector, vectors
from twilio.request_validator import RequestValidator

VECTORS = vectors()


def is_believed(vector: Vector, url: str, *, added: str = "", token: str = TOKEN) -> bool:
    params: MultiDict[str] | str = MultiDict(parse_qsl(vector.form + added, keep_blank_values=True))
    if vector.body is not None:
        params = vector.body + added
    return bool(RequestValidator(token).validate(url, params, vector.signature))


@pytest.mark.parametrize("vector", VECTORS, ids=str)
def test_the_python_library_believes_what_we_sign_and_nothing_else(vector: Vector) -> None:
    assert is_believed(vector, vector.sent)
    assert is_believed(vector, vector.seen)
    assert not is_believed(vector, vector.seen.replace("://", "://x"))
    assert not is_believed(vector, vector.seen, added="&Added=1")
    assert not is_believed(vector, vector.seen, token=TOKEN.replace("0", "1"))
