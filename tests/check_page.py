"""Drive the page of a plan in a headless Chromium: hover, zoom, select, light and dark.

Run by ``make page``; ``--pictures DIR`` keeps what it looked like. Without a Chromium on the
machine nothing is tested, which is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDE, HIGH = 1280, 1500
_PATIENCE = 120
"""Seconds for the browser to start: CI machines are slow, and this one waits for nothing else."""


class Browser:
    """A page in the browser, spoken to by the DevTools protocol."""

    def __init__(self, connection: Any) -> None:
        self._connection, self._last = connection, 0
        self.events: list[dict[str, Any]] = []

    async def ask(self, method: str, **given: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; what happens meanwhile is kept."""
        self._last += 1
        message = json.dumps({"id": self._last, "method": method, "params": given})
        await self._connection.write_message(message)
        while True:
            text = await self._connection.read_message()
            assert text is not None, "the browser has closed the page"
            answer: dict[str, Any] = json.loads(text)
            if answer.get("id") == self._last:
                assert "error" not in answer, (method, answer)
                return dict(answer["result"])
            self.events.append(answer)

    async def value(self, expression: str) -> Any:
        """What an expression is in the page."""
        answer = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, (expression, answer)
        return answer["result"].get("value")

    async def mouse(self, kind: str, at: tuple[float, float], **more: Any) -> None:
        """One mouse event at a place of the window."""
        x, y = at
        await self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    async def click(self, at: tuple[float, float], times: int = 1) -> None:
        """Press and release, so many times."""
        for count in range(1, times + 1):
            for kind in ("mousePressed", "mouseReleased"):
                await self.mouse(kind, at, button="left", clickCount=count)

    async def place(self, selector: str, across: float, down: float) -> tuple[float, float]:
        """A place in an element, as fractions of its width and height, in the window."""
        box = await self.value(
            f"(r => [r.left, r.top, r.width, r.height])"
            f"(document.querySelector('{selector}').getBoundingClientRect())"
        )
        return box[0] + across * box[2], box[1] + down * box[3]

    async def picture(self, path: Path) -> None:
        """Write what the page looks like."""
        data = (await self.ask("Page.captureScreenshot", captureBeyondViewport=True))["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def chromium(program: str, page: Path) -> Iterator[str]:
    """A browser with the page open; the address of its page's socket."""
    with tempfile.TemporaryDirectory() as profile:
        command = [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-background-networking", "--remote-debugging-port=0",
            f"--user-data-dir={profile}", f"--window-size={WIDE},{HIGH}", page.as_uri(),
        ]  # fmt: skip
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield _socket(Path(profile) / "DevToolsActivePort")
        finally:
            running.terminate()
            running.wait(timeout=_PATIENCE)


def _socket(told: Path) -> str:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if told.exists() and (lines := told.read_text().split()):
            with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json") as answer:
                pages = [page for page in json.load(answer) if page["type"] == "page"]
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(0.2)
    raise TimeoutError("the browser has not started")


async def hover(browser: Browser) -> None:
    """The op under the mouse is named, with its module and its line of source."""
    at = await browser.place("#memory", 0.5, 0.5)
    await browser.mouse("mouseMoved", at)
    assert await browser.value("$('tip').style.display") == "block"
    told = await browser.value("$('tip').textContent")
    step = await browser.value("view.at")
    for part in ("op(view.at).word", "op(view.at).source", "gb(plan.live[view.at])"):
        assert await browser.value(part) in told, (part, told)
    assert (await browser.value("$('opTitle').textContent")).startswith(f"Op {step + 1}: ")
    assert await browser.value("$('held').rows.length") > 1
    inside = "(r => r.left >= 0 && r.right <= innerWidth)($('tip').getBoundingClientRect())"
    assert await browser.value(inside)
    await browser.mouse("mouseMoved", await browser.place("#memory", 0.99, 0.9))
    assert await browser.value(inside)
    assert await browser.value("view.at") > step


async def zoom(browser: Browser) -> None:
    """Dragging shows what was dragged over; the wheel less, a double click all."""
    steps = await browser.value("N")
    before = await browser.value("$('memory').toDataURL()")
    begin, end = [await browser.place("#memory", x, 0.5) for x in (0.4, 0.8)]
    await browser.mouse("mousePressed", begin, button="left", clickCount=1)
    await browser.mouse("mouseMoved", end, button="left", buttons=1)
    await browser.mouse("mouseReleased", end, button="left", clickCount=1)
    start, stop = await browser.value("[view.from, view.to]")
    assert 0 < stop - start < steps, (start, stop)
    assert abs((start + stop) / 2 / steps - 0.58) < 0.1, (start, stop)
    assert await browser.value("$('memory').toDataURL()") != before
    await browser.click(end, times=2)
    assert await browser.value("[view.from, view.to]") == [0, steps]
    await browser.mouse("mouseWheel", begin, deltaX=0, deltaY=-120)
    assert await browser.value("view.to - view.from") < steps
    await browser.click(end, times=2)


async def select(browser: Browser) -> None:
    """A click keeps an op, the arrow keys go on from it, a click on a value shows its life."""
    await browser.click(await browser.place("#memory", 0.5, 0.5))
    kept = await browser.value("view.at")
    await browser.mouse("mouseMoved", await browser.place("#memory", 0.8, 0.5))
    assert await browser.value("view.at") == kept
    assert "(kept)" in await browser.value("$('opTitle').textContent")
    await browser.value("$('memory').focus()")
    for kind in ("keyDown", "keyUp"):
        await browser.ask("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight")
    assert await browser.value("view.at") == kept + 1
    before = await browser.value("$('memory').toDataURL()")
    await browser.value("document.querySelector('tr.pick').scrollIntoView({block: 'center'})")
    await browser.click(await browser.place("tr.pick td", 0.5, 0.5))
    value = await browser.value("view.value")
    alive = f"plan.copies.some(c => c[0] === {value} && c[1] <= view.at && view.at <= c[2])"
    assert await browser.value(alive)
    assert await browser.value("document.querySelectorAll('tr.on').length") == 1
    assert await browser.value("$('memory').toDataURL()") != before


async def light_and_dark(browser: Browser, pictures: Path | None, name: str) -> None:
    """The page follows the system, and its button turns it round."""
    colours = []
    for theme in ("light", "dark"):
        feature = [{"name": "prefers-color-scheme", "value": theme}]
        await browser.ask("Emulation.setEmulatedMedia", features=feature)
        colours.append(await browser.value("getComputedStyle(document.body).backgroundColor"))
        if pictures is not None:
            await browser.picture(pictures / f"{name}_{theme}.png")
    assert colours[0] != colours[1]
    await browser.value("$('theme').click()")
    assert await browser.value("getComputedStyle(document.body).backgroundColor") == colours[0]


async def drive(address: str, pictures: Path | None, name: str) -> list[str]:
    """All of it; the names of what was done."""
    from tornado.websocket import websocket_connect

    browser = Browser(await websocket_connect(address, max_message_size=2**28))
    for part in ("Page", "Runtime", "Network"):
        await browser.ask(f"{part}.enable")
    await browser.ask("Page.reload")
    while not await browser.value("document.readyState === 'complete' && typeof view === 'object'"):
        await asyncio.sleep(0.1)
    for play in (hover, zoom, select):
        await play(browser)
    await light_and_dark(browser, pictures, name)
    thrown = [e for e in browser.events if e.get("method") == "Runtime.exceptionThrown"]
    assert not thrown, thrown
    asked = [
        event["params"]["request"]["url"]
        for event in browser.events
        if event.get("method") == "Network.requestWillBeSent"
    ]
    assert all(url.startswith(("file:", "data:")) for url in asked), asked
    return ["hover", "zoom", "select", "light and dark"]


def main() -> int:
    """Make a plan's page and drive it, or say that there is no browser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", nargs="?", type=Path, help="a page that is there already")
    parser.add_argument("--pictures", type=Path, help="folder for screenshots")
    args = parser.parse_args()
    if args.pictures is not None:
        args.pictures.mkdir(parents=True, exist_ok=True)
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        sys.stdout.write("page: not driven, there is no Chromium on this machine\n")
        return 0
    with tempfile.TemporaryDirectory() as work:
        page = args.page
        if page is None:
            from tests.plan.planned import tower_plan

            page = Path(work) / "plan.html"
            tower_plan().to_html(page)
        with chromium(program, page.resolve()) as address:
            done = asyncio.run(drive(address, args.pictures, page.stem))
    sys.stdout.write(f"page: {', '.join(done)} work in {Path(program).name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
