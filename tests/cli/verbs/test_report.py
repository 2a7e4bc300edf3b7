"""report: the page, what is in it, and what a browser says."""

import json
import re
from html import unescape
from html.parser import HTMLParser

import pytest
from helpers.browser import browse
from helpers.workspace import lines, options, rows, succeed, vrm_pyro, write_rows

QUICK = ("--draws", 100, "--psense_prompts", 3)
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&amp; {{ 7 * 7 }}"
SECTIONS = [
    "summary", "reliability", "selective", "weights", "features", "collapse", "khat",
    "sensitivity", "certificates", "mistakes", "uncertain", "about",
]  # fmt: skip


class Page(HTMLParser):
    """Tags, anchors, links and ids of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.attributes = [], [], [], []
        self.open = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found["href"])
        if tag not in ("meta", "link", "path", "circle", "rect", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def hostile(place, tmp_path_factory):
    """Test rows whose texts, ids and kinds hold markup."""
    made = rows(8, seed=2)
    for i, row in enumerate(made):
        row["id"] = f"{i}-{HOSTILE}"
        row["prompt"] += f" {HOSTILE}"
        row["chosen"] += f" {HOSTILE}"
        row["subset"] = f"<b>{row['subset']}</b>"
    return write_rows(tmp_path_factory.mktemp("hostile") / "rows.jsonl", made)


@pytest.fixture(scope="module")
def page(place, baseline, hostile, tmp_path_factory):
    """A page about rows with markup in them, beside a baseline."""
    out = tmp_path_factory.mktemp("report") / "new" / "r.html"
    data = ("--data", hostile, "--against", baseline, "--worst", 4, "--out", out)
    run = succeed("report", "--model", place / "model", *data, *QUICK)
    assert run.out.strip() == str(out)
    assert [p.name for p in out.parent.iterdir()] == ["r.html"]
    return out


def test_sections_and_contents(page):
    found = Page(page.read_text())
    assert found.open == []
    assert [key for key in found.ids if key in SECTIONS] == SECTIONS
    assert len(set(found.ids)) == len(found.ids)
    contents = [link for link in found.links if link not in ("#contents", "#content")]
    assert contents == [f"#{key}" for key in SECTIONS]
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)


def test_markup_in_texts_is_text(page):
    text = page.read_text()
    found = Page(text)
    assert "script" not in found.tags
    assert "img" not in found.tags
    assert "b" not in found.tags
    assert not [a for a in found.attributes if a[1].startswith("on")]
    assert "&lt;script&gt;document.title=" in text
    assert "{{ 7 * 7 }}" in text
    assert "kind 1" in text


def test_nothing_is_loaded(page):
    text = page.read_text()
    found = Page(text)
    for tag, name, value in found.attributes:
        if name in ("src", "href", "srcset", "data", "poster", "action"):
            assert value.startswith(("#", "data:")), (tag, name, value)
    assert "@import" not in text
    assert "url(" not in text
    assert "default-src 'none'" in text


def test_a_browser_has_no_complaint(page, tmp_path):
    seen = browse(page, tmp_path / "profile")
    assert seen.console == []
    assert "<title>Report on model</title>" in seen.dom
    # The policy of the page turns any load into a complaint: the check would notice one.
    broken = tmp_path / "broken.html"
    loading = '<img src="http://example.org/a.png"><script>1</script></body>'
    broken.write_text(page.read_text().replace("</body>", loading))
    assert len(browse(broken, tmp_path / "other").console) >= 2


def test_the_page_fits_a_phone(page, tmp_path):
    """Nothing is wider than the window but tables, which scroll by themselves."""
    measuring = tmp_path / "m.html"
    script = (
        "<script>document.title = document.documentElement.scrollWidth + ' of ' + innerWidth"
        "</script></body>"
    )
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    measuring.write_text(text.replace("</body>", script))
    seen = browse(measuring, tmp_path / "profile", "--window-size=390,900")
    width, window = re.search(r"<title>(\d+) of (\d+)</title>", seen.dom).groups()
    assert int(width) <= int(window)
    assert int(window) <= 500


def test_numbers_are_those_of_evaluate(page, place, baseline, hostile, tmp_path):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.read_text()))
    for model, name in ((place / "model", "this model"), (baseline, "Bradley-Terry")):
        out = tmp_path / "m.json"
        succeed("evaluate", "--model", model, "--data", hostile, "--out", out)
        found = json.loads(out.read_text())
        shown = " ".join(
            f"{found[key]:.3f} ± {found[f'{key}_se']:.3f}"
            for key in ("accuracy", "log_loss", "brier", "ece")
        )
        assert f"{name} {shown}" in text
    longest = found["length_baseline"]["longest"]
    assert f"always the longest {longest:.3f}" in text


def test_reasons_are_those_of_explain(page, place, hostile):
    part = page.read_text()
    part = part[part.index('id="uncertain"') :]
    articles = re.findall(r"<article>.*?</article>", part, re.DOTALL)
    assert len(articles) == 4
    for article in articles:
        name = unescape(re.search(r"<h3>(.*?) · ", article)[1])
        where = ("--model", place / "model", "--data", hostile, "--id", name)
        found = json.loads(succeed("explain", *where, "--json").out)
        (pair,) = found["pairs"]
        text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", article))
        assert f"{pair['p_first_preferred']:.2f}" in text
        for objective, value in pair["contributions"].items():
            weight = found["weights"][objective]
            # A there is the choice of the model, here the better by mean: nearly always one.
            shown = rf" {objective} [+-]{abs(value['mean']):.3f} +"
            shown += f"{weight['mean']:.2f} ± {weight['sd']:.2f} "
            assert re.search(shown, text)


def test_without_texts_no_text_is_there(place, hostile, tmp_path):
    out = tmp_path / "r.html"
    data = ("--data", hostile, "--no-text", "--out", out)
    succeed("report", "--model", place / "model", *data, *QUICK)
    text = out.read_text()
    for row in lines(hostile):
        words = row["prompt"].split(" <script")[0]
        assert words not in text
        assert row["rejected"] not in text
    assert 'id="mistakes"' in text
    assert "adds to A − B" in text
    assert "--against DIR" in text  # how to get a baseline


def test_certificates_of_training_rows_are_withheld(place, tmp_path):
    out = tmp_path / "r.html"
    data = ("--data", place / "train.jsonl", "--out", out, "--khat_prompts", 4)
    succeed("report", "--model", place / "model", *data, "--draws", 100, "--psense_prompts", 0)
    text = out.read_text()
    assert "Withheld: 24 of 24 prompts are in data.train" in text
    assert "at most</th>" not in text
    assert "--psense_prompts is 0" in text


@pytest.mark.parametrize(
    ("declared", "there", "absent"),
    [
        ("yes", "Withheld: the backbone was declared", "at most</th>"),
        ("no", "at most</th>", "are void"),
        ("unknown", "the limits above are void", "Withheld"),
    ],
)
def test_declared_labels(place, tmp_path, declared, there, absent):
    out = tmp_path / "r.html"
    data = ("--data", place / "test.jsonl", "--out", out, "--worst", 0, "--psense_prompts", 0)
    saw = ("--backbone_saw_these_labels", declared)
    succeed("report", "--model", place / "model", *data, *saw, "--draws", 100)
    text = out.read_text()
    assert there in text
    assert absent not in text
    assert "Left out: --worst 0" in text


def test_verdicts_of_diagnose_are_shown(place, tmp_path):
    findings = [
        {"name": "khat", "value": 0.25, "uncertainty": 0.1, "alarm": False, "verdict": "good"},
        {"name": "loo", "value": None, "alarm": None, "verdict": "does not apply <i>"},
        {"name": "collapse", "value": 1, "unit": "share", "alarm": True, "verdict": "w collapsed"},
    ]
    path = tmp_path / "d.json"
    for content in (findings, {"findings": findings}):
        path.write_text(json.dumps(content))
        out = tmp_path / "r.html"
        data = ("--data", place / "test.jsonl", "--diagnose", path, "--out", out)
        quick = ("--draws", 100, "--psense_prompts", 0, "--worst", 0)
        succeed("report", "--model", place / "model", *data, *quick)
        text = out.read_text()
        part = text[text.index('id="diagnoses"') :]
        assert "1 of 3 checks raise an alarm" in part
        assert part.index("w collapsed") < part.index("good") < part.index("&lt;i&gt;")
        assert "0.25 ± 0.1" in part


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "r.txt"), "ends in .html"),
        (("--out", "r.html", "--worst", "-1"), "--worst is -1"),
        (("--out", "r.html", "--draws", "50"), "--draws is 50"),
        (
            ("--out", "r.html", "--against", "{model}"),
            "give one of architecture bradley_terry or gate",
        ),
        (("--out", "r.html", "--against", "none"), "none"),
        (("--out", "r.html", "--diagnose", "none.json"), "cannot be read"),
        (("--out", "r.html", "--diagnose", "{test}"), "not valid JSON"),
        (("--out", "r.html", "--backbone_saw_these_labels", "maybe"), "one of no, yes, unknown"),
    ],
)
def test_what_is_refused(place, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    names = {"{model}": place / "model", "{test}": place / "test.jsonl"}
    filled = [names.get(a, a) for a in arguments]
    run = vrm_pyro("report", "--model", place / "model", "--data", place / "test.jsonl", *filled)
    assert run.code == 2, run.err
    assert message in run.err
    assert list(tmp_path.iterdir()) == []


def test_a_baseline_is_no_model_to_report_on(place, baseline, tmp_path):
    out = ("--data", place / "test.jsonl", "--out", tmp_path / "r.html")
    run = vrm_pyro("report", "--model", baseline, *out)
    assert run.code == 2
    assert "Give it with --against" in run.err


def test_a_gate_is_a_baseline_under_its_own_name(place, tmp_path):
    gate, out = tmp_path / "gate", tmp_path / "r.html"
    settings = options(place, train__num_train_epochs=1)
    succeed("train", "--config", "gate", *settings, "--train.output_dir", gate)
    data = ("--data", place / "test.jsonl", "--against", gate, "--out", out)
    succeed("report", "--model", place / "model", *data, *QUICK)
    text = out.read_text()
    assert "minus gate over ratings on the same pairs" in text
    assert "accuracy, gate over ratings" in text
    assert "Bradley-Terry" not in text


def test_a_baseline_on_other_states_is_refused(place, tmp_path):
    settings = options(place, model__max_length=40, train__num_train_epochs=1)
    other = tmp_path / "other"
    succeed("train", "--config", "bradley_terry", *settings, "--train.output_dir", other)
    out = ("--data", place / "test.jsonl", "--out", tmp_path / "r.html", "--against", other)
    run = vrm_pyro("report", "--model", place / "model", *out)
    assert run.code == 2
    assert "other states" in run.err
    assert "max_length" in run.err
