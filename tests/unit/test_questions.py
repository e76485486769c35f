"""Questions wait in a bounded line, are answered a few at a time, and never for somebody who has gone."""

import pytest

from streamd.errors import BadRecord, Transient
from streamd.questions import Question, Questions


def test_a_question_gets_its_answer_or_the_refusal() -> None:
    questions = Questions()
    good, bad, broken = (questions.ask(Question(kind)) for kind in ("good", "bad", "broken"))

    def answer(question: Question) -> bytes:
        if question.kind == "bad":
            raise BadRecord("no")
        return {"good": b"yes"}[question.kind]

    for _ in range(3):
        questions.answer(answer)

    assert good.result(0) == b"yes"
    with pytest.raises(BadRecord):
        bad.result(0)
    with pytest.raises(KeyError):
        broken.result(0)


def test_one_too_many_is_turned_away_and_who_gave_up_is_not_answered() -> None:
    questions = Questions(room=2)
    first, second = questions.ask(Question("a")), questions.ask(Question("b"))
    with pytest.raises(Transient) as full:
        questions.ask(Question("c"))
    assert full.value.retry_after
    first.cancel()
    asked = []

    questions.answer(lambda question: asked.append(question.kind) or b"")  # type: ignore[func-returns-value]

    assert asked == ["b"]
    assert second.done()


def test_answers_take_a_slice_of_time_and_no_more() -> None:
    questions = Questions()
    futures = [questions.ask(Question("a")) for _ in range(3)]

    questions.answer(lambda question: b"", 0.0)

    assert [future.done() for future in futures] == [True, False, False]


def test_when_it_ends_everybody_is_told() -> None:
    questions = Questions()
    waiting = questions.ask(Question("a"))

    questions.close()

    with pytest.raises(Transient):
        waiting.result(0)
    with pytest.raises(Transient):
        questions.ask(Question("b"))
