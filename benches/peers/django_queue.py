"""Sends a queue of messages of 4 KB kept in an SQLite file: django_queue.py post_office|mailer PORT MESSAGES SESSIONS

Prints the seconds that sending took; filling the queue is not counted. django-mailer knows one session only.
"""

import os
import sys
import tempfile
import time

import django
from django.conf import settings
from django.core.management import call_command

queue, port, messages, sessions = sys.argv[1], *map(int, sys.argv[2:5])
folder = tempfile.mkdtemp(dir=os.getcwd())
smtp = "django.core.mail.backends.smtp.EmailBackend"
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", queue],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(folder, "queue.db")}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    EMAIL_BACKEND=smtp, MAILER_EMAIL_BACKEND=smtp, EMAIL_HOST="127.0.0.1", EMAIL_PORT=port, USE_TZ=True,
    MAILER_LOCK_PATH=os.path.join(folder, "lock"),
    POST_OFFICE={"BATCH_SIZE": messages, "THREADS_PER_PROCESS": sessions, "LOG_LEVEL": 2},
)
django.setup()
call_command("migrate", verbosity=0)

line = "Spring is here, and so is a line of text that stands for many others.\n"
text = line * (3600 // len(line) + 1)
mail = [(f"Hello Recipient {n}", f"recipient{n}@example.com") for n in range(messages)]
if queue == "post_office":
    from post_office import mail as office
    from post_office.models import STATUS, Email

    office.send_many([
        {"sender": "bench@shop.example", "recipients": [to], "subject": subject, "message": text} for subject, to in mail
    ])
    began = time.perf_counter()
    while Email.objects.exclude(status__in=[STATUS.sent, STATUS.failed]).exists():
        office.send_queued(processes=1)
    took = time.perf_counter() - began
    assert not Email.objects.exclude(status=STATUS.sent).exists(), "not all were sent"
else:
    from django.core.mail import EmailMessage
    from mailer.engine import send_all
    from mailer.models import Message, make_message

    for subject, to in mail:
        make_message(subject=subject, body=text, from_email="bench@shop.example", to=[to], priority=3).save()
    began = time.perf_counter()
    send_all()
    took = time.perf_counter() - began
    assert not Message.objects.exists(), "not all were sent"
print(took)
