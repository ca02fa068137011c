"""The page: one file, no script, no outside address, both languages, every figure with its table."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from tests.report.sample import (
    BANK,
    PARTNER,
    bare_report,
    feature_owner_report,
    regression_report,
    sample_report,
)

from isthmus.learn.metrics import Evaluation
from isthmus.report.html import render_html
from isthmus.report.model import Language, Report, Words
from isthmus.report.words import GLOSSARY, PAGE, REASONS, STAGES

HAN = re.compile(r"[\u3400-\u9fff]")
VOID = {"meta", "br", "hr", "img", "input", "link"}
MAKERS = [sample_report, regression_report, feature_owner_report, bare_report]


class _Page(HTMLParser):
    """Checks nesting, and collects tags, ids, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(k, v or "") for k, v in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(k, v or "") for k, v in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    def values(self, name: str) -> list[str]:
        return [v for k, v in self.attributes if k == name]


@pytest.fixture(scope="module", name="report")
def _report() -> Report:
    return sample_report(1500)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("make", MAKERS)
def test_a_page_has_no_script_no_address_and_sound_links(
    make: Callable[[], Report], language: Language
) -> None:
    html = render_html(make(), language)
    page = _Page(html)
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(page.tags)
    assert not [k for k, _ in page.attributes if k.startswith("on") or k in ("src", "style")]
    assert set(re.findall(r"https?://[^\"' <]+", html)) <= {"http://www.w3.org/2000/svg"}
    assert "@import" not in html
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    links = page.values("href")
    assert links
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert all(link.startswith("#") for link in links)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_figure_has_a_sentence_a_title_and_a_table(report: Report, language: Language) -> None:
    html = render_html(report, language)
    figures = re.findall(r"<figure .*?</figure>", html, re.DOTALL)
    assert len(figures) == 19
    for figure in figures:
        assert len(re.findall(r"<figcaption>[^<]{15,}</figcaption>", figure)) == 1
        assert len(re.findall(r'role="img" aria-label="[^"]+"', figure)) == 1
        assert re.search(r"<details>.*<tbody>\s*<tr>", figure, re.DOTALL)


def test_the_page_shows_the_figures_with_four_decimals(report: Report) -> None:
    assert report.metrics is not None
    joint, alone = report.metrics.joint, report.metrics.alone
    assert isinstance(joint, Evaluation)
    assert isinstance(alone, Evaluation)
    languages: tuple[Language, Language] = ("en", "zh")
    for language in languages:
        text = _Page(render_html(report, language)).text
        for value in (joint.auc, joint.ks, alone.auc, alone.ks):
            assert f"{value:.4f}" in text
        assert f"{joint.auc - alone.auc:+.4f}" in text


def test_what_must_be_known_first_stands_before_the_title(report: Report) -> None:
    html = render_html(replace(report, rows=replace(report.rows, test=999)), "en")
    assert html.index("Generated data") < html.index("Small sample") < html.index("<h1>")
    assert 'role="note"' not in render_html(replace(report, generated_data=False), "en")


def test_names_are_escaped_wherever_they_stand(report: Report) -> None:
    evil = "<b onmouseover=x>&\"'"
    columns = tuple(replace(c, name=evil, labels=(evil,) * 6) for c in report.columns)
    changed = replace(
        report,
        name=evil,
        purpose=evil,
        notes=(evil,),
        columns=columns,
        parties=replace(report.parties, label=evil, edition=evil),
        governance=replace(report.governance, job_digest='";}</style><b onmouseover=x>'),
    )
    page = _Page(render_html(changed, "en"))
    assert "b" not in page.tags
    assert page.text.count(evil) > 20


def test_the_english_page_has_no_han_and_the_chinese_no_english_sentence(report: Report) -> None:
    assert not HAN.search(_Page(render_html(report, "en")).text)
    chinese = _Page(render_html(report, "zh")).text
    assert not re.search(
        r"\b(the|of|and|with|rows|bads)\b", chinese.replace("pre-approval of credit cards", "")
    )
    template = files("isthmus.report").joinpath("templates/report.html").read_text(encoding="utf-8")
    assert not HAN.search(template)


def test_every_word_of_the_catalogue_is_there_in_both_languages() -> None:
    everything = [*PAGE.values(), *REASONS.values(), *STAGES.values()]
    everything += [w for t in GLOSSARY for w in (t.name, t.meaning)]
    assert all(w.en and w.zh and not HAN.search(w.en) for w in everything)
    same = {key for key, words in PAGE.items() if not HAN.search(words.zh)}
    assert same == {"auc", "ks", "rmse", "r2", "woe", "iv", "psi"}


def test_every_word_of_the_catalogue_is_used() -> None:
    source = "".join(
        item.read_text(encoding="utf-8")
        for folder in ("", "templates")
        for item in files("isthmus.report").joinpath(folder).iterdir()
        if item.name.endswith((".py", ".html")) and item.name != "words.py"
    )
    unused = [
        k for k in PAGE if f'"{k}"' not in source and f"'{k}'" not in source and not k.startswith("sec_")
    ]
    assert unused == []


def test_the_glossary_explains_what_the_page_uses(report: Report) -> None:
    assert {"AUC", "KS", "IV", "WOE", "PSI"} <= {t.name.en for t in GLOSSARY}
    text = _Page(render_html(report, "zh")).text
    assert all(t.name.zh in text and t.meaning.zh in text for t in GLOSSARY)


def test_the_edition_of_the_feature_owner_shows_no_quality_figures() -> None:
    text = _Page(render_html(feature_owner_report(), "en")).text
    assert "Evaluation" not in text
    assert "no quality figures" in text
    assert "limit" not in text.split("Glossary")[1]


def test_a_partner_column_appears_by_alias_with_the_mark_of_its_party(report: Report) -> None:
    html = render_html(report, "en")
    assert f"{PARTNER}.f001" in html
    ranking = re.search(r'<figure id="fig-iv">.*?</figure>', html, re.DOTALL)
    assert ranking is not None
    assert ranking[0].count('class="bar p2"') == 6  # five columns and the key
    assert ranking[0].count('class="bar p1"') == 8


def test_known_reasons_and_stages_are_translated_and_others_shown_as_written(report: Report) -> None:
    text = _Page(render_html(report, "zh")).text
    assert "取值恒定" in text
    assert "样本对齐" in text
    assert "与 bill_2 相关系数 0.99" in text


def test_a_long_column_list_is_folded_and_a_short_one_open(report: Report) -> None:
    assert '<details class="fold" open>' in render_html(report, "en")
    many = tuple(replace(report.columns[0], name=f"c{k}", woe=None, labels=(), psi=None) for k in range(41))
    html = render_html(replace(report, columns=many, dropped=()), "en")
    assert '<details class="fold">' in html
    assert '<details class="fold" open>' not in html
    assert "The first 15 of 41 are drawn." in html


def test_three_feature_owners_each_have_their_rows_and_mark() -> None:
    base = bare_report()
    names = ("data-co", "tele-co", "shop-co")
    report = replace(
        base,
        parties=replace(base.parties, feature=names),
        rows=replace(base.rows, feature=(11, 222, 3_333)),
    )
    html = render_html(report, "en")
    assert all(f">{n}</td>" in html for n in ("11", "222", "3,333"))
    assert all(f'class="bar p{k}"' in html for k in (1, 2, 3, 4))
    assert BANK in html


def test_words_are_said_in_the_language_of_the_page(report: Report) -> None:
    changed = replace(report, notes=(Words("resumed once", "恢复过一次"),))
    assert "resumed once" in render_html(changed, "en")
    assert "恢复过一次" in render_html(changed, "zh")
