"""Another day on the clock that chat templates read."""

import datetime

from vrm_pyro.backbone import reading


def set_day(monkeypatch, day):
    """Let chat templates find ``day``, as YYYY-MM-DD, where they write today's date."""

    class Day(datetime.date):
        @classmethod
        def today(cls):
            return datetime.date.fromisoformat(day)

    monkeypatch.setattr(reading.datetime, "date", Day)
