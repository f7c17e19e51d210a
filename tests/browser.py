"""A real browser without a window, driven by Debian's chromium-driver (the WebDriver protocol)."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from typing import Any, Self

from eksml.testing.ports import free_ports

_START_S = 30.0
_PATIENCE_S = 20.0
_KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "Tab": "\ue004"}


def installed() -> bool:
    """Whether this machine has Chromium and its driver."""
    return shutil.which("chromedriver") is not None and shutil.which("chromium") is not None


class Browser:
    """One page while a ``with`` lasts."""

    def __enter__(self) -> Self:
        [port] = free_ports(1)
        self._base = f"http://127.0.0.1:{port}"
        self._driver = subprocess.Popen(
            ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            self._wait_for_driver()
            options = {"args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage"]}
            wanted = {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL"},
            }
            made = self._post("/session", {"capabilities": {"alwaysMatch": wanted}})
            self._session = f"/session/{made['sessionId']}"
        except BaseException:
            self._driver.kill()
            self._driver.wait()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        request = urllib.request.Request(self._base + self._session, method="DELETE")
        with urllib.request.urlopen(request):
            pass
        self._driver.terminate()
        self._driver.wait()

    def open(self, url: str) -> None:
        """Go to a page."""
        self._post(f"{self._session}/url", {"url": url})

    def run(self, script: str) -> Any:
        """The value that a function body of JavaScript returns in the page."""
        return self._post(f"{self._session}/execute/sync", {"script": script, "args": []})

    def wait(self, expression: str) -> Any:
        """The expression's value, once it is true."""
        until = time.monotonic() + _PATIENCE_S
        while not (value := self.run(f"return {expression}")):
            assert time.monotonic() < until, f"never became true: {expression}"
            time.sleep(0.05)
        return value

    def type(self, *keys: str) -> None:
        """Press keys, as a person does: texts, and the names of :data:`_KEYS`, into what has the
        focus."""
        actions = [
            {"type": kind, "value": char}
            for key in keys
            for char in _KEYS.get(key, key)
            for kind in ("keyDown", "keyUp")
        ]
        keyboard = {"type": "key", "id": "keyboard", "actions": actions}
        self._post(f"{self._session}/actions", {"actions": [keyboard]})

    def prefer(self, scheme: str) -> None:
        """Say which colours the person likes: ``light`` or ``dark``."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._post(
            f"{self._session}/goog/cdp/execute",
            {"cmd": "Emulation.setEmulatedMedia", "params": {"features": [feature]}},
        )

    def complaints(self) -> list[str]:
        """What stands in the page's console as an error, what its policy forbade included."""
        lines = self._post(f"{self._session}/se/log", {"type": "browser"})
        return [line["message"] for line in lines if line["level"] == "SEVERE"]

    def _wait_for_driver(self) -> None:
        until = time.monotonic() + _START_S
        while True:
            try:
                with urllib.request.urlopen(self._base + "/status"):
                    return
            except OSError:
                assert time.monotonic() < until, "chromedriver does not start"
                time.sleep(0.05)

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self._base + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from error
