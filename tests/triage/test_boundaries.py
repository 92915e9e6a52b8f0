"""Where each rule begins: what just fires it, and what just does not."""

from __future__ import annotations

from triage_cases import BOUNDARIES

from audio_pipeline.triage.recommendation import fired_rules, stand


def test_where_a_rule_begins() -> None:
    wrong = {}
    for boundary in BOUNDARIES:
        fired = {rule.id for rule in fired_rules(stand(boundary.answers).ranks)}
        if (boundary.fires - fired) or (boundary.silent & fired):
            wrong[boundary.changes] = (boundary.fires - fired, boundary.silent & fired)
    assert not wrong
