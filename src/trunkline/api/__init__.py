"""The public API, compatible with the Twilio API of 2010-04-01.

A request goes `app` -> `routes` -> `auth` -> `form` -> `arguments` -> `resources/...` -> `answer`.
"""
