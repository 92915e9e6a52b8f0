"""Where each rule begins: what just fires it, and what just does not."""

from __future__ import annotations

import pytest
from triage_cases import BOUNDARIES, Boundary

from audio_pipeline.triage.recommendation import fired_rules, stand


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=lambda boundary: boundary.changes)
def test_where_a_rule_begins(boundary: Boundary) -> None:
    fired = {rule.id for rule in fired_rules(stand(boundary.answers).ranks)}
    assert boundary.fires <= fired
    assert not boundary.silent & fired
