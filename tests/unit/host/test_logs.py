"""Logging: secrets stay out of it."""

from trunkline.host import logs


def test_a_field_that_holds_a_secret_is_hidden() -> None:
    event = {"event": "account.opened", "auth_token": "t", "sid": "AC0"}

    assert logs.hide_secrets(None, "info", event) == {
        "event": "account.opened",
        "auth_token": "[hidden]",
        "sid": "AC0",
    }
