import pickle

import pytest

from psfbank import errors
from psfbank.errors import BankFormatError, CaptureUnusable, CorruptBankError, PsfBankError, UnsafeBankError

OWN = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


@pytest.mark.parametrize(
    ("where", "remedy", "sentence"),
    [
        ("", "", "the LEDs are saturated"),
        ("led_1.png", "", "led_1.png: the LEDs are saturated"),
        ("", "Expose shorter", "the LEDs are saturated. Expose shorter"),
        ("led_1.png", "Expose shorter", "led_1.png: the LEDs are saturated. Expose shorter"),
    ],
)
def test_the_message_says_where_what_and_remedy(where: str, remedy: str, sentence: str) -> None:
    assert str(CaptureUnusable("the LEDs are saturated", where=where, remedy=remedy)) == sentence


@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind.__name__)
def test_every_error_is_ours_and_says_when_it_is_raised(kind: type[Exception]) -> None:
    assert issubclass(kind, PsfBankError)
    assert (kind.__doc__ or "").strip()


@pytest.mark.parametrize("kind", OWN, ids=lambda kind: kind.__name__)
def test_an_error_comes_back_whole_from_another_process(kind: type[PsfBankError]) -> None:
    error = kind("too dark", where="flat_2.dng", remedy="Expose longer")

    back = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

    assert type(back) is kind
    assert (back.what, back.where, back.remedy) == ("too dark", "flat_2.dng", "Expose longer")


def test_a_bank_that_cannot_be_trusted_is_told_apart_from_other_errors() -> None:
    assert issubclass(CorruptBankError, BankFormatError)
    assert issubclass(UnsafeBankError, BankFormatError)
    assert not issubclass(CaptureUnusable, BankFormatError)
