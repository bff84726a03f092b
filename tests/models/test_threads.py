"""Any number of threads on one model: each gets the answers that it would get alone, and a fork does not hang."""

import os
import signal
import sys
import threading
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from dubio.errors import DubioError
from dubio.models import threads
from dubio.models.adapted import AdaptedModel
from dubio.models.extraction import Extraction, extract
from dubio.models.loading import load
from dubio.models.threads import alone, catching, keeps_state, together
from dubio.models.tokens.batching import pad, tokenize
from dubio.posteriors.sampling import sample_both
from models.tiny import TEXTS, loaded, root, save_base
from posteriors.test_sampling import sampler

QUIET = Extraction(show=False)
THREADS = 8


def in_threads(work, count=THREADS):
    """Runs work(number) in threads; raises what one of them raised."""
    wrong = []

    def guarded(number):
        try:
            work(number)
        except BaseException as error:
            wrong.append(error)

    started = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if wrong:
        raise wrong[0]


@pytest.fixture
def interval(request):
    before = sys.getswitchinterval()
    sys.setswitchinterval(request.param)
    yield request.param
    sys.setswitchinterval(before)


def texts_of(number):
    """Of another length for each thread, so that rows of one never fit the batch of another."""
    return [" ".join([TEXTS[number % len(TEXTS)], *["gate"] * number])]


def same_as_alone(answer, count):
    """Each thread asks for its own text over and over; every answer is, to the bit, the one that it had alone."""
    expected = [answer(number) for number in range(THREADS)]
    met = threading.Barrier(THREADS)

    def ask(number):
        met.wait()
        for _ in range(count):
            for found, own in zip(answer(number), expected[number], strict=True):
                np.testing.assert_array_equal(found, own)

    in_threads(ask)


CASES = [
    ("bert", "lora"),
    ("llama", "lora"),
    ("roberta", "dora"),
    ("bert", "prefix"),
    ("gpt2", "prompt"),
    ("bert", None),
]


@pytest.mark.parametrize("count", [15, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("interval", [1e-6, pytest.param(5e-3, marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize(("family", "kind"), CASES, ids=str)
def test_threads_get_their_own_rows(family, kind, interval, count):
    model = loaded(family, kind)

    def answer(number):
        rows = extract(model, texts_of(number), how=QUIET)
        return rows.features, rows.logits

    same_as_alone(answer, count)


@pytest.mark.parametrize("count", [8, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("interval", [1e-6], indirect=True)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_threads_draw_samples_on_one_base(family, count, interval):
    """Some share an engine, others have one of their own on the same base, or run the base itself between."""
    made = sampler(family)
    engine, host = made.engine(), made.host
    plain = pad(tokenize(host, TEXTS, None), host)

    def answer(number):
        if number % 3 == 0:
            return sample_both(made, texts_of(number), None, QUIET)
        if number % 3 == 1:
            return engine.forward(pad(tokenize(host, texts_of(number), None), host))
        return host.run(plain)

    same_as_alone(answer, count)


def test_a_fresh_base_is_met_by_many_threads_at_once():
    """What is set up at the first pass is set up once."""
    for _ in range(5):
        made = sampler("bert")
        expected = sample_both(sampler("bert"), TEXTS, None, QUIET)[1]
        engine = made.engine()

        def ask(number, made=made, engine=engine, expected=expected):
            found = engine if number % 2 else made.engine()
            logits = found.predict(pad(tokenize(made.host, TEXTS, None), made.host))
            log_p = torch.log_softmax(logits.double(), dim=2).float()
            np.testing.assert_allclose(log_p.numpy(), expected, atol=1e-5)

        in_threads(ask)


def test_threads_share_a_tokenizer_at_other_lengths():
    """A fast tokenizer keeps the length of the last call: another model's, on the same tokenizer."""
    model = loaded("bert")
    long = "gate " * 70
    expected = {length: tokenize(_at(model, length), [long], None)["input_ids"] for length in (8, 64)}
    assert {length: len(ids[0]) for length, ids in expected.items()} == {8: 8, 64: 64}

    def ask(number):
        length = (8, 64)[number % 2]
        for _ in range(200):
            assert tokenize(_at(model, length), [long], None)["input_ids"] == expected[length]

    in_threads(ask)


def _at(model, length):
    return replace(model, max_length=length)


def test_passes_of_a_plain_model_run_side_by_side(monkeypatch):
    """Two threads are inside the model at once, each waiting for the other: no lock stands between them."""
    model, met = loaded("bert"), threading.Barrier(2, timeout=30)
    real = type(model.model).forward
    monkeypatch.setattr(type(model.model), "forward", lambda *a, **k: (met.wait(), real(*a, **k))[1])
    in_threads(lambda number: model.forward(pad(tokenize(model, texts_of(number), None), model)), 2)


def test_what_keeps_state_is_told_and_runs_alone(tmp_path):
    assert not keeps_state(loaded("bert").model)
    assert not keeps_state(loaded("llama").model)
    assert not keeps_state(loaded("bert", None).model)
    assert keeps_state(loaded("bert", "prefix").model)
    assert keeps_state(loaded("gpt2", "prompt").model)
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    assert keeps_state(load(save_base(tmp_path / "rope", "llama", head=True, rope_parameters=rope)).model)
    unknown = loaded("bert", None).model
    kind = unknown.config.model_type
    try:
        unknown.config.model_type = "reformer"
        assert keeps_state(unknown)
    finally:
        unknown.config.model_type = kind


def test_turns():
    """Alone means alone, may be entered again, and waits for those who are together."""
    module, inside, most = torch.nn.Identity(), [], []

    def work(number):
        for _ in range(50):
            with (alone if number < 2 else together)(module):
                if number < 2:
                    with alone(module), together(module):
                        inside.append("alone")
                        assert inside == ["alone"]
                        time.sleep(0.0001)
                        inside.remove("alone")
                else:
                    inside.append(number)
                    assert "alone" not in inside
                    most.append(len(inside))
                    time.sleep(0.0001)
                    inside.remove(number)

    in_threads(work, 5)
    assert max(most) > 1
    with pytest.raises(KeyError), alone(module):
        raise KeyError
    with together(module):
        pass


def test_turns_come_in_the_order_in_which_they_were_asked_for():
    """Else a thread that comes again at once keeps all others out, for as long as it likes."""
    turns, entered, threads_ = threads._Turns(), [], []

    def enter(number, context):
        with context():
            entered.append(number)

    with turns.alone():
        for number, context in enumerate([turns.alone, turns.together, turns.alone, turns.together, turns.alone]):
            threads_.append(threading.Thread(target=enter, args=(number, context)))
            threads_[-1].start()
            while len(turns._line) <= number:
                time.sleep(0.001)
    for thread in threads_:
        thread.join()
    assert entered == [0, 1, 2, 3, 4]


def test_who_is_inside_comes_in_again_before_those_who_wait():
    turns, entered = threads._Turns(), []

    def wait():
        with turns.alone():
            entered.append("alone")

    with turns.together():
        thread = threading.Thread(target=wait)
        thread.start()
        while not turns._line:
            time.sleep(0.001)
        with turns.together():
            entered.append("together")
        with pytest.raises(RuntimeError, match="cannot be alone"), turns.alone():
            pass
    thread.join()
    assert entered == ["together", "alone"]
    assert not turns._line
    assert not turns._inside


def test_one_hook_stays_and_catches_only_in_its_context():
    module = torch.nn.Linear(2, 2)
    for _ in range(3):
        with catching(module) as seen, torch.no_grad():
            module(torch.zeros(1, 2))
        module(torch.ones(1, 2))
        assert [value.tolist() for value in seen] == [[[0.0, 0.0]]]
    assert len(module._forward_pre_hooks) == 1


def child_answers(work):
    """Forks, lets the child do the work, kills it after a minute; returns its exit code."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        code = 1
        try:
            code = 0 if work() else 3
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_fork_after_several_threads_of_torch_goes_on():
    """torch's own threads do not live on in the child: with several of them wanted, it would wait for ever."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    model = load(save_wide())
    try:
        texts = TEXTS * 20
        expected = extract(model, texts, how=QUIET)

        def work():
            found = extract(model, texts, how=QUIET)
            return torch.get_num_threads() == 1 and np.allclose(found.logits, expected.logits, atol=1e-4)

        assert child_answers(work) == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def save_wide():
    """Wide enough for torch to share the work of a product among its threads."""
    folder = root() / "wide"
    if not folder.exists():
        save_base(folder, "bert", head=True, hidden_size=256, intermediate_size=512)
    return folder


def test_a_fork_while_another_thread_is_in_the_model_does_not_wait_for_it():
    model, go, entered = loaded("bert"), threading.Event(), threading.Event()

    def hold():
        with alone(model.site.module), alone(model.tokenizer):
            entered.set()
            go.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(60)
    try:
        assert child_answers(lambda: extract(model, ["yes"], how=QUIET).logits.shape == (1, 3)) == 0
    finally:
        go.set()
        thread.join()


def test_a_forked_process_is_refused_on_a_gpu():
    def work():
        try:
            threads.settle("cuda:0")
        except DubioError as error:
            return "spawn" in str(error)

    assert child_answers(work) == 0
    threads.settle("cuda:0")  # in the process itself nothing is wrong


def test_no_warning_filter_is_touched_by_a_pass(monkeypatch):
    """`warnings.catch_warnings` is of the whole process: two threads that leave it crosswise turn warnings off."""
    model = loaded("bert")
    monkeypatch.setattr(warnings.catch_warnings, "__enter__", lambda *_: pytest.fail("filters are changed"))
    assert isinstance(model, AdaptedModel)
    model.forward(pad(tokenize(model, TEXTS, None), model))
