"""The page says what the bank says, whoever wrote the bank, and shows a place's own PSF when that place is clicked."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from browser import CHROMIUM, Browser

from calib.plots.bank import Measured
from calib.report import report_html
from calib.report.explorer import explorer_data
from calib.report.html import MOST_CHARACTERS, embedded, nested_table, number, table, text
from calib.report.verdict import verdict_of
from calib.report.words import ABSENT
from calib.summary import calibration_summary
from psfbank.bank import PsfBank
from psfbank.field import resample_kernel
from psfbank.flags import Flag
from psfbank.metrics import field_mtf, rms_wfe_nm
from psfbank.model import Calibration, Camera, PsfGrid, Setting

HEADINGS = [
    "PSFs",
    "MTF",
    "Distortion",
    "Lateral colour",
    "Wavefront",
    "Noise and shading",
    "Validation",
    "Settings and provenance",
]


class Page(HTMLParser):
    """Elements of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(bank: PsfBank) -> str:
    return report_html(bank, bank.at())[0]


@pytest.fixture(scope="module")
def page(rendered_bank: PsfBank) -> str:
    return page_of(rendered_bank)


@pytest.fixture(scope="module")
def page_file(page: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page, "utf-8")
    return path


def test_sections_come_in_their_order_after_the_verdict(page: str) -> None:
    assert re.findall("<h2>(.*?)</h2>", page) == HEADINGS
    assert page.index('id="verdict"') < page.index("<h2>")
    anchors = re.findall('<a href="#([a-z]+)"', page)
    assert anchors == re.findall('<section id="([a-z]+)"', page)
    assert "Left out" not in page


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    places = [
        value or ""
        for _, attributes in Page(page).elements
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset")
    ]
    assert places
    assert [place[:40] for place in places if not place.startswith(("#", "data:image/png;base64,"))] == []
    assert re.findall(r"url\((?!#)", page) == []
    assert "@import" not in page


@pytest.mark.parametrize(
    ("part", "there"),
    [
        ("psf_grid", {"psf", "mtf"}),
        ("wavefront", {"wavefront"}),
        ("distortion", {"distortion", "lateral"}),
        ("illumination", {"sensor"}),
        ("noise", {"sensor"}),
        ("evidence", {"validation"}),
        ("edges", set()),  # there are no PSFs to compare them with
    ],
)
def test_what_is_not_there_is_left_out_and_said_to_be(small_bank: PsfBank, part: str, there: set[str]) -> None:
    html = page_of(PsfBank(small_bank.camera, (Calibration(**{part: getattr(small_bank.at(), part)}),)))

    assert re.findall("<h2>(.*?)</h2>", html) == HEADINGS
    assert {section for section, words in ABSENT.items() if words not in html} == there


def test_a_bank_of_nothing_is_a_page_without_figures(small_bank: PsfBank) -> None:
    html, verdict = report_html(small_bank, Calibration())

    assert all(words in html for words in ABSENT.values())
    assert Page(html).of("figure") == []
    assert Page(html).of("script") == []
    assert verdict.worst is None
    assert np.isnan(verdict.coverage)
    assert "no warnings" in verdict.line()


def test_all_settings_are_listed_and_the_reports_own_is_marked(small_bank: PsfBank) -> None:
    near, far = (Calibration(Setting(focus_m=focus_m), noise=small_bank.at().noise) for focus_m in (0.5, 4.0))
    bank = PsfBank(small_bank.camera, (near, far))
    html = report_html(bank, far)[0]

    assert "1</th><td>focus_m 0.5</td><td>noise</td>" in html
    assert "2 (this report)</th><td>focus_m 4</td><td>noise</td>" in html
    assert "between those that were calibrated" in report_html(bank, replace(near))[0]


def test_a_monochrome_camera_has_no_lateral_colour(small_bank: PsfBank) -> None:
    grid, camera = small_bank.at().psf_grid, small_bank.camera
    assert grid is not None
    mono = PsfGrid(grid.x_px, grid.y_px, grid.kernels[1:2], grid.oversample, channels=("Y",))
    html = page_of(PsfBank(Camera("A", "B", camera.size_px, cfa="mono"), (Calibration(psf_grid=mono),)))

    assert ABSENT["lateral"] in html
    assert 'id="linear-Y"' in html


HOSTILE = [
    "<script>window.hacked = 1</script>",
    '"><img src=x onerror="window.hacked = 1">',
    "</script><script>window.hacked = 1</script>",
    "'-window.hacked=1-'",
    "javascript:window.hacked=1",
    "a\x00b\x07c\x1b[31m\u202egnp.exe\u2066\x85",
    "x" * 20_000,
    "&lt;b&gt; &amp; $\\frac{1$ {} %s {0}",
]


@pytest.fixture(scope="module")
def hostile_page(small_bank: PsfBank) -> str:
    provenance = {
        "inputs": [{"name": words, words: 1} for words in HOSTILE],
        "plan": {words: {words: [words, {words: words}]} for words in HOSTILE},
        "summary": {"distortion": HOSTILE[0], "psf": HOSTILE},
        "missing": dict.fromkeys(HOSTILE, HOSTILE[1]),
        "flagged": HOSTILE,
        "versions": HOSTILE[2],
        HOSTILE[1]: HOSTILE[0],
    }
    camera = Camera(HOSTILE[0], HOSTILE[1], small_bank.camera.size_px, serial=HOSTILE[5], lens=HOSTILE[6])
    whole = small_bank.at()
    cal = Calibration(psf_grid=whole.psf_grid, wavefront=whole.wavefront, provenance=provenance)
    return report_html(PsfBank(camera, (cal,)), cal, {"bank": HOSTILE[2]})[0]


def test_hostile_strings_are_text_and_nothing_else(hostile_page: str, page: str) -> None:
    parsed, kinds = Page(hostile_page), {tag for tag, _ in Page(page).elements}

    assert {tag for tag, _ in parsed.elements} <= kinds | {"ul", "li"}
    assert len(parsed.of("script")) == 2
    assert parsed.of("img") == []
    assert [name for _, attributes in parsed.elements for name in attributes if name.startswith("on")] == []
    assert re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", hostile_page) == []
    assert HOSTILE[0] in parsed.words
    assert "x" * 300 not in hostile_page
    assert "(20000 characters)" in hostile_page
    assert len(hostile_page.encode()) < 3e6


def test_a_page_stays_small_whatever_the_provenance(small_bank: PsfBank) -> None:
    endless = {
        "inputs": [{"name": "<" * 1000, "sha256": "0" * 64}] * 5000,
        "missing": dict.fromkeys(map(str, range(5000)), "x"),
    }
    nested: dict[str, Any] = {}
    for _ in range(400):
        nested = {"a": nested}
    html = page_of(PsfBank(small_bank.camera, (Calibration(provenance={**endless, "plan": nested}),)))

    assert len(html.encode()) < 2.5 * MOST_CHARACTERS
    assert "more than a page should hold" in html
    assert "and 4980 more" in html


def test_many_tiles_make_no_larger_page(small_bank: PsfBank) -> None:
    grid = small_bank.at().psf_grid
    assert grid is not None
    x_px, y_px = np.linspace(0, 127, 26), np.linspace(0, 95, 31)
    kernels = np.array([[[grid.at(x, y, channel, 3) for x in x_px] for y in y_px] for channel in "RGB"])
    many = PsfGrid(x_px, y_px, kernels, oversample=3, sigma=np.full((3, 31, 26), 0.02))

    html = page_of(PsfBank(small_bank.camera, (Calibration(psf_grid=many),)))

    assert len(html.encode()) < 3e6
    assert html.count("<rect data-tile=") == 13 * 11


def test_the_verdict_names_the_worst_tile(small_bank: PsfBank) -> None:
    grid = small_bank.at().psf_grid
    assert grid is not None
    kernels = grid.kernels.copy()
    across = np.zeros((15, 15))
    across[7] = 1 / 15  # five pixels wide, along x: at the picture's left, along the radius
    kernels[2, 1, 0] = across
    flags = np.zeros((3, 4, 5), dtype=int)
    flags[0, :, :2] = 128
    flags[1, 0, 0] = 64
    cal = replace(small_bank.at(), psf_grid=replace(grid, kernels=kernels, flags=flags))
    measured = Measured(cal, small_bank.camera.size_px)
    verdict = verdict_of(measured, calibration_summary(cal, small_bank.camera))

    assert verdict.worst is not None
    assert (verdict.worst.channel, verdict.worst.direction) == ("B", "tangential")
    assert (verdict.worst.x_px, verdict.worst.y_px) == (grid.x_px[0], grid.y_px[1])
    assert verdict.worst.mtf50_cpp == pytest.approx(np.nanmin(measured.mtf.mtf50_cpp))
    assert verdict.coverage == pytest.approx(0.6)
    assert f"worst {verdict.worst.mtf50_cpp:.3f}" in verdict.line()
    assert verdict.warnings[0].startswith("Only 60 % of the tiles")
    assert "1 of 60 tiles are flagged not converged." in verdict.warnings


def test_what_stands_against_a_calibration_is_warned_of(small_bank: PsfBank) -> None:
    cal, camera = small_bank.at(), small_bank.camera
    assert cal.evidence is not None
    assert cal.distortion is not None
    assert cal.distortion.uncertainty is not None
    assert cal.axis is not None
    half = [(0, 0), (63, 0), (63, 95), (0, 95)]
    unsure = replace(cal.distortion.uncertainty, heldout_rms_px=0.5)
    bad = replace(
        cal,
        evidence=replace(cal.evidence, chi2_reserved=cal.evidence.chi2_reserved + 1),
        distortion=replace(cal.distortion, valid_region=half, uncertainty=unsure),
        axis=replace(cal.axis, left_out_px=[1.0, 0.03]),
        provenance={"missing": {"noise": "no darks"}, "flagged": ["a.png"]},
    )
    warnings = " ".join(verdict_of(Measured(bad, camera.size_px), calibration_summary(bad, camera)).warnings)

    for words in (
        "chi2 per sample is 2.",
        "fitted on 50 % of the picture",
        "left out of its fit by 0.5 px",
        "predict this setting's map to 1 px only",
        "Not calibrated: noise: no darks.",
        "1 captures or parts of them were set aside",
    ):
        assert words in warnings


def test_the_numbers_beside_the_figures_are_the_banks(rendered_bank: PsfBank, page: str) -> None:
    cal = rendered_bank.at()
    assert cal.psf_grid is not None
    mtf50 = field_mtf(cal.psf_grid, rendered_bank.camera.size_px).mtf50_cpp
    lowest = "".join(f"<td>{number(float(v))}</td>" for v in mtf50[..., 1].min(axis=(1, 2)))

    assert f"MTF50 tangential, lowest [cycles/px]</th>{lowest}" in page
    assert "<th scope=row>read noise [e-]</th><td>2.1</td><td>2</td><td>2.2</td>" in page
    assert "residual RMS of views left out of the fit [px]</th><td>0.06</td>" in page
    assert "gain [DN/e-] at ISO 1600" in page


def test_the_explorer_holds_each_tiles_own_psf(rendered_bank: PsfBank) -> None:
    cal = rendered_bank.at()
    grid = cal.psf_grid
    assert grid is not None
    data = explorer_data(Measured(cal, rendered_bank.camera.size_px))
    sheet = cv2.imdecode(np.frombuffer(base64.b64decode(data["sheet"]), np.uint8), cv2.IMREAD_UNCHANGED)
    size, per_px = data["size"], data["perPx"]
    c, j, i = 2, 3, 1
    light = data["peak"] * (sheet[(c * 4 + j) * size :, i * size :][:size, :size] / 255.0) ** 2
    kernel = resample_kernel(grid.kernels[c, j, i], grid.oversample, per_px) * per_px**2
    centre = kernel.shape[0] // 2

    np.testing.assert_allclose(
        light, kernel[centre - size // 2 :, centre - size // 2 :][:size, :size], atol=0.005 * data["peak"]
    )
    assert light.sum() / per_px**2 > 0.9
    assert np.abs(light - light[::-1]).max() > 0.05 * data["peak"]  # a mirrored one would be seen


def test_cells_are_escaped_and_numbers_short() -> None:
    assert text('<a href="x">&\x00') == "&lt;a href=&quot;x&quot;&gt;&amp;\N{REPLACEMENT CHARACTER}"
    assert [number(v) for v in (None, np.nan, 1 / 3, np.float32(2), 7, "<")] == ["", "", "0.3333", "2", "7", "&lt;"]
    assert table(["a"], []) == ""
    assert "<" not in embedded({"a": "</script><!--"})
    assert json.loads(embedded({"a": "</script><!--"})) == {"a": "</script><!--"}
    nested = nested_table({"a": {"b": [1, 2.5, None], "c": [{"d": True}, {}]}, "e": {}})
    assert re.findall("<th scope=row>(.*?)</th><td>(.*?)</td>", nested) == [
        ("a.b", "1, 2.5, none"),
        ("a.c.0.d", "True"),
        ("a.c.1", "none"),
        ("e", "none"),
    ]
    alike = nested_table([{"name": "a<", "size": 1}, {"name": "b", "size": 2.5}])
    assert re.findall("<th scope[^>]*>(.*?)</th>", alike) == ["name", "size", "a&lt;", "b"]
    assert re.findall("<td>(.*?)</td>", alike) == ["1", "2.5"]


needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser(page_file: Path) -> Iterator[Browser]:
    with Browser(page_file.as_uri(), prefers_color_scheme="light") as browser:
        yield browser


def shown(browser: Browser) -> dict[str, list[str]]:
    """Rows of the table of the picked place."""
    cells = browser.js(
        "[...document.querySelectorAll('#figures tbody tr')].map(r => [...r.children].map(c => c.textContent))"
    )
    return {name: values for name, *values in cells}


def canvas(browser: Browser, name: str) -> np.ndarray:
    """RGB of a PSF as it is shown."""
    script = f"""(async () => {{
        const c = document.getElementById("{name}");
        while (c.width !== c.height) await new Promise((done) => setTimeout(done, 20));
        return [c.width, ...c.getContext("2d").getImageData(0, 0, c.width, c.width).data];
    }})()"""
    size, *samples = browser.js(script)
    return np.array(samples).reshape(size, size, 4)[..., :3]


@needs_browser
def test_a_click_on_a_tile_shows_what_is_there(browser: Browser, rendered_bank: PsfBank) -> None:
    cal = rendered_bank.at()
    assert cal.psf_grid is not None
    assert cal.wavefront is not None
    field = field_mtf(cal.psf_grid, rendered_bank.camera.size_px)
    before = browser.js("document.getElementById('curves').innerHTML")
    browser.point_at('[data-tile="4,0"]', click=True)

    assert browser.text("#place") == "tile at x 119, y 8 px, picked"
    rows = shown(browser)
    for k, name in enumerate(("sagittal", "tangential")):
        values = zip(field.mtf50_cpp[:, 0, 4, k], field.mtf50_std_cpp[:, 0, 4, k], strict=True)
        told = [[float(word) for word in cell.split(" ± ")] for cell in rows[f"MTF50 {name} [cycles/px]"]]
        np.testing.assert_allclose(told, list(values), atol=6e-4)
    rms = rms_wfe_nm(cal.wavefront.coefficients_nm[:, 0, 4], cal.wavefront.nm)
    assert [float(v) for v in rows["RMS wavefront error [nm]"]] == pytest.approx(rms, abs=0.06)
    assert rows["observations"] == [str(n) for n in np.asarray(cal.psf_grid.n_obs)[:, 0, 4]]
    assert rows["flags"] == [Flag(int(flag)).words() for flag in np.asarray(cal.psf_grid.flags)[:, 0, 4]]
    assert browser.js("document.getElementById('curves').innerHTML") != before
    assert browser.js("document.querySelectorAll('#bars rect').length") == 3 * len(cal.wavefront.nm)


@needs_browser
def test_a_psf_is_drawn_the_way_up_that_it_has(browser: Browser, rendered_bank: PsfBank) -> None:
    browser.point_at('[data-tile="4,0"]', click=True)
    picture = canvas(browser, "linear-G").astype(float)
    grid = rendered_bank.at().psf_grid
    assert grid is not None
    kernel = grid.kernels[1, 0, 4]
    centre, half = kernel.shape[0] // 2, picture.shape[0] // 2
    around = kernel[centre - half : centre + half + 1, centre - half : centre + half + 1]
    brightness = picture.sum(axis=-1)  # of viridis, which rises with the light

    def agreement(image: np.ndarray) -> float:
        return float(np.corrcoef(np.sqrt(around).ravel(), image.ravel())[0, 1])

    assert picture.shape[0] == 2 * half + 1
    upright = agreement(brightness)
    assert upright > 0.9
    assert upright > max(agreement(brightness[::-1]), agreement(brightness[:, ::-1]), agreement(brightness.T[::-1]))
    assert canvas(browser, "logarithmic-G").sum() > picture.sum()  # its wings show


@needs_browser
def test_pointing_looks_and_leaving_returns(browser: Browser) -> None:
    browser.point_at('[data-tile="1,2"]', click=True)
    browser.point_at('[data-tile="3,1"]')
    assert browser.text("#place").startswith("tile at x 91, y 34")
    browser.point_at("#verdict")
    assert browser.text("#place") == "tile at x 36, y 61 px, picked"


@needs_browser
def test_arrow_keys_move_from_tile_to_tile(browser: Browser) -> None:
    browser.point_at('[data-tile="1,2"]', click=True)
    for key in ("ArrowLeft", "ArrowLeft", "ArrowDown"):
        browser.ask("Input.dispatchKeyEvent", type="keyDown", key=key, code=key)
    assert browser.text("#place") == "tile at x 8, y 87 px, picked"


@needs_browser
def test_the_browser_has_nothing_to_complain_of_and_nothing_to_fetch(browser: Browser, page_file: Path) -> None:
    assert browser.complaints() == []
    assert {address[:5] for address in browser.requests() if address != page_file.as_uri()} == {"data:"}


@needs_browser
def test_light_dark_and_paper_have_their_colours(browser: Browser) -> None:
    def colours() -> list[str]:
        return [
            str(browser.js(f"getComputedStyle(document.querySelector('{of}')).{what}"))
            for of, what in (("html", "colorScheme"), ("body", "backgroundColor"), ("figure text", "fill"))
        ]

    def scheme(value: str, media: str = "") -> None:
        features = [{"name": "prefers-color-scheme", "value": value}]
        browser.ask("Emulation.setEmulatedMedia", media=media, features=features)

    light = colours()
    scheme("dark")
    dark = colours()
    scheme("dark", "print")
    paper = colours()
    scheme("light")

    assert light[1:] == ["rgb(255, 255, 255)", "rgb(29, 33, 38)"]
    assert dark[1:] == ["rgb(20, 23, 27)", "rgb(227, 230, 234)"]
    assert paper == light


@needs_browser
def test_nothing_is_cut_off_or_wider_than_the_page(browser: Browser) -> None:
    for width in (1200, 420):
        browser.ask("Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False)
        assert browser.js("document.documentElement.scrollWidth") <= width
    browser.ask("Emulation.setDeviceMetricsOverride", width=1200, height=1000, deviceScaleFactor=1, mobile=False)


@needs_browser
def test_hostile_strings_run_nothing(hostile_page: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(hostile_page, "utf-8")
    with Browser(path.as_uri()) as browser:
        browser.point_at('[data-tile="0,0"]', click=True)

        assert browser.text("#place").endswith("picked")
        assert browser.js("window.hacked") is None
        assert browser.complaints() == []
        assert browser.js("document.title.length") < 1200
