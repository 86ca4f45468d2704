"""A view behind django-twilio's decorator, given every request on standard input; it writes with which
status each is answered, as it is seen and with a field added to its form. A process of its own, because
Django is set up once for all."""

import json
import sys
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

FORM = "application/x-www-form-urlencoded"


def main() -> None:
    told = json.load(sys.stdin)
    settings.configure(
        ALLOWED_HOSTS=["*"],
        TWILIO_ACCOUNT_SID="AC" + "0" * 32,
        TWILIO_AUTH_TOKEN=told["token"],
        DJANGO_TWILIO_BLACKLIST_CHECK=False,
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_twilio"],
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    )
    django.setup()
    from django_twilio.decorators import twilio_view

    @twilio_view
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.POST.get("To", ""))

    def status(vector: dict[str, str], form: str) -> int:
        seen = urlsplit(vector["seen"])
        request = RequestFactory().generic(
            "POST",
            vector["seen"].partition(seen.netloc)[2],
            form.encode(),
            FORM,
            secure=seen.scheme == "https",
            headers={"Host": seen.netloc, "X-Twilio-Signature": vector["signature"]},
        )
        return int(view(request).status_code)

    verdicts = [
        {"seen": status(each, each["form"]), "otherForm": status(each, each["form"] + "&Added=1")}
        for each in told["vectors"]
    ]
    sys.stdout.write(json.dumps(verdicts) + "\n")


if __name__ == "__main__":
    main()
