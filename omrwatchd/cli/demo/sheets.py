"""Answer sheets as a scanner sees them: a printed form, filled bubbles, noise of the paper."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from functools import lru_cache

from PIL import Image, ImageChops, ImageDraw, ImageFont

WIDTH, HEIGHT = 1240, 1754
"""Pixels: A4 at 150 dpi."""
QUESTIONS, CHOICES, COLUMNS = 100, 5, 4
_BUBBLE, _STEP_X, _STEP_Y = 11, 40, 42


def jpeg_sheets(count: int, title: str, seed: int, *, quality: int = 60) -> Iterator[bytes]:
    """``count`` different sheets as JPEG files; the same seed gives the same bytes."""
    chance = random.Random(seed)
    for number in range(1, count + 1):
        image = _filled(title, number, chance)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=quality)
        yield out.getvalue()


def raw_sheets(count: int, title: str, seed: int) -> Iterator[bytes]:
    """``count`` sheets as uncompressed TIFF files of about 2 MB, as some scanners save them."""
    chance = random.Random(seed)
    for number in range(1, count + 1):
        out = io.BytesIO()
        _filled(title, number, chance).save(out, "TIFF")
        yield out.getvalue()


def _filled(title: str, number: int, chance: random.Random) -> Image.Image:
    sheet = _form(title).copy()
    pen = ImageDraw.Draw(sheet)
    pen.text((WIDTH - 330, 96), f"Sheet {number:05}", fill=40, font=_font(32))
    for digit in range(8):  # the candidate's number
        x, y = _id_bubble(digit, chance.randrange(10))
        pen.ellipse((x - 9, y - 9, x + 9, y + 9), fill=chance.randrange(20, 70))
    for question in range(QUESTIONS):
        if chance.random() < 0.03:
            continue  # left blank
        x, y = _bubble(question, chance.randrange(CHOICES))
        size = chance.randrange(7, 11)
        pen.ellipse((x - size, y - size, x + size, y + size), fill=chance.randrange(20, 80))
    return ImageChops.offset(
        ImageChops.multiply(sheet, _paper()), chance.randrange(-4, 5), chance.randrange(-4, 5)
    )


@lru_cache(maxsize=8)
def _form(title: str) -> Image.Image:
    """The printed form."""
    form = Image.new("L", (WIDTH, HEIGHT), 250)
    pen = ImageDraw.Draw(form)
    for x in (50, WIDTH - 90):  # registration marks
        for y in (50, HEIGHT - 90):
            pen.rectangle((x, y, x + 40, y + 40), fill=10)
    pen.text((140, 84), title, fill=20, font=_font(44))
    pen.text((140, 160), "Fill the bubble of your answer completely.", fill=90, font=_font(24))
    pen.text((140, 222), "Candidate number", fill=60, font=_font(22))
    for digit in range(8):
        for value in range(10):
            _draw_bubble(pen, _id_bubble(digit, value), str(value))
    for question in range(QUESTIONS):
        x, y = _bubble(question, 0)
        pen.text((x - 56, y - 10), f"{question + 1:>3}", fill=60, font=_font(18))
        for choice in range(CHOICES):
            _draw_bubble(pen, _bubble(question, choice), "ABCDE"[choice])
    return form


def _draw_bubble(pen: ImageDraw.ImageDraw, centre: tuple[int, int], letter: str) -> None:
    x, y = centre
    pen.ellipse((x - _BUBBLE, y - _BUBBLE, x + _BUBBLE, y + _BUBBLE), outline=120, width=2)
    pen.text((x - 4, y - 8), letter, fill=170, font=_font(13))


def _id_bubble(digit: int, value: int) -> tuple[int, int]:
    return 400 + value * _STEP_X, 240 + digit * 32


def _bubble(question: int, choice: int) -> tuple[int, int]:
    column, row = divmod(question, QUESTIONS // COLUMNS)
    return 150 + column * 275 + choice * _STEP_X, 560 + row * _STEP_Y


@lru_cache(maxsize=1)
def _paper() -> Image.Image:
    """The grain of the paper and of the scanner's lamp."""
    noise = Image.effect_noise((WIDTH, HEIGHT), 14)
    return noise.point([min(255, 236 + (value - 128) // 3) for value in range(256)])


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
