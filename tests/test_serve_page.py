"""The page of the server in a real browser: what is heard is what `synthesize` says, and errors are words.

Skipped where there is no Chromium with its driver (Debian: chromium, chromium-driver) or no selenium (extra `test`).
"""

from __future__ import annotations

import base64
import io
import shutil
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import on_kernels
from serving import TEXT, Live, pcm, serving

selenium = pytest.importorskip("selenium.webdriver", reason="selenium is in the extra `test`")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    on_kernels,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="no chromium with its driver"),
    pytest.mark.filterwarnings("ignore::sopro_np.errors.SoproWarning"),
]
LONG = "This is a sentence of a long text. " * 60
KEY = "a key of the server".replace(" ", "-")
SWITCHES = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=390,844",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",  # the microphone beeps once a second
)  # fmt: skip
SAID = """
const done = arguments[arguments.length - 1], reader = new FileReader();
reader.onload = () => done(reader.result.split(",")[1]);
reader.readAsDataURL(said);
"""


class Page:
    """The page as a person sees and uses it."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    def open(self, live: Live) -> None:
        self.browser.get(f"{live.url}/")
        self.until(lambda: self.at("voice").text)

    def at(self, name: str) -> Any:
        return self.browser.find_element("id", name)

    def type(self, name: str, words: str) -> None:
        self.at(name).clear()
        self.at(name).send_keys(words)

    @property
    def message(self) -> str:
        return self.at("message").text

    def until(self, holds: Callable[[], Any], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, (self.message, self.browser.get_log("browser"))
            time.sleep(0.05)

    def downloaded(self) -> wave.Wave_read:
        return wave.open(io.BytesIO(base64.b64decode(self.browser.execute_async_script(SAID))))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = selenium.ChromeOptions()
    options.binary_location = BROWSER
    for switch in SWITCHES:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def page(browser: Any) -> Iterator[Page]:
    page = Page(browser)
    browser.get_log("browser")
    yield page
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [entry for entry in severe if "Failed to load resource" not in entry["message"]], severe


def test_what_is_played_is_what_synthesize_says(page: Page, tmp_path: Path) -> None:
    with serving(tmp_path / "voices") as live:
        page.open(live)
        for seed in (1, 2):
            page.type("text", TEXT)
            page.type("seed", str(seed))
            page.at("speak").click()
            page.until(lambda: page.message.startswith("Done: voice "))
            heard = page.downloaded()
            assert heard.getframerate() == 24000 and heard.getnchannels() == 1
            assert heard.readframes(1 << 24) == pcm(live.wav(seed=seed))
        assert page.at("download").get_attribute("download") == "sopro-2.wav"
        assert page.at("first").text.endswith(" s") and float(page.at("rtf").text) > 0
        page.until(lambda: page.at("queue").text == "0, 0")


def test_it_is_heard_while_it_is_made_and_stops_when_told(page: Page, tmp_path: Path) -> None:
    with serving(tmp_path / "voices") as live:
        page.open(live)
        page.type("text", LONG)
        page.at("speak").click()
        page.until(lambda: page.at("length").text.endswith(" s"))
        assert not page.at("download").is_displayed() and not live.idle(), "it is not finished yet"
        page.at("stop").click()
        assert page.message == "Stopped." and not page.at("stop").is_enabled()
        live.wait_idle()
        assert live.service.scheduler.stats()["cancelled"] == 1
        page.at("speak").send_keys("")
        page.at("text").send_keys(selenium.Keys.CONTROL, selenium.Keys.ENTER)
        page.until(lambda: page.message.startswith("Speaking in the voice"))
        page.at("text").send_keys(selenium.Keys.ESCAPE)
        assert page.message == "Stopped."
        live.wait_idle()


def test_a_recording_becomes_a_voice(page: Page, tmp_path: Path) -> None:
    with serving(tmp_path / "voices") as live:
        page.open(live)
        page.at("new").find_element("tag name", "summary").click()
        page.at("keep").click()
        page.until(lambda: page.message.startswith("Record something"))
        page.at("record").click()
        page.until(lambda: page.at("recorded").text in ("4 s", "5 s"))
        page.at("record").click()
        page.until(lambda: page.at("recorded").text.endswith("recorded"))
        page.type("name", "beep")
        page.at("keep").click()
        page.until(lambda: "agreed" in page.message)
        page.at("consent").click()
        page.at("keep").click()
        page.until(lambda: page.message.startswith("The voice beep is there."))
        assert "beep" in live.service.shelf.names()
        assert page.at("voice").get_attribute("value") == "beep"
        no_sound = tmp_path / "no_sound.wav"  # a file, then a recording: the recording is what is kept
        no_sound.write_text("none")
        page.at("file").send_keys(str(no_sound))
        page.at("record").click()
        page.until(lambda: page.at("recorded").text in ("4 s", "5 s"))
        page.at("record").click()
        page.type("name", "beep2")
        page.at("keep").click()
        page.until(lambda: page.message.startswith("The voice beep2 is there."))
        page.type("name", "none")
        page.at("file").send_keys(str(no_sound))  # and the other way round
        page.at("keep").click()
        page.until(lambda: "is not WAV" in page.message)
        page.browser.find_element("css selector", "#voice option[value=beep]").click()
        page.type("text", TEXT)
        page.type("seed", "1")
        page.at("speak").click()
        page.until(lambda: page.message.startswith("Done: voice "))
        assert page.downloaded().readframes(1 << 24) == pcm(live.wav(voice="beep"))


def test_errors_are_words(page: Page, tmp_path: Path) -> None:
    with serving(tmp_path / "voices", keys=(KEY,)) as live:
        page.open(live)
        assert not page.at("locked").is_displayed()
        page.type("text", "日本")
        page.at("speak").click()
        page.until(lambda: page.at("locked").is_displayed())
        assert "asks for a key" in page.message and "error" in page.at("message").get_attribute("class")
        assert page.browser.switch_to.active_element.get_attribute("id") == "key"
        page.type("key", "not-the-key")
        page.at("key").send_keys(selenium.Keys.ENTER)
        page.until(lambda: "not a key" in page.message)
        page.type("key", KEY)
        page.at("key").send_keys(selenium.Keys.ENTER)
        page.until(lambda: page.message == "The key is right." and not page.at("locked").is_displayed())
        page.at("speak").click()
        page.until(lambda: "cannot be said" in page.message)
        assert "日" in page.message and page.at("stop").is_enabled() is False
        page.type("text", TEXT)
        page.at("speak").click()
        page.until(lambda: page.message.startswith("Done: voice "))
    page.at("speak").click()
    page.until(lambda: "does not answer" in page.message)


def test_keyboards_screen_readers_and_telephones(page: Page, tmp_path: Path) -> None:
    """Everything that is used has a name and a place in the order of Tab; nothing is wider than a telephone."""
    with serving(tmp_path / "voices") as live:
        page.open(live)
        for summary in page.browser.find_elements("tag name", "summary"):
            summary.click()
        used = page.browser.find_elements("css selector", "button, input, select, textarea, a[href]")
        assert len(used) >= 10
        for element in used:
            if element.is_displayed():
                assert element.accessible_name, element.get_attribute("outerHTML")
        assert page.at("message").get_attribute("role") == "status"
        width = page.browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
        assert width[0] <= width[1] <= 500
        page.at("text").click()
        order = []
        for _ in range(9):
            selenium.ActionChains(page.browser).send_keys(selenium.Keys.TAB).perform()
            order.append(page.browser.switch_to.active_element.get_attribute("id"))
        assert order == ["voice", "seed", "speak", "", "record", "file", "name", "consent", "keep"]  # "": the summary


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = (Path(__file__).resolve().parent.parent / "sopro_np/serve/static/index.html").read_text("utf-8")
    assert "http://" not in text and "https://" not in text and "src=" not in text and "@import" not in text


JOINED = """
const [texts, done] = [arguments[0], arguments[arguments.length - 1]];
(async () => {
  const parts = [];
  for (const input of texts) {
    const body = JSON.stringify({input, seed: 1, model: "tts-1", voice: "nova"});
    parts.push(await (await fetch("v1/audio/speech", {method: "POST", body})).arrayBuffer());
  }
  const file = new Blob(parts, {type: "audio/mpeg"});
  const decoded = await new AudioContext().decodeAudioData(await file.arrayBuffer());
  const player = new Audio(URL.createObjectURL(file));
  player.playbackRate = 4;
  player.onended = () => done([decoded.duration, player.currentTime]);
  player.onerror = () => done([0, 0]);
  await player.play();
})();
"""


def test_answers_that_librechat_joins_are_played_to_their_end(page: Page, tmp_path: Path) -> None:
    """It sends a long text in pieces, and hands their MP3s, one behind the other, to the browser as one file."""
    texts = [TEXT, "And a second piece.", "The end."]
    with serving(tmp_path / "voices") as live:
        page.open(live)
        page.browser.set_script_timeout(60)
        decoded, played = page.browser.execute_async_script(JOINED, texts)
        expected = sum(len(live.wav(text)) for text in texts) / 24000
    assert expected > 1.5 * len(live.wav(TEXT)) / 24000
    for seconds in (decoded, played):
        assert abs(seconds - expected) < 0.1 * len(texts), (decoded, played, expected)
