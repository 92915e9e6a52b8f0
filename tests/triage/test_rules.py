"""The data files: what the loader refuses, languages, and whether every rule is needed."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from triage_cases import BOUNDARIES, CASES

from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.triage.messages import (
    MESSAGES,
    default_region,
    languages,
    load_catalogue,
    missing_messages,
    read_messages,
)
from audio_pipeline.triage.recommendation import fired_rules, highest, stand
from audio_pipeline.triage.rules import (
    DATA,
    LEVELS,
    TABLE_FILES,
    Rule,
    Tables,
    build_tables,
    leaves,
    load_tables,
    parse_condition,
)
from benchmarks.triage_page import review_page

DOCS = Path(__file__).parents[2] / "docs"


@cache
def _documents() -> dict[str, Any]:
    return {name: tomllib.loads((DATA / name).read_text(encoding="utf-8")) for name in TABLE_FILES}


@pytest.fixture
def documents() -> dict[str, Any]:
    return copy.deepcopy(_documents())


def _rule(**changes: Any) -> dict[str, Any]:
    return {
        "id": "R99",
        "level": "routine",
        "when": "fever >= yes",
        "sources": ["NHS"],
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": []}, "R99: it names no source"),
        ({"sources": ["GOSSIP"]}, "R99: unknown source 'GOSSIP'"),
        ({"level": "urgent"}, "R99: unknown level 'urgent'"),
        ({"when": "fevr >= yes"}, "R99: unknown question 'fevr'"),
        ({"when": "fever >= hot"}, "R99: unknown option 'hot' of fever"),
        ({"when": "fever >= no"}, "R99: fever >= no always holds"),
        ({"when": "NOT fever >= yes"}, "R99: expected 'question >= option'"),
        ({"when": "fever >= yes AND pain >= brief OR trend >= worse"}, "R99: AND and OR need"),
        ({"when": "(fever >= yes"}, "R99: a bracket is not closed"),
        ({"when": "fever >= yes)"}, "R99: unexpected"),
        ({"when": "fever < yes"}, "R99: cannot read"),
        ({"when": ""}, "R99: expected"),
        ({"when": "age_under_16 >= yes AND age_65_plus >= yes"}, "R99: it can never fire"),
        ({"when": "under_6_weeks >= yes AND over_3_months >= yes"}, "R99: it can never fire"),
        ({"id": "E01"}, "'E01': its id is missing or used twice"),
        ({"note": "x"}, "R99: unknown key 'note'"),
    ],
)
def test_a_bad_rule_is_refused(
    documents: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    documents["rules.toml"]["rule"].append(_rule(**changes))
    with pytest.raises(ValueError, match=re.escape(message)):
        build_tables(documents)


@pytest.mark.parametrize(
    ("file", "path", "value"),
    [
        ("sources.toml", ("NHS", "url"), ""),
        ("questions.toml", ("question", 0, "gate"), "urgent"),
        ("questions.toml", ("question", 0, "stop"), "often"),
        ("questions.toml", ("question", 0, "colour"), "red"),
        ("questions.toml", ("question", 1, "id"), "saddle_numbness"),
        ("questions.toml", ("derived", 0, "values"), ["last_week"]),
        ("questions.toml", ("derived", 0, "question"), "start"),
        ("advice.toml", ("advice", 0, "levels"), ["urgent"]),
        ("rules.toml", ("disagreement", 0, "answers"), {"both_legs": "often"}),
    ],
)
def test_bad_data_is_refused(
    documents: dict[str, Any], file: str, path: tuple[Any, ...], value: object
) -> None:
    entry = documents[file]
    for step in path[:-1]:
        entry = entry[step]
    entry[path[-1]] = value
    with pytest.raises(ValueError):
        build_tables(documents)


def test_every_source_is_used_and_has_a_link() -> None:
    tables = load_tables()
    used = {source.key for rule in tables.rules for source in rule.sources}
    used |= {source.key for item in tables.explanation for source in item.sources}
    assert set(tables.sources) == used
    for source in tables.sources.values():
        assert source.url.startswith(("https://", "http://", "docs/triage.md#"))
        if source.url.startswith("docs/"):
            anchor = source.url.partition("#")[2].replace("-", " ")
            assert f"\n## {anchor}\n" in (DOCS / "triage.md").read_text(encoding="utf-8").lower()


def test_the_version_changes_with_the_data(tmp_path: Path) -> None:
    for name in TABLE_FILES:
        (tmp_path / name).write_bytes((DATA / name).read_bytes())
    same = load_tables(tmp_path)
    assert same.version == load_tables().version
    (tmp_path / "advice.toml").write_bytes(b"# changed\n" + (DATA / "advice.toml").read_bytes())
    load_tables.cache_clear()
    assert load_tables(tmp_path).version != same.version


def test_the_reviewed_page_is_up_to_date() -> None:
    written = (DOCS / "triage.md").read_text(encoding="utf-8")
    assert written == review_page(), "run: python -m benchmarks.triage_page > docs/triage.md"


def test_the_hazard_log_names_tests_and_cases_that_exist() -> None:
    log = (DOCS / "hazards.md").read_text(encoding="utf-8")
    files = list((DOCS.parent / "tests").rglob("test_*.py"))
    sources = "".join(path.read_text(encoding="utf-8") for path in files)
    for name in set(re.findall(r"`(test_\w+)`", log)):
        assert f"def {name}(" in sources, name
    for name in set(re.findall(r"`(test_\w+\.py)`", log)):
        assert name in {path.name for path in files}, name
    assert set(re.findall(r"`([a-z]{2}\d{2})`", log)) <= {case.id for case in CASES}


# --------------------------------------------------------------- languages


def test_english_is_complete() -> None:
    assert missing_messages(read_messages(MESSAGES / "en.toml"), load_tables()) == []
    assert languages() == ("en",)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('title = "Get emergency help now"', 'title = ""'),
        ('emergency_number = "112"\n', ""),
        ("reviewed = true", "reviewed = false"),
        ("N-SADDLE = ", "N-OTHER = "),
        ("E01 = ", "E99 = "),
        ("wrong_answer = ", "right_answer = "),
    ],
)
def test_a_language_without_its_emergency_text_cannot_be_chosen(
    tmp_path: Path, old: str, new: str
) -> None:
    english = (MESSAGES / "en.toml").read_text(encoding="utf-8")
    assert old in english
    (tmp_path / "xx.toml").write_text(english, encoding="utf-8")
    assert languages(tmp_path) == ("xx",)
    (tmp_path / "xx.toml").write_text(english.replace(old, new, 1), encoding="utf-8")
    assert languages(tmp_path) == ()
    with pytest.raises(InvalidInputError, match="cannot be chosen"):
        load_catalogue("GB", "xx", tmp_path)


def test_an_unknown_language_or_region_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'tlh'"):
        load_catalogue("GB", "tlh")
    with pytest.raises(InvalidInputError, match="GB, US, EU, AU"):
        load_catalogue("ZZ")


@pytest.mark.parametrize(
    ("locale", "region"),
    [
        ("en_US.UTF-8", "US"),
        ("de_DE.UTF-8", "EU"),
        ("en_AU", "AU"),
        ("fr_CA.UTF-8", "US"),
        ("en_NZ.UTF-8", "EU"),
        ("de_AT@euro", "EU"),
        ("en_GB.UTF-8", "GB"),
        ("C.UTF-8", "GB"),
        ("", "GB"),
    ],
)
def test_the_region_follows_the_locale(
    monkeypatch: pytest.MonkeyPatch, locale: str, region: str
) -> None:
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", locale)
    assert default_region() == region


# ---------------------------------------------------------------- mutation


STANDINGS = [(case, stand(case.answers, case.sound).ranks) for case in CASES]
EDGES = [(boundary, stand(boundary.answers).ranks) for boundary in BOUNDARIES]


def _survives(rules: tuple[Rule, ...]) -> bool:
    """Whether the written cases and boundaries accept another set of rules."""
    for case, ranks in STANDINGS:
        fired = [rule for rule in rules if rule.condition.holds(ranks)]
        level = LEVELS.index(highest(rule.level for rule in fired))
        low, high = map(LEVELS.index, case.range)
        if not low <= level <= high or not case.because <= {rule.id for rule in fired}:
            return False
    for boundary, ranks in EDGES:
        names = {rule.id for rule in rules if rule.condition.holds(ranks)}
        if not boundary.fires <= names or boundary.silent & names:
            return False
    return True


def test_every_rule_and_gate_is_needed() -> None:
    rules = load_tables().rules
    assert _survives(rules)
    for rule in rules:
        assert not _survives(tuple(each for each in rules if each is not rule)), rule.id


def _mutants(tables: Tables) -> Iterator[tuple[str, Rule, Rule]]:
    """Rules with one thing changed: a threshold one step up or down, AND for OR, OR for AND."""
    for rule in tables.rules:
        if rule.question is not None:
            continue
        for leaf in set(leaves(rule.condition)):
            options = tables.scales[leaf.scale]
            for step, kind in ((1, "stricter"), (-1, "looser")):
                if not 1 <= leaf.rank + step < len(options):
                    continue
                old = f"{leaf.scale} >= {leaf.option}"
                text = re.sub(
                    rf"{re.escape(old)}(?![\w-])",
                    f"{leaf.scale} >= {options[leaf.rank + step]}",
                    rule.text,
                )
                yield kind, rule, _changed(rule, text, tables)
        for old, new in ((" AND ", " OR "), (" OR ", " AND ")):
            if old in rule.text:
                flat = re.sub(r"[()]", "", rule.text).replace(old, new)
                text = rule.text.replace(old, new) if "(" not in rule.text else flat
                if " AND " in text and " OR " in text:
                    continue
                yield f"{old.strip()} for {new.strip()}", rule, _changed(rule, text, tables)


def _changed(rule: Rule, text: str, tables: Tables) -> Rule:
    condition = parse_condition(text, tables.scales)
    return Rule(rule.id, rule.level, text, condition, rule.sources)


@pytest.mark.slow
def test_most_changed_rules_are_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    """A mutation run over the rules; the figures go to the report of the test run."""
    tables = load_tables()
    counts: dict[str, list[int]] = {}
    for kind, rule, mutant in _mutants(tables):
        rules = tuple(mutant if each is rule else each for each in tables.rules)
        noticed = not _survives(rules)
        counts.setdefault(kind, []).append(noticed)
    with capsys.disabled():
        for kind, found in sorted(counts.items()):
            print(f"\n  {kind}: {sum(found)} of {len(found)} noticed", end="")
    # Stricter rules miss people; that is the dangerous direction.
    assert all(counts["stricter"])
    noticed_share = [sum(found) / len(found) for found in counts.values()]
    assert min(noticed_share) > 0.98


def test_fired_rules_come_highest_first() -> None:
    for case in CASES:
        heights = [LEVELS.index(rule.level) for rule in fired_rules(stand(case.answers).ranks)]
        assert heights == sorted(heights, reverse=True)
