"""The demo learns, does not depend on threads, and writes a report that stands by itself."""

import html.parser
import re

import numpy
import pytest

import fastconv
import fastconv.nn
from bench.pairing import Timing
from examples.digits import __main__ as command
from examples.digits import build_network, data, figures, report, speed, training
from fastconv import config

SECTIONS = (
    "Learning",
    "What was taken for what",
    "What the first layer looks for",
    "How fast it trains",
    "Where it went wrong, and where it nearly did",
)
VOID = {"meta", "img", "br", "link"}


@pytest.fixture(scope="module")
def digits():
    return data.load()


@pytest.fixture(scope="module")
def few(digits):
    """A part of the scans, to learn from in a moment."""
    return data.Digits(
        digits.train_scans[:512], digits.train_classes[:512], digits.test_scans[:200], digits.test_classes[:200]
    )


def trained(digits, threads, **changes):
    """(network, history) of a short training."""
    settings = training.Settings(epochs=5)._replace(**changes)
    before = fastconv.get_num_threads()
    fastconv.set_num_threads(threads)
    try:
        fastconv.manual_seed(settings.seed)
        network = build_network(fastconv.nn)
        return network, training.train(network, digits, settings)
    finally:
        fastconv.set_num_threads(before)


@pytest.fixture(scope="module")
def short(few):
    return trained(few, threads=1)


def made_up_run(digits, **changes):
    """A Run whose figures nobody measured."""
    rng = numpy.random.default_rng(0)
    scores = rng.normal(0, 1, (len(digits.test_classes), 10))
    scores[numpy.arange(len(scores)), digits.test_classes] += 5
    history = [
        training.Epoch(training.Score(1 / n, 1 - 0.3 / n), training.Score(1.2 / n, 1 - 0.4 / n)) for n in range(1, 9)
    ]
    run = report.Run(
        settings=training.Settings(epochs=8),
        history=history,
        train_count=len(digits.train_classes),
        scans=digits.test_scans,
        classes=digits.test_classes,
        log_probabilities=scores - numpy.log(numpy.exp(scores).sum(axis=1, keepdims=True)),
        filters=rng.normal(0, 0.3, (32, 1, 3, 3)),
        fingerprint="0123456789abcdef" * 4,
        seconds=12.34,
        threads=2,
        speed=speed.Speed(Timing((0.004, 0.0041, 0.0043), (0.005, 0.0052, 0.0051)), 2, "2.0 <made up>", None, 0.0),
        facts=config.facts(),
        commit="f" * 40 + "+changes",
        finished="1 January 2000, 12:00 UTC",
    )
    return run._replace(**changes)


class Page(html.parser.HTMLParser):
    """What a page consists of.

    Attributes:
        tags: Names of all elements.
        links: Values of all attributes that load or lead somewhere.
        unbalanced: Elements that were not closed in order.
    """

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.unbalanced, self._open = [], [], [], []
        self.feed(text)
        self.close()
        self.unbalanced += self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name.split(":")[-1] in ("src", "href", "srcset", "data")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        if not self._open or self._open.pop() != tag:
            self.unbalanced.append(tag)


def test_the_held_out_quarter_is_a_quarter_of_every_digit(digits):
    assert (len(digits.train_classes), len(digits.test_classes)) == (1347, 450)
    both = numpy.bincount(digits.train_classes) + numpy.bincount(digits.test_classes)
    assert abs(numpy.bincount(digits.test_classes) - both / 4).max() <= 1
    assert digits.train_scans.min() == 0 and digits.train_scans.max() == 1
    kept, held = ({scan.tobytes() for scan in part} for part in (digits.train_scans, digits.test_scans))
    assert not kept & held  # no scan is there twice


@pytest.mark.parametrize(
    ("vertical", "horizontal", "expected"),
    [(0, 0, {(3, 4): 1.0}), (1, 0, {(2, 4): 1.0}), (0, -1, {(3, 5): 1.0}), (0.25, 0, {(3, 4): 0.75, (2, 4): 0.25})],
)
def test_a_scan_is_moved_by_whole_and_broken_pixels(vertical, horizontal, expected):
    class Fixed:
        def uniform(self, low, high, size):
            return numpy.array([[vertical], [horizontal]])

        def standard_normal(self, shape, dtype):
            return numpy.ones(shape, dtype)

    scans = numpy.zeros((1, 1, 8, 8), "float32")
    scans[0, 0, 3, 4] = 1
    wanted = numpy.zeros((8, 8), "float32")
    for place, value in expected.items():
        wanted[place] = value
    moved = data.augment(scans, Fixed(), shift=1, noise=0.0)
    assert moved.dtype == "float32"
    numpy.testing.assert_array_equal(moved[0, 0], wanted)


def test_what_moves_out_of_a_scan_is_gone_and_paper_comes_in():
    matrices = data._moves(numpy.array([1.0, -1.0], "float32"), 4)
    numpy.testing.assert_array_equal(matrices[0] @ [1, 2, 3, 4], [2, 3, 4, 0])
    numpy.testing.assert_array_equal(matrices[1] @ [1, 2, 3, 4], [0, 1, 2, 3])


def test_a_short_training_learns(short):
    _, history = short
    assert [len(epoch) for epoch in history] == [2] * 5
    assert history[-1].test.accuracy > 0.8  # chance is 0.1
    assert history[-1].test.loss < 0.8 * history[0].test.loss


def test_weights_do_not_depend_on_the_number_of_threads(few, short):
    one, two = short[0].state_dict(), trained(few, threads=2)[0].state_dict()
    assert training.fingerprint(one) == training.fingerprint(two)
    for name in one:
        numpy.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_weights_depend_on_the_seed(few, short):
    other, _ = trained(few, threads=1, seed=1, epochs=1)
    assert training.fingerprint(other.state_dict()) != training.fingerprint(short[0].state_dict())


def test_a_fingerprint_sees_one_bit():
    state = {"a": numpy.zeros(3, "float32")}
    changed = {"a": numpy.array([0, 0, -0.0], "float32")}
    assert training.fingerprint(state) != training.fingerprint(changed)
    assert training.fingerprint(state) != training.fingerprint({"b": state["a"]})


def test_saved_weights_mean_the_same_to_pytorch(few, short):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    network, _ = short
    other = build_network(torch.nn)
    other.load_state_dict({name: torch.from_numpy(array) for name, array in network.state_dict().items()})
    with torch.no_grad():
        theirs = torch.log_softmax(other.eval()(torch.from_numpy(few.test_scans)), dim=1).numpy()
    ours = training.predict(network, few.test_scans)
    numpy.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)  # of logarithms between 0 and about -10
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).all()


def test_the_report_has_every_section_and_nothing_from_outside(digits):
    text = report.render(made_up_run(digits))
    page = Page(text)
    assert page.unbalanced == []
    assert [t for t in page.tags if t in ("script", "link", "iframe", "object")] == []
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert "http:" not in text and "https:" not in text and "url(" not in re.sub(r"url\(#\w+\)", "", text)
    for section in SECTIONS:
        assert f"<h2>{section}</h2>" in text
    assert page.tags.count("svg") == 1
    assert len(page.links) - sum(link.startswith("#") for link in page.links) == 32 + page.tags.count("figure")


def test_the_report_tells_the_facts_of_the_run(digits):
    run = made_up_run(digits)
    text = report.render(run)
    for fact in (
        f"{run.misread} of 450",
        run.fingerprint,
        "ffffffffffff with uncommitted changes",
        run.finished,
        html.escape(run.facts["cpu"]["name"]),
        "PyTorch 2.0 &lt;made up&gt;",
        "PyTorch takes 1.25 times as long",
        "8 epochs on 2 threads",
    ):
        assert fact in text, fact
    counts = [int(n) for n in re.findall(r'<td class="(?:hit|miss)">(\d+)</td>', text)]
    assert sum(counts) == 450
    wrong = [int(n) for n in re.findall(r'<td class="miss">(\d+)</td>', text)]
    assert sum(wrong) == run.misread > 0


@pytest.mark.parametrize("misread", [0, 1, 12, 13, 24, 25, 450])
def test_the_report_shows_whole_rows_of_scans(digits, misread):
    right = digits.test_classes
    read = numpy.where(numpy.arange(450) < misread, (right + 1) % 10, right)
    log_probabilities = numpy.full((450, 10), -5.0)
    log_probabilities[numpy.arange(450), read] = -0.01
    text = report.render(made_up_run(digits, log_probabilities=log_probabilities))
    assert text.count('<figure class="wrong">') == min(misread, 24)
    assert Page(text).tags.count("figure") in (12, 24)
    assert ("goal of 98.5" in text) and (('class="verdict bad"' in text) == (misread > 6))


def test_the_report_says_why_there_is_no_comparison(digits):
    alone = speed.Speed(Timing((0.004, 0.005), ()), 1, None, "is not installed here", 1.5)
    text = report.render(made_up_run(digits, speed=alone))
    assert "PyTorch is not installed here, so there is nothing to compare with." in text
    assert "Disturbed: other processes took 1.5 cores meanwhile, so these times do not count." in text
    assert "1 thread." in text


def test_the_curves_of_one_epoch_can_be_drawn():
    score = training.Score(2.0, 0.3)
    assert figures.curves([training.Epoch(score, score)], 0.985).startswith("<svg ")


def test_the_interval_of_an_accuracy_is_wilsons():
    assert report.interval(450, 450) == pytest.approx((0.99154, 1.0), abs=1e-5)
    assert report.interval(0, 10) == pytest.approx((0.0, 0.27753), abs=1e-5)
    assert report.interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe 1998, table I


def test_a_speed_without_pytorch_says_so(monkeypatch):
    def worker(engine, threads):
        if engine == "torch":
            raise speed.WorkerError(
                "torch worker", "start", "ModuleNotFoundError: No module named 'torch'", "an answer"
            )
        return Quick()

    class Quick:
        pid = 1

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def request(self, name, **_):
            return 0.004 if name in ("warm", "time") else None

    monkeypatch.setattr(speed, "Worker", worker)
    measured = speed.measure(1, rounds=3)
    assert measured.why_no_peer == "is not installed here"
    assert measured.timing == Timing((0.004, 0.004, 0.004), ())
    assert speed.measure(1, with_peer=False, rounds=1).why_no_peer == "was left out on request"


def test_the_command_saves_reports_and_tells_that_the_goal_was_missed(few, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "load", lambda: few)
    monkeypatch.setattr(
        speed, "measure", lambda *_, **__: speed.Speed(Timing((0.004,), ()), 1, None, "was left out on request", None)
    )
    before = fastconv.get_num_threads()
    try:
        status = command.main(["--epochs", "1", "--threads", "1", "--no-torch", "--out", str(tmp_path / "new")])
    finally:
        fastconv.set_num_threads(before)
    printed = capsys.readouterr()
    assert status == 1 and "below the goal of 98.5%" in printed.err
    (fingerprint,) = re.findall(r"SHA-256 ([0-9a-f]{64})", printed.out)
    with numpy.load(tmp_path / "new" / "weights.npz") as weights:
        assert training.fingerprint(weights) == fingerprint
        network = build_network(fastconv.nn)
        network.load_state_dict(weights)
    assert fingerprint in (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    assert "epoch  1/1" in printed.out


def test_a_missing_package_is_named(monkeypatch, capsys):
    def load():
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")

    monkeypatch.setattr(data, "load", load)
    assert command.main([]) == 2
    assert "pip install 'fastconv[demo]'" in capsys.readouterr().err
