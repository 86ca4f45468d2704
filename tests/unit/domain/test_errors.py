"""The table of errors: complete, and in our own words."""

from trunkline.domain.errors import DELIVERY, FAULTS, Code, explain, explain_delivery


def test_every_code_has_a_status_and_a_sentence() -> None:
    assert FAULTS.keys() == set(Code)
    for fault in FAULTS.values():
        assert 400 <= fault.http_status <= 503
        assert fault.sentence


def test_the_statuses_that_clients_decide_by_are_right() -> None:
    expected = {20003: 401, 20004: 405, 20404: 404, 20422: 422, 20500: 500, 20503: 503, 21211: 400}

    for code, http_status in expected.items():
        assert FAULTS[Code(code)].http_status == http_status


def test_a_field_is_data_and_never_a_format_string() -> None:
    assert "{what}" in explain(Code.PARAMETER_INVALID, {"what": "{what}", "reason": "r"})


def test_a_delivery_error_is_explained_where_we_know_it() -> None:
    assert explain_delivery(30003) == DELIVERY[30003]
    assert explain_delivery(None) is None
    assert explain_delivery(99999) is None
